import types

from instruct_lab.api import *  # noqa: F403

__version__: str

class CallablePackage(types.ModuleType): ...

"""A configuration-driven experiment framework for instruction-tuning language models.

`import instruct_lab as il` gives the Python interface, which is documented in `instruct_lab.api`; `__init__.pyi`
gives its types.
"""

import importlib
import os
import sys
import types
from typing import Any

__version__ = "0.1.0"

__all__ = [
    "CheckResult",
    "ComparedRuns",
    "Config",
    "ConfigError",
    "InstructLabError",
    "Problem",
    "Run",
    "Sweep",
    "TunedModel",
    "check",
    "compose",
    "find_runs",
    "load_run",
    "load_sweep",
    "sweep",
    "train",
]

if sys.argv[:1] == ["-m"] and sys.path[:1] == [os.getcwd()] and not sys.flags.safe_path:
    # `python -m instruct_lab` puts the working directory first, so any file in it would hide a library of its name.
    sys.path.pop(0)
    sys.path.extend([] if os.path.dirname(__path__[0]) != os.getcwd() else [os.getcwd()])  # a checkout
if "INSTRUCT_LAB_MODULES" in os.environ:  # a process that was started by one that uses a lab's modules
    importlib.import_module("instruct_lab.config.lab_code").restore()


def __getattr__(name: str) -> Any:
    """Import a name of the Python interface only when it is first used, so that the command line starts quickly."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "sweep":
        return importlib.import_module("instruct_lab.sweep")
    return getattr(importlib.import_module("instruct_lab.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class CallablePackage(types.ModuleType):
    """The type of a package that can be called: `instruct_lab.sweep(...)` calls `instruct_lab.api.sweep(...)`."""

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        """Call the function of `instruct_lab.api` that has the package's name, and return its result."""
        function = getattr(importlib.import_module("instruct_lab.api"), self.__name__.rpartition(".")[2])
        return function(*arguments, **settings)

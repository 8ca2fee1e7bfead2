"""Load the library PEFT without bitsandbytes, which it imports whether or not a model is quantised.

The import of bitsandbytes takes as long as half of PEFT's. A model has quantised layers only if bitsandbytes was
imported before, when the model was loaded.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

QUANTIZER = "bitsandbytes"


class _LateModule(types.ModuleType):
    """A module that is imported when one of its names is first used.

    Args:
        spec: the specification with which Python would import the module.
    """

    def __init__(self, spec: importlib.machinery.ModuleSpec) -> None:
        super().__init__(spec.name)
        self.__spec__ = spec
        self.__file__ = spec.origin

    def __getattr__(self, name: str) -> Any:
        """Import the module and return one of its names; `inspect` asks every module for some that need no import."""
        if name.startswith("__") and name not in ("__path__", "__version__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def load_peft() -> Any:
    """Import PEFT; bitsandbytes is imported when PEFT first uses one of its names."""
    if "peft" in sys.modules or QUANTIZER in sys.modules or (spec := importlib.util.find_spec(QUANTIZER)) is None:
        return importlib.import_module("peft")
    late = sys.modules[QUANTIZER] = _LateModule(spec)
    try:
        return importlib.import_module("peft")
    finally:
        if sys.modules.get(QUANTIZER) is late:
            del sys.modules[QUANTIZER]


@contextlib.contextmanager
def without_quantizer(config: Any) -> Iterator[None]:
    """While adapters are added, let PEFT skip its search for layers of bitsandbytes if there can be none.

    There can be none if bitsandbytes has not been imported.

    Args:
        config: PEFT's configuration; LoftQ quantises the weights itself.
    """
    from peft import import_utils

    if QUANTIZER in sys.modules or getattr(config, "init_lora_weights", None) == "loftq":
        yield
        return
    answers = (import_utils.is_bnb_available, import_utils.is_bnb_4bit_available)  # both keep their first answer
    _forget(answers)
    sys.modules[QUANTIZER] = None  # type: ignore[assignment]  # Python's mark of a module that cannot be imported
    try:
        for is_available in answers:
            is_available()
    finally:
        del sys.modules[QUANTIZER]
    try:
        yield
    finally:
        _forget(answers)


def _forget(answers: tuple[Any, ...]) -> None:
    for is_available in answers:
        is_available.cache_clear()

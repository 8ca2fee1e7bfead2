"""Delay the import of modules that a library imports, but that a run may not need, until one of their names is used."""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any


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
        """Import the module and return one of its names; most special names, which `inspect` reads, need no import."""
        if name.startswith("__") and name not in ("__path__", "__version__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def import_late(name: str, **known: Any) -> Iterator[None]:
    """While the block imports a library that imports a module, give it a module that is imported when it is used.

    A module that has been imported already, or is not installed, is left alone.

    Args:
        name: the dotted name of the module.
        known: names of the module that need no import, with the values that the library finds.
    """
    spec = None if name in sys.modules else _find_spec(name)
    if spec is None:
        yield
        return
    late = sys.modules[name] = _LateModule(spec)
    vars(late).update(known)
    try:
        yield
    finally:
        if sys.modules.get(name) is late:
            del sys.modules[name]


def _find_spec(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError:  # its parent package is not installed
        return None

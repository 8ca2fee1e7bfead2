"""Delay the import of modules that a run or command may not need: each is imported when one of its names is used."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
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
        """Import the module and return the value of one of its names.

        Names such as `__wrapped__`, which tools look up in every module, raise an `AttributeError` without an import.
        """
        if name.startswith("__") and name not in ("__path__", "__version__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


class _LatePackage(types.ModuleType):
    """A package whose `__init__` runs only when a name outside of `members` is used.

    Its submodules can be imported before `__init__` runs.

    Args:
        spec: the specification with which Python would import the package.
        members: names of the package that do not need `__init__`, each with the submodule that defines it.
    """

    def __init__(self, spec: importlib.machinery.ModuleSpec, members: Mapping[str, str]) -> None:
        super().__init__(spec.name)
        self.__spec__ = spec
        self.__file__ = spec.origin
        self.__path__ = list(spec.submodule_search_locations or ())
        self._members = members

    def __getattr__(self, name: str) -> Any:
        """Return the value of a name: from its submodule if it is in `members`, otherwise after running `__init__`."""
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self._members:
            value = getattr(importlib.import_module(f"{self.__name__}.{self._members[name]}"), name)
            setattr(self, name, value)
            return value
        loader = None if self.__spec__ is None else self.__spec__.loader
        assert loader is not None
        self.__class__ = types.ModuleType  # type: ignore[assignment]  # from now on an ordinary package
        loader.exec_module(self)
        initialized = sys.modules[self.__name__]
        if initialized is not self:  # `__init__` has put another module there
            self.__dict__["__getattr__"] = functools.partial(getattr, initialized)
        return getattr(initialized, name)


@contextlib.contextmanager
def import_late(name: str, **known: Any) -> Iterator[None]:
    """Delay the import of a module that is imported within the `with` block, until one of the module's names is used.

    Nothing is delayed if the module has been imported already or is not installed.

    Args:
        name: the dotted name of the module.
        known: names of the module that may be used without an import, each with its value.
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


def initialize_late(name: str, members: Mapping[str, str], **known: Any) -> None:
    """Delay a package's `__init__` until a name is used that is neither in `members` nor in `known`.

    Nothing is delayed if the package has been imported already or is not installed.

    Args:
        name: the name of the package.
        members: names of the package that can be used without `__init__`, each with the submodule that defines it.
        known: more names of the package that can be used without `__init__`, each with its value.
    """
    spec = None if name in sys.modules else _find_spec(name)
    if spec is not None:
        late = sys.modules[name] = _LatePackage(spec, members)
        vars(late).update(known)


def _find_spec(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError:  # its parent package is not installed
        return None


_PACKAGES: list[str] = []
"""The imported packages whose names are imported on demand."""


def names_on_demand(package: str) -> Callable[[str], Any]:
    """Return a `__getattr__` for a package of this project that imports each name when it is first used.

    The names are those that the package's `__init__` imports below `if TYPE_CHECKING:`.

    Args:
        package: the `__name__` of the package.
    """
    _PACKAGES.append(package)

    def import_name(name: str) -> Any:
        if name.startswith("__") or name not in _origins(package):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_origins(package)[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return import_name


def import_all_names() -> None:
    """In every imported package, import the names that it imports on demand; include packages imported by this call."""
    for package in _PACKAGES:  # becomes longer within the loop
        for name in _origins(package):
            getattr(sys.modules[package], name)


@functools.cache
def _origins(package: str) -> dict[str, str]:
    """Return the names that a package imports on demand, with the modules that define them."""
    statements = ast.parse(Path(str(sys.modules[package].__file__)).read_text(encoding="utf-8")).body
    blocks = (block.body for block in statements if isinstance(block, ast.If))
    imports = (node for block in blocks for node in block if isinstance(node, ast.ImportFrom) and node.module)
    return {alias.name: str(node.module) for node in imports for alias in node.names}

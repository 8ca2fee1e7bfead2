"""Find the Python modules in the user's lab folder, and decide whether they may run.

The lab folder is the working directory, in which `conf/` contains the user's own option files. A `.py` file or package
beside `conf/` is imported only if the user allows it: with `--allow-lab-code` for one command, or with
`instruct-lab allow DIR` for this folder. The file `lab.yaml` in the folder cannot give this permission, but
`python: false` in it forbids importing the folder's Python files.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

import yaml

from instruct_lab.config import permissions
from instruct_lab.config.spelling import nearest
from instruct_lab.config.yaml_text import read_yaml_text
from instruct_lab.errors import InstructLabError, Problem

SETTINGS = "lab.yaml"
FIELDS = ("python",)
VARIABLE = "INSTRUCT_LAB_MODULES"
"""Environment variable that passes the lab folder and its importable modules to the processes that a run starts."""
HOW_TO_ALLOW = "if you trust it, add --allow-lab-code to the command, or type `instruct-lab allow .` once for this lab"


def refusal() -> str | None:
    """Return why the Python files in the lab folder may not run; `None` if they may run.

    If only the user's permission is missing, the text says how to give it.
    """
    settings = _settings()
    if any(settings_problems()) or settings.get("python", True) is not True:
        return f"{SETTINGS} of the lab does not say `python: true`"
    return None if permissions.is_lab_allowed(Path.cwd()) else HOW_TO_ALLOW


def _settings() -> Any:
    """Read the settings in `lab.yaml`.

    Returns:
        The settings; an empty dictionary if there is no such file; `None` if it cannot be read or is not YAML.
    """
    try:
        return yaml.safe_load(read_yaml_text(Path(SETTINGS))) or {}
    except FileNotFoundError:
        return {}
    except (InstructLabError, OSError, ValueError, yaml.YAMLError):
        return None


def settings_problems() -> Iterator[Problem]:
    """Yield the problems with `lab.yaml`, the lab folder's settings file: unknown fields and wrong values."""
    settings = _settings()
    if not isinstance(settings, dict):
        yield Problem(key=SETTINGS, reason="expected YAML with the field python: true or false")
        return
    for name, value in settings.items():
        if name not in FIELDS:
            reason = f"{SETTINGS} has no field {name} (fields: {', '.join(FIELDS)})"
            yield Problem(key=f"{SETTINGS}: {name}", value=value, reason=reason, suggestion=nearest(str(name), FIELDS))
        elif not isinstance(value, bool):
            yield Problem(key=f"{SETTINGS}: {name}", value=value, reason="expected true or false")


def lab_source(module: str) -> Path | None:
    """Return the file in the lab folder that a module comes from, such as `my_metrics.py` for `my_metrics`.

    Only the first component of the dotted name counts; for a package, the file is its `__init__.py`. The result is
    `None` if the lab folder has no such file or package, or if an installed library or instruct_lab itself has this
    name.
    """
    top = module.partition(".")[0]
    if top == __name__.partition(".")[0]:  # the working directory is a checkout of this package
        return None
    files = [file for file in (Path.cwd() / top / "__init__.py", Path.cwd() / f"{top}.py") if file.is_file()]
    if not files:
        return None
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        return files[0]
    origin = Path(spec.origin).resolve()
    is_of_lab = origin == files[0].resolve() or any(origin.is_relative_to(finder.lab) for finder in _finders())
    return files[0] if is_of_lab else None


def make_importable(module: str) -> None:
    """Let `import` find a module in the lab folder, and the modules of the folder that this module imports.

    If modules of another lab folder were importable before, they are unloaded.

    Args:
        module: dotted name of the module.
    """
    here, names = Path.cwd().resolve(), {module.partition(".")[0]}
    for finder in _finders():
        if finder.lab == here:
            names |= finder.names
        else:
            _forget_modules(finder.lab)
        sys.meta_path.remove(finder)
    sys.meta_path.append(LabFinder(here, frozenset(names)))
    importlib.invalidate_caches()
    os.environ[VARIABLE] = f"{','.join(sorted(names))}{os.pathsep}{here}"


def restore() -> None:
    """Make the same modules of the lab folder importable in this process as in the process that started it.

    Importing `instruct_lab` calls this. A process that a run has started inherits the names of the modules in an
    environment variable; they become importable if the process has the same working directory.
    """
    names, _, lab = os.environ.get(VARIABLE, "").partition(os.pathsep)
    if names and Path.cwd().resolve() == Path(lab):
        sys.meta_path.append(LabFinder(Path(lab), frozenset(names.split(","))))


class LabFinder:
    """An import finder for the Python modules in a lab folder.

    It finds a module if a config names it, or if a module of the lab folder imports it. Other code does not find the
    folder's files: a library that tries to import an optional package, such as `torch_xla`, does not import a file
    `torch_xla.py` in the lab folder. Installed packages are found first, since this finder is the last of
    `sys.meta_path`.

    Args:
        lab: the lab folder.
        names: names of the modules that configs name.
    """

    def __init__(self, lab: Path, names: frozenset[str]) -> None:
        self.lab, self.names = lab, names

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Find a module or package directly in the lab folder, if a config or a module of the folder names it.

        For any other name, return `None`.

        Args:
            name: full name of the module.
            path: search path of the parent package; `None` for a module without one. For a submodule, the method
                returns `None`, and Python's own finder finds it.
            target: not used.
        """
        if path is not None or not (name in self.names or self._is_imported_by_lab()):
            return None
        return PathFinder.find_spec(name, [str(self.lab)])

    def _is_imported_by_lab(self) -> bool:
        frame = inspect.currentframe()
        while frame is not None:
            name = str(frame.f_globals.get("__name__"))
            if name != __name__ and name.partition(".")[0] not in ("importlib", "_frozen_importlib"):
                return _is_of_lab(name, frame.f_globals.get("__file__"), self.lab)
            frame = frame.f_back
        return False


def _finders() -> list[LabFinder]:
    return [finder for finder in sys.meta_path if isinstance(finder, LabFinder)]


def _forget_modules(lab: Path) -> None:
    for name, module in list(sys.modules.items()):
        if _is_of_lab(name, getattr(module, "__file__", None), lab):
            del sys.modules[name]


def _is_of_lab(name: str, file: str | None, lab: Path) -> bool:
    """Whether a module was imported from a file or package directly in a lab folder.

    Args:
        name: name of the module.
        file: path of its source file, if it has one.
        lab: the lab folder.
    """
    top = name.partition(".")[0]
    if file is None or not str(file).startswith(str(lab)):  # most modules; it is much faster than to compare paths
        return False
    path = Path(file)
    is_own = path.is_relative_to(lab) and top != __package__.partition(".")[0]
    return is_own and Path(path.relative_to(lab).parts[0]).stem == top

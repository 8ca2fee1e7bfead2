"""Find a lab's own Python modules, and decide whether they may run.

The lab is the working directory. A `.py` file or package beside its `conf/` is imported only if the user allows it:
with `--allow-lab-code` for one command, or with `instruct-lab allow DIR` for this lab (see `permissions`). The file
`lab.yaml` of a lab gives no permission; `python: false` in it declares that the lab's files are not to be imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from instruct_lab.config import permissions
from instruct_lab.config.spelling import nearest
from instruct_lab.config.yaml_text import read_yaml_text
from instruct_lab.errors import InstructLabError, Problem

SETTINGS = "lab.yaml"
FIELDS = ("python",)
_importable: set[Path] = set()  # labs that this process has put on the import path
HOW_TO_ALLOW = "if you trust it, add --allow-lab-code to the command, or type `instruct-lab allow .` once for this lab"


def refusal() -> str | None:
    """Return why the lab's Python files may not run, and the command that allows them; `None` if they may run."""
    settings = _settings()
    if any(settings_problems()) or settings.get("python", True) is not True:
        return f"{SETTINGS} of the lab does not say `python: true`"
    return None if permissions.is_lab_allowed(Path.cwd()) else HOW_TO_ALLOW


def _settings() -> Any:
    """Read `lab.yaml`; return an empty dictionary if there is no such file, and `None` if it is not YAML."""
    try:
        return yaml.safe_load(read_yaml_text(Path(SETTINGS))) or {}
    except FileNotFoundError:
        return {}
    except (InstructLabError, OSError, ValueError, yaml.YAMLError):
        return None


def settings_problems() -> Iterator[Problem]:
    """Yield the problems with `lab.yaml`."""
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
    """Return the lab's file for the first part of a module's dotted name.

    The result is `None` if the lab has no such file, or if an installed library has that name.
    """
    top = module.partition(".")[0]
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
    is_of_lab = origin == files[0].resolve() or any(origin.is_relative_to(lab) for lab in _importable)
    return files[0] if is_of_lab else None


def make_importable() -> None:
    """Append the lab to the import path, and remove any other lab that this process has used before."""
    here = Path.cwd().resolve()
    for lab in _importable - {here}:
        sys.path[:] = [path for path in sys.path if path != str(lab)]
        for name in [name for name in sys.modules if _is_of_lab(name, lab)]:
            del sys.modules[name]
        _importable.remove(lab)
    if str(here) not in sys.path:
        sys.path.append(str(here))
        _importable.add(here)
        importlib.invalidate_caches()


def _is_of_lab(name: str, lab: Path) -> bool:
    """Whether an imported module comes from a file or package beside a lab's `conf/`."""
    file = getattr(sys.modules[name], "__file__", None)
    if file is None or not Path(file).is_relative_to(lab) or name.partition(".")[0] == __package__.partition(".")[0]:
        return False
    return Path(Path(file).relative_to(lab).parts[0]).stem == name.partition(".")[0]

"""Find a lab's own Python modules, and decide whether they may run.

The lab is the working directory. A `.py` file or package beside its `conf/` is imported only if the user allows it,
with `python: true` in the lab's `lab.yaml` or with `--allow-lab-code`. Processes that a command starts inherit the
permission.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from instruct_lab.config.spelling import nearest
from instruct_lab.config.yaml_text import read_yaml_text
from instruct_lab.errors import InstructLabError, Problem

SETTINGS = "lab.yaml"
FIELDS = ("python",)
VARIABLE = "INSTRUCT_LAB_ALLOW_LAB_CODE"
HOW_TO_ALLOW = f"write `python: true` to {SETTINGS} beside conf/, or add --allow-lab-code"


def is_allowed() -> bool:
    """Whether the lab's own Python may run."""
    settings = _settings()
    return os.environ.get(VARIABLE) == "1" or (isinstance(settings, dict) and settings.get("python") is True)


def _settings() -> Any:
    """Read `lab.yaml`; return an empty dictionary without the file, and `None` if it is not YAML."""
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


@contextlib.contextmanager
def allow() -> Iterator[None]:
    """Allow the lab's Python until the block ends, in this process and in processes that it starts."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)


def inherited() -> dict[str, str]:
    """Return the environment variable that allows the lab's Python, for processes that do not inherit it."""
    return {VARIABLE: os.environ[VARIABLE]} if VARIABLE in os.environ else {}


def lab_source(module: str) -> Path | None:
    """Return the lab's file for a module's top level; `None` without one, or if an installed library has that name."""
    top = module.partition(".")[0]
    files = [file for file in (Path.cwd() / top / "__init__.py", Path.cwd() / f"{top}.py") if file.is_file()]
    if not files:
        return None
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    is_installed = spec is not None and spec.origin is not None and Path(spec.origin).resolve() != files[0].resolve()
    return None if is_installed else files[0]


def make_importable() -> None:
    """Put the lab at the end of the import path."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)

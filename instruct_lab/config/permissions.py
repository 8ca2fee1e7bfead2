"""The permissions that a user can give, and without which a config may not do certain things.

A config, a run record and a lab folder are data that a stranger may have written, so they cannot give themselves a
permission. The user gives a permission for one command with `--allow NAME`, or for every command in the user's settings
file. The environment variable `INSTRUCT_LAB_ALLOW` (names separated by commas) also gives permissions, and is inherited
by the processes that a command starts. A name is one of `PERMISSIONS`, or the dotted name of a module, a package or a
class of an installed library.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from instruct_lab.config.spelling import nearest
from instruct_lab.config.user_settings import Settings, read_settings
from instruct_lab.errors import InstructLabError

LAB_CODE = "lab-code"
OUTSIDE = "outside-writes"
PERMISSIONS = {
    LAB_CODE: "run the Python files of the lab in the working directory",
    "remote-code": "run the Python files that come with a model",
    "pickle": "read pickled weights",
    "execution": "execute programs that a model wrote",
    "task-code": "run what the files of benchmark tasks in a folder contain, such as Python functions",
    "weak-sandbox": "execute programs that a model wrote where the kernel does not confine them",
    "judge-server": "send prompts, answers and the variable that `key_variable` names to the server of a judge",
    OUTSIDE: "write outside the working directory and the cache",
}
"""Permissions by name, each with what it permits."""


class LibraryClasses(NamedTuple):
    """Classes of another library that a config may name without a permission.

    Args:
        group: config group whose keys may name the classes.
        within: dotted name of the class, or of the package that defines the classes.
        base: dotted name of the class that the classes have to derive from; `None`: any class of the package.
    """

    group: str
    within: str
    base: str | None = None


LIBRARY_CLASSES = (
    LibraryClasses("trainer", "pytorch_lightning.trainer.trainer.Trainer"),
    LibraryClasses("trainer", "pytorch_lightning.strategies", "pytorch_lightning.strategies.strategy.Strategy"),
    LibraryClasses("trainer", "pytorch_lightning.plugins"),
    LibraryClasses("trainer", "lightning_fabric.plugins"),
    LibraryClasses("tracker", "pytorch_lightning.loggers", "pytorch_lightning.loggers.logger.Logger"),
    LibraryClasses("callbacks", "pytorch_lightning.callbacks", "pytorch_lightning.callbacks.callback.Callback"),
)

VARIABLE = "INSTRUCT_LAB_ALLOW"
KEY = "key:"
"""Prefix of a permission for the value of one config key, which the user gives by typing this value as an override."""
WITHIN = "within:"
"""Prefix of a permission to write below one folder, which the user gives by naming the folder in a command.

The path after the prefix is percent-encoded, because commas separate the permissions.
"""
CACHE_VARIABLE, DEFAULT_CACHE = "INSTRUCT_LAB_CACHE", "~/.cache/instruct_lab"
"""Environment variable with the path of the user's cache folder, and the default path; see `conf/train.yaml`."""


@contextlib.contextmanager
def allow(*names: str) -> Iterator[None]:
    """Give permissions until the block ends, in this process and in processes that it starts.

    Args:
        names: the permissions, in the form that the option `--allow` takes. In addition, `key:FULL.KEY` permits the
            value of one config key, and a result of `within` permits a config to write below a folder.
    """
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = ",".join([*filter(None, [before]), *names])
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def inherited() -> dict[str, str]:
    """Return the environment variables that other processes need in order to have the same permissions.

    One holds the permissions of this command, the other determines where the user's settings file is. They are passed
    on explicitly to processes that do not inherit the environment, such as those on another machine.
    """
    return {name: os.environ[name] for name in (VARIABLE, "XDG_CONFIG_HOME") if name in os.environ}


def allowed_names() -> set[str]:
    """Return the names of all permissions that the user gives for this command or in the settings file."""
    names = os.environ.get(VARIABLE, "").split(",")
    return {name.strip() for name in names if name.strip()} | set(read_settings().allow)


def is_allowed(permission: str, key: str | None = None) -> bool:
    """Whether the user gives a permission by its name, or by typing the value of `key` on the command line."""
    names = allowed_names()
    return permission in names or (key is not None and f"{KEY}{key}" in names)


def within(folder: Path) -> str:
    """Return the permission to write below a folder, in the form that `allow` takes."""
    return WITHIN + quote(os.fsencode(folder.absolute()))


def allowed_folders() -> list[str]:
    """Return the folders below which a config may write because the user has named them."""
    names = os.environ.get(VARIABLE, "").split(",")
    return [os.fsdecode(unquote_to_bytes(name.removeprefix(WITHIN))) for name in names if name.startswith(WITHIN)]


def is_lab_allowed(path: Path) -> bool:
    """Whether the user lets the Python files in a lab folder run."""
    return is_allowed(LAB_CODE) or str(path.resolve()) in read_settings().labs


def is_library_class(name: str, bases: Set[str], group: str | None = None) -> bool:
    """Whether a config may name a class of another library without a permission, according to `LIBRARY_CLASSES`.

    Args:
        name: dotted name of the class, in the module that defines it.
        bases: dotted names of the classes that it derives from.
        group: config group in which the class is named; `None`: any group.
    """
    return any(
        _is_within(name, [known.within]) and known.base in {None, name, *bases} and group in (None, known.group)
        for known in LIBRARY_CLASSES
    )


def is_class_allowed(name: str) -> bool:
    """Whether the user allows a class of another library, by its name or the name of a package or module above it."""
    return _is_within(name, allowed_names())


def _is_within(name: str, above: Iterable[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in above)


def how_to_allow(name: str) -> str:
    """Return the sentence that says how the user gives a permission."""
    return f"if you trust it, add --allow {name} to the command, or type `instruct-lab allow {name}` once"


def check_name(name: str) -> None:
    """Refuse a name that is neither a permission nor a module or class of an installed library or the lab folder.

    Raises:
        InstructLabError: neither a permission nor a module or class has this name.
    """
    if name in PERMISSIONS:
        return
    parts = name.split(".")
    if all(part.isidentifier() for part in parts):
        here = [Path.cwd() / f"{parts[0]}.py", Path.cwd() / parts[0]]
        with contextlib.suppress(ImportError, ValueError):
            if any(path.exists() for path in here) or importlib.util.find_spec(parts[0]) is not None:
                return
    hint = nearest(name, PERMISSIONS)
    raise InstructLabError(
        f"There is no permission {name!r}, and no library of this name is installed",
        where="--allow",
        do=f"choose {hint or 'one of'}: {', '.join(PERMISSIONS)}, or the dotted name of a module or class",
    )


def with_names(settings: Settings, names: Iterable[str], *, is_removed: bool = False) -> Settings:
    """Return the user's settings with permissions added or removed; a lab folder's path permits its Python files.

    Raises:
        InstructLabError: a name to be added is neither a folder nor a name that `--allow` accepts.
    """
    fields: dict[str, Any] = {name: set(values) for name, values in dataclasses.asdict(settings).items()}
    for name in names:
        is_path = os.sep in name or name in (".", "..") or Path(name).is_dir()
        field, entry = ("labs", str(Path(name).expanduser().resolve())) if is_path else ("allow", name)
        if is_removed:
            fields[field].discard(entry)
            continue
        if is_path and not Path(entry).is_dir():
            raise InstructLabError(f"There is no folder {entry}", where="the lab to allow", do="give the lab's folder")
        if entry == LAB_CODE:
            raise InstructLabError(
                "The settings allow the Python of single labs only", where=LAB_CODE, do="give the lab's folder instead"
            )
        if not is_path:
            check_name(entry)
        fields[field].add(entry)
    return Settings(**{name: tuple(sorted(values)) for name, values in fields.items()})

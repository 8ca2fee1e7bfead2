"""The permissions that a user can give, and without which a config may not do certain things.

A config, a run's record and a lab folder (a working directory with option files and Python files) may come from a
stranger, so they cannot give permissions. The user gives a permission for one command with `--allow NAME`, or for every
command in the user's settings file. The environment variable `INSTRUCT_LAB_ALLOW` (names separated by commas) also
gives permissions, and is inherited by the processes that a command starts. The name of a permission is one of
`PERMISSIONS`; to allow classes of an installed library, it is the dotted name of a class, module or package.
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
"""What each permission permits, keyed by the permission's name."""


class LibraryClasses(NamedTuple):
    """Classes of another library that a config may name without a permission.

    Args:
        group: config group in which the classes may be named.
        within: dotted name of a class, or of a module or package whose classes are meant.
        base: dotted name of the base class that they must have; `None`: no base class is required.
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
"""Prefix of a permission for one config key; an override that sets this key to true or to a path gives it."""
WITHIN = "within:"
"""Prefix of a permission to write below one folder, which the user gives by naming the folder in a command.

The folder's path after the prefix is percent-encoded, so that it contains no comma: commas separate permissions.
"""
CACHE_VARIABLE, DEFAULT_CACHE = "INSTRUCT_LAB_CACHE", "~/.cache/instruct_lab"
"""The environment variable that sets the path of the user's cache folder, and the default path."""


@contextlib.contextmanager
def allow(*names: str) -> Iterator[None]:
    """Give permissions during a `with` block, in this process and in the processes that it starts.

    Args:
        names: names of the permissions, as the option `--allow` takes them. Two more forms are possible: `key:FULL.KEY`
            permits the value of one config key, and a result of the function `within` permits a config to write below a
            folder.
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
    """Return the environment variables that another process needs in order to have the same permissions as this one.

    `INSTRUCT_LAB_ALLOW` contains the permissions of this command; `XDG_CONFIG_HOME` determines where the user's
    settings file is. They are sent to processes that do not inherit the environment, such as processes on another
    machine. A variable that is not set is left out.
    """
    return {name: os.environ[name] for name in (VARIABLE, "XDG_CONFIG_HOME") if name in os.environ}


def allowed_names() -> set[str]:
    """Return the names of all permissions that the user has given for this command or in the settings file."""
    names = os.environ.get(VARIABLE, "").split(",")
    return {name.strip() for name in names if name.strip()} | set(read_settings().allow)


def is_allowed(permission: str, key: str | None = None) -> bool:
    """Whether the user has given a permission.

    Args:
        permission: name of the permission.
        key: full key of a setting that needs the permission. An override on the command line that sets this key to
            true or to a path gives the permission too.
    """
    names = allowed_names()
    return permission in names or (key is not None and f"{KEY}{key}" in names)


def within(folder: Path) -> str:
    """Return the name of the permission to write below a folder, which can be passed to `allow`."""
    return WITHIN + quote(os.fsencode(folder.absolute()))


def allowed_folders() -> list[str]:
    """Return the folders below which a config may write because the user has named them in a command."""
    names = os.environ.get(VARIABLE, "").split(",")
    return [os.fsdecode(unquote_to_bytes(name.removeprefix(WITHIN))) for name in names if name.startswith(WITHIN)]


def is_lab_allowed(path: Path) -> bool:
    """Whether the user has allowed the Python files in a lab folder to run.

    Args:
        path: path of the lab folder.
    """
    return is_allowed(LAB_CODE) or str(path.resolve()) in read_settings().labs


def is_library_class(name: str, bases: Set[str], group: str | None = None) -> bool:
    """Whether a config may name a class of another library without a permission, according to `LIBRARY_CLASSES`.

    Args:
        name: dotted name of the class, in the module that defines it.
        bases: dotted names of its direct and indirect base classes.
        group: config group in which the class is named; `None`: any group.
    """
    return any(
        _is_within(name, [known.within]) and known.base in {None, name, *bases} and group in (None, known.group)
        for known in LIBRARY_CLASSES
    )


def is_class_allowed(name: str) -> bool:
    """Whether the user has allowed a class of another library.

    A class is allowed by its own dotted name, or by the dotted name of a module or package that contains it.
    """
    return _is_within(name, allowed_names())


def _is_within(name: str, above: Iterable[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in above)


def how_to_allow(name: str) -> str:
    """Return the part of an error message that says how the user gives a permission."""
    return f"if you trust it, add --allow {name} to the command, or type `instruct-lab allow {name}` once"


def check_name(name: str) -> None:
    """Check that the user can allow a name: that it is one of `PERMISSIONS`, or the dotted name of a module or class.

    Of a dotted name, only the part before the first dot is checked: it must be an installed library, or a file or
    folder in the working directory.

    Raises:
        InstructLabError: the name is neither a permission nor such a dotted name.
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
    """Return a copy of the user's settings with permissions added or removed.

    Args:
        settings: the user's settings.
        names: names of permissions, or paths of lab folders whose Python files are allowed to run.
        is_removed: whether the permissions are removed instead of added.

    Raises:
        InstructLabError: a name to be added is neither a folder nor a name that `--allow` accepts. The name
            `lab-code` is refused too: the settings can allow the Python files of single folders only.
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

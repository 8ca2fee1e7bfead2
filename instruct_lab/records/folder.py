"""Create and check the folder of a run record: its unique name, and its lock."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path

from instruct_lab import files
from instruct_lab.errors import InstructLabError
from instruct_lab.records.schema import MANIFEST

LOCK = ".lock"
MAX_NAME_BYTES = 200


def check_name(name: str) -> str:
    """Return a run's name if it is a valid folder name.

    Raises:
        InstructLabError: the name is not a valid folder name.
    """
    if reason := name_fault(name):
        raise InstructLabError(f"A run cannot be named {name!r}: {reason}", where="name", do="choose another name")
    return name


def name_fault(name: str) -> str | None:
    """Return the reason why a folder cannot have this name, or `None` if it can."""
    is_folder = name and not name.startswith((".", " ")) and not re.search(r"[/\\\0-\x1f\ud800-\udfff]", name)
    if is_folder and len(name.encode()) <= MAX_NAME_BYTES:
        return None
    rules = f"without slashes and control characters, without a leading dot, of at most {MAX_NAME_BYTES} bytes"
    return f"the name must be a valid folder name, {rules}"


def has_manifest(path: Path) -> bool:
    """Whether a folder holds a completely created run record."""
    return (path / MANIFEST).is_file()


def is_locked(path: Path) -> bool:
    """Whether a process is writing the run record or the sweep in a folder."""
    return files.is_locked(path / LOCK)


def new_folder(parent: Path) -> Path:
    """Create a folder with a unique name: the time in UTC, its microseconds in hexadecimal, and a random digit.

    Sorted names are in the order of creation, even within the same second.
    """
    with files.disk_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            now = datetime.now(UTC)
            path = parent.absolute() / f"{now:%Y%m%d-%H%M%S}-{now.microsecond:05x}{secrets.randbelow(16):x}"
            try:
                os.mkdir(path)
            except FileExistsError:
                continue
            return path


def empty_folder(path: Path) -> Path:
    """Create the folder of a record; first remove an incomplete record that a crash left in it.

    Raises:
        InstructLabError: the folder holds a complete record, or is not writable.
    """
    if has_manifest(path):
        raise InstructLabError("There is a run record here already", where=str(path), do="Resume it, or remove it")
    shutil.rmtree(path, ignore_errors=True)
    with files.disk_errors(path):
        path.mkdir(parents=True)
    return path.absolute()

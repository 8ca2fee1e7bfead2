"""Create the folder of a run record under a unique name, and check whether a process is writing in it."""

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
    """Check that the name of a run is a valid folder name; return the name.

    Raises:
        InstructLabError: the name is not a valid folder name.
    """
    if reason := name_fault(name):
        raise InstructLabError(f"A run cannot be named {name!r}: {reason}", where="name", do="choose another name")
    return name


def name_fault(name: str) -> str | None:
    """Return a text that says why `name` cannot be the name of a folder in the records; `None` if it can."""
    is_folder = name and not name.startswith((".", " ")) and not re.search(r"[/\\\0-\x1f\ud800-\udfff]", name)
    if is_folder and len(name.encode()) <= MAX_NAME_BYTES:
        return None
    rules = f"without slashes and control characters, without a leading dot, of at most {MAX_NAME_BYTES} bytes"
    return f"the name must be a valid folder name, {rules}"


def has_manifest(path: Path) -> bool:
    """Whether a folder holds a run record with a manifest, the file that is written last when a record is created."""
    return (path / MANIFEST).is_file()


def is_locked(path: Path) -> bool:
    """Whether a process is writing to a folder, which holds the record of a run or a sweep."""
    return files.is_locked(path / LOCK)


def new_folder(parent: Path) -> Path:
    """Create a folder in `parent`, named after the current time in UTC.

    An example is `20260131-142530-0f3a27`: date, time, microseconds as five hexadecimal digits, and a random digit. The
    alphabetical order of names is the order of creation.
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
    """Create an empty folder for a new record.

    If a crash left an incomplete record without a manifest in the folder, this record is removed.

    Raises:
        InstructLabError: the folder holds a record with a manifest, or is not writable.
    """
    if has_manifest(path):
        raise InstructLabError("There is a run record here already", where=str(path), do="Resume it, or remove it")
    shutil.rmtree(path, ignore_errors=True)
    with files.disk_errors(path):
        path.mkdir(parents=True)
    return path.absolute()

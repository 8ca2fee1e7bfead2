"""Folders in the cache that are created only once, and are never used while they are incomplete."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)
MARKER = "complete.json"


def make_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Make the folder with `make`, unless it is already complete; return it.

    `make` fills a temporary folder under a lock. The temporary folder is renamed once all files and a list of their
    sizes are on the disk. A folder without this list, or with a file of another size, is made again.

    Args:
        folder: path of the folder; folders with the same path must have the same content.
        make: function that fills an empty folder; if it raises an error, nothing is kept.

    Raises:
        OSError: the folder cannot be written.
    """
    from filelock import FileLock

    if is_complete(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{folder.name}-"
    with FileLock(folder.parent / f"{folder.name}.lock"):
        if is_complete(folder):  # another process made it while this one waited
            return folder
        for stale in folder.parent.glob(f"{prefix}*"):  # left by a killed process, since this process holds the lock
            shutil.rmtree(stale, ignore_errors=True)
        if folder.exists():
            logger.warning("%s is incomplete; it is made again.", folder)
            shutil.rmtree(folder)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent, ignore_cleanup_errors=True) as partial:
            target = Path(partial) / "made"
            target.mkdir()
            make(target)
            _write_marker(target)
            os.replace(target, folder)
            _sync(folder.parent)
    return folder


def is_complete(folder: Path) -> bool:
    """Whether every file that was written to the folder exists with its full size."""
    try:
        sizes = json.loads((folder / MARKER).read_text(encoding="utf-8"))["bytes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _write_marker(folder: Path) -> None:
    """Flush every file to the disk, then write the list of file sizes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for file in files:
        _sync(file)
    sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
    marker = folder / MARKER
    marker.write_text(json.dumps({"bytes": sizes}, indent=1), encoding="utf-8")
    _sync(marker)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Write files so that they stay readable after a crash at any moment, and read untrusted files safely."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import json
import logging
import math
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

from instruct_lab import secrets
from instruct_lab.errors import InstructLabError, one_line, wrap_errors

logger = logging.getLogger(__name__)
TEMPORARY_SUFFIX = ".tmp"
LOCK_SECONDS = 0.2
"""Time to wait for a lock, in seconds; a call of `is_locked` in another process may hold the lock for a moment."""
OMIT_EMPTY = {"omit_empty": True}
"""Metadata of a dataclass field that is written only if its value is neither empty nor zero."""


class NotARegularFile(InstructLabError):
    """The error for a path that names a folder, a pipe or a device where a regular file is expected."""

    def __init__(self, path: Path, found: str) -> None:
        self.found = found
        super().__init__(f"A file is expected, and this is {found}", where=str(path), do="give the path of a file")


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Encode a value as strict JSON, after `to_plain` has converted it to types that JSON has."""
    return json.dumps(to_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def to_plain(value: Any) -> Any:
    """Convert a value to types that JSON has.

    Dataclasses become dictionaries; tensors, arrays and sets become lists; NaN and infinities become `None`; paths and
    everything else that JSON does not have become strings.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_plain(fields_to_write(value))
    if isinstance(value, dict):
        return {str(key): to_plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(inner) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted(map(to_plain, value))
    if hasattr(value, "tolist"):  # tensors and arrays
        return to_plain(value.tolist())
    return str(value)


def fields_to_write(value: Any) -> dict[str, Any]:
    """Return the values of a dataclass's fields, keyed by name.

    A field with the metadata `OMIT_EMPTY` is left out if its value is empty or zero.
    """
    fields = {field: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {field.name: one for field, one in fields.items() if one or not field.metadata.get("omit_empty")}


def encode(text: str) -> bytes:
    """Encode text as UTF-8; unpaired surrogates, which UTF-8 cannot express, become backslash escapes."""
    return text.encode("utf-8", errors="backslashreplace")


def _hide(path: Path, text: str) -> str:
    """Hide the secrets in a text for a file; in JSON, hide only secrets within strings, so that it stays valid."""
    return secrets.hide_in_json(text) if path.suffix in (".json", ".jsonl") else secrets.hide(text)


def write_atomically(path: Path, chunks: Iterable[str]) -> None:
    """Write a whole file, in which known secrets are hidden; if writing fails, the file stays as it was before.

    Raises:
        InstructLabError: the disk is full, or the folder is not writable.
    """
    with disk_errors(path):
        temporary = path.with_name(f".{path.name}.{token_hex(6)}{TEMPORARY_SUFFIX}")
        try:
            with temporary.open("xb") as stream:
                for chunk in chunks:
                    stream.write(encode(_hide(path, chunk)))
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Flush a folder to disk if the system supports it, so that a rename in the folder survives a power failure."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def user_path(path: str | Path) -> Path:
    """Convert a path that a user has typed, with `~` or `~NAME` replaced by the home folder.

    Raises:
        InstructLabError: the system cannot look up the path: it is too long or contains a NUL character, there is no
            such user, or a folder on the way is not searchable. A path that does not exist is not an error.
    """
    try:
        found = Path(path).expanduser()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found.lstat()
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        what = f"This path cannot be used ({reason[0].lower()}{reason[1:].rstrip('.')})"
        raise InstructLabError(what, where=one_line(repr(str(path))), do="correct the path") from error
    return found


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading bytes; raise an error for anything else, such as a pipe, which may never end.

    Raises:
        NotARegularFile: the path is a folder, a named pipe, a device or a socket, or a link that leads nowhere.
        OSError: the file does not exist or is not readable.
    """
    require_regular(path)  # before opening, because to open a device can change its state
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _check_mode(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def require_regular(path: Path) -> None:
    """Raise an error if a path does not name a regular file.

    Raises:
        NotARegularFile: the path is a folder, a named pipe, a device or a socket, or a link that leads nowhere.
        OSError: the file does not exist.
    """
    try:
        _check_mode(path, path.stat().st_mode)
    except FileNotFoundError:
        if path.is_symlink():
            raise NotARegularFile(path, f"a link to {os.readlink(path)}, which does not exist") from None
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotARegularFile(path, "a link that leads back to itself") from None
        raise


def _check_mode(path: Path, mode: int) -> None:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
    }
    if not stat.S_ISREG(mode):
        raise NotARegularFile(path, kinds.get(stat.S_IFMT(mode), "something else"))


def read_regular(path: Path, max_bytes: int | None = None) -> bytes:
    """Read a whole regular file.

    Args:
        path: the file.
        max_bytes: maximum size of the file; `None`: no limit.

    Raises:
        InstructLabError: the path names no regular file, or the file is larger than `max_bytes`.
        OSError: the file does not exist or is not readable.
    """
    with open_regular(path) as stream:
        content = stream.read() if max_bytes is None else stream.read(max_bytes + 1)
    if max_bytes is not None and len(content) > max_bytes:
        what = f"This file is larger than {max_bytes:,} bytes, which is too large for what it is read as"
        raise InstructLabError(what, where=str(path), do="check that it is the right file")
    return content


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as a whole; if writing fails, the file stays as it was before."""
    write_atomically(path, [to_json(value, indent=2), "\n"])


def read_json(path: Path) -> Any:
    """Read a JSON document; return `None` if the file does not exist.

    Raises:
        InstructLabError: the file is not JSON, or is not readable.
    """
    try:
        return json.loads(read_regular(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InstructLabError(f"This file of a run record cannot be read ({error})", where=str(path)) from error


def append_text(path: Path, text: str) -> None:
    """Append text, in which known secrets are hidden, to a file in a single write; undo an incomplete write.

    Raises:
        InstructLabError: the disk is full, or the file is not writable.
    """
    content = encode(_hide(path, text))
    with disk_errors(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            if os.write(descriptor, content) != len(content):
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        finally:
            os.close(descriptor)


def size_or_zero(path: Path) -> int:
    """Return the size of a file in bytes; 0 if the file does not exist."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def drop_torn_end(path: Path) -> None:
    """Remove an incomplete last line, which a crash during a write has left in a file."""
    with disk_errors(path), contextlib.suppress(FileNotFoundError), path.open("rb+") as stream:
        content = stream.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            stream.truncate(whole)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the objects of a JSON Lines file; an incomplete last line is skipped.

    Other damaged lines are skipped too, with a warning that counts them.
    """
    with wrap_errors(OSError, what="This file cannot be read", where=str(path)):
        try:
            content = read_regular(path)
        except FileNotFoundError:
            return []
    *lines, _torn = content.split(b"\n")
    objects, damaged = [], 0
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            objects.append(value)
        elif line.strip():
            damaged += 1
    if damaged:
        logger.warning("%s: %d damaged lines were left out", path, damaged)
    return objects


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` that the `with` block raises into an `InstructLabError` with advice for the user.

    A `FileNotFoundError` for a missing file in an existing folder is not converted, so that the caller can handle it.

    Raises:
        InstructLabError: the disk is full, the file is not writable, or its folder was moved or deleted.
    """
    try:
        yield
    except FileNotFoundError as error:
        if path.parent.is_dir():
            raise
        raise InstructLabError(
            f"{path.name} cannot be written, because its folder is gone: it was moved or deleted",
            where=str(path.parent),
            do="move the folder back and resume the run, or start a new run",
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what, do = "The disk is full; earlier files are complete", "Free some space; a run can then be resumed"
        else:
            what = f"This file cannot be written ({error.strerror or error})"
            do = "Check the folder's permissions; runs_path sets another folder for run records"
        raise InstructLabError(what, where=str(path), do=do) from error


@contextlib.contextmanager
def lock(path: Path, what: str, do: str = "wait for it, or stop it first") -> Iterator[None]:
    """Hold a lock file until the block ends; the system releases the lock if this process dies.

    Args:
        path: the lock file; the error names its folder.
        what: what another process does while it holds the lock, such as "writing this run", for the error's message.
        do: what the user can do if another process holds the lock, for the error's message.

    Raises:
        InstructLabError: another process holds the lock.
    """
    from filelock import FileLock, Timeout

    held = FileLock(path, timeout=LOCK_SECONDS)
    try:
        held.acquire()
    except Timeout as error:
        raise InstructLabError(f"Another process is {what}", where=str(path.parent), do=do) from error
    try:
        yield
    finally:
        held.release()


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock file; also `True` if the file cannot be opened, since it may then be locked."""
    if not path.exists():
        return False
    try:
        with lock(path, "holding it"):
            return False
    except (InstructLabError, OSError):
        return True

"""Reading of compressed files and of ZIP archives with one member."""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from instruct_lab.errors import InstructLabError
from instruct_lab.files import open_regular

COMPRESSIONS = (".gz", ".xz", ".zst", ".zip")
DECOMPRESSION_ERRORS = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile, NotImplementedError)


def is_compressed(file: Path) -> bool:
    """Whether a file's extension names a compression format."""
    return file.suffix.casefold() in COMPRESSIONS


def content_name(file: Path) -> str:
    """Return the name of a file's content, without the extension of a compression format such as `.gz`.

    For a ZIP archive, this is the name of its only member.

    Raises:
        InstructLabError: the archive does not have exactly one member.
    """
    if file.suffix.casefold() == ".zip" and file.exists():
        with open_regular(file) as stream, zipfile.ZipFile(stream) as archive:
            return _member(archive, file).filename
    return file.stem if is_compressed(file) else file.name


@contextlib.contextmanager
def open_bytes(file: Path) -> Iterator[IO[bytes]]:
    """Open a file and decompress its content while reading.

    Raises:
        InstructLabError: the path is not a regular file, or the archive is encrypted or does not have exactly one
            member.
    """
    suffix = file.suffix.casefold()
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(open_regular(file))
        if suffix == ".zip":
            archive = stack.enter_context(zipfile.ZipFile(raw))
            yield stack.enter_context(archive.open(_member(archive, file)))
        elif suffix == ".zst":
            import pyarrow

            stream: Any = stack.enter_context(pyarrow.input_stream(raw, compression="zstd"))
            yield io.BufferedReader(stream)
        elif suffix == ".xz":
            yield cast(IO[bytes], stack.enter_context(lzma.open(raw)))
        elif suffix == ".gz":
            yield cast(IO[bytes], stack.enter_context(gzip.open(raw)))
        else:
            yield raw


def _member(archive: zipfile.ZipFile, file: Path) -> zipfile.ZipInfo:
    members = [
        found for found in archive.infolist() if not found.is_dir() and not found.filename.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        names = ", ".join(found.filename for found in members[:5]) or "none"
        what = f"The archive has {len(members)} files ({names}) where one is expected"
        raise InstructLabError(what, where=str(file), do="Unpack it, and name its files")
    if members[0].flag_bits & 1:
        raise InstructLabError("The archive is encrypted", where=str(file), do="Unpack it")
    return members[0]

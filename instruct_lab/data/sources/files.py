"""A source of local files: JSON, JSON lines, CSV, Parquet."""

from __future__ import annotations

import contextlib
import glob
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from instruct_lab.assets import Input, file_input
from instruct_lab.config import component
from instruct_lab.config.spelling import nearest
from instruct_lab.data.audit import Audit
from instruct_lab.data.sources import file_formats
from instruct_lab.data.sources.base import BrokenRow, Row, Source
from instruct_lab.data.sources.compressed import COMPRESSIONS, content_name, is_compressed, open_bytes
from instruct_lab.data.sources.csv_rows import Quoting, Spacing, find_delimiter
from instruct_lab.data.sources.file_formats import FileLayout
from instruct_lab.errors import InstructLabError, Problem
from instruct_lab.files import NotARegularFile, open_regular, require_regular, user_path

SUFFIXES = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
FIRST_ROWS = 20
FileFormat = Literal["auto", "json", "jsonl", "csv", "parquet"]


@component
class Files(Source):
    """Local files, given as paths or patterns with `*`, `?` and `**`; matches of a pattern are sorted by name."""

    path: Annotated[str, Field(min_length=1)] | Annotated[list[str], Field(min_length=1)]  # files or patterns
    file_format: FileFormat = "auto"  # auto: by the file's extension
    quoting: Quoting = "auto"  # CSV: standard, none (quotation marks are ordinary); auto: none for .tsv
    spacing: Spacing = "auto"  # CSV: skip or keep spaces after a delimiter; auto: skip if the header has them
    records: Annotated[str, Field(min_length=1)] | None = None  # JSON: key of the list of rows, such as data or a.b
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None  # CSV: delimiter; null: by extension

    def inputs(self, cache_path: Path) -> list[Input]:
        """Return every file, with the SHA-256 of its bytes.

        Raises:
            InstructLabError: no file matches, or a file cannot be read.
        """
        return [file_input(file) for file in self.files()]

    def rows(self, cache_path: Path, audit: Audit, stage: str) -> Iterator[Row | BrokenRow]:
        """Yield the rows of all files, one file after the other.

        Raises:
            InstructLabError: no file matches, or a file cannot be read, is empty, or is truncated.
        """
        for file in self.files():
            is_empty = True
            for row in file_formats.read_rows(file, self._layout(file)):
                is_empty = False
                yield row
            if is_empty:
                raise InstructLabError("The file has no rows", where=str(file), do="Check that it is the right file")

    def location_fields(self) -> set[str]:
        """Return the field `path`, which is not part of cache keys: files are identified by their content."""
        return {"path"}

    def files(self) -> list[Path]:
        """Return the files that the paths and patterns match, each once.

        Raises:
            InstructLabError: a path or pattern matches no file, or is a folder.
        """
        found: dict[Path, None] = {}
        for pattern in self._patterns():
            matches = _matches(pattern)
            reason, suggestion = _find_fault(pattern, matches)
            if reason:
                do = f"Did you mean {suggestion}?" if suggestion else "Correct the path"
                raise InstructLabError(reason[0].upper() + reason[1:], where=pattern, do=do)
            found.update(dict.fromkeys(matches))
        return list(found)

    def problems(self) -> Iterator[Problem]:
        """Report paths that match no file or are folders, unknown extensions, and files that cannot be opened."""
        for pattern in self._patterns():
            matches = _matches(pattern)
            reason, suggestion = _find_fault(pattern, matches)
            if reason:
                yield Problem(key="path", value=pattern, reason=reason, suggestion=suggestion)
                continue
            for file in matches:
                try:
                    with open_regular(file) as stream:
                        stream.read(1)
                    yield from self._layout_problems(file)
                except OSError as error:
                    yield Problem(key="path", value=str(file), reason=f"the file cannot be read: {error.strerror}")

    def _layout_problems(self, file: Path) -> Iterator[Problem]:
        try:
            layout = self._layout(file)
        except InstructLabError as error:
            yield Problem(key="file_format", value=self.file_format, reason=f"{error.what} ({file})")
            return
        if layout.file_format == "csv" and self.delimiter is None and layout.delimiter is None:
            with contextlib.suppress(InstructLabError), file_formats.wrap_read_errors(file), open_bytes(file) as stream:
                if other := find_delimiter(stream.readline().decode("utf-8-sig", "replace")):
                    reason = f"the header of {file} has no comma, and its delimiter seems to be {other!r}"
                    yield Problem(key="delimiter", reason=reason, suggestion=other)

    def known_columns(self) -> list[str] | None:
        """Return the columns of the first file's first row; `None` if it cannot be read."""
        first = self.first_rows()[:1]
        return list(first[0].columns) if first else None

    def first_rows(self) -> list[Row]:
        """Return the first rows of the first file, or an empty list if the first row is broken."""
        try:
            file = self.files()[0]
            rows = list(itertools.islice(file_formats.read_rows(file, self._layout(file), FIRST_ROWS), FIRST_ROWS))
        except (InstructLabError, OSError):
            return []
        return [row for row in rows if isinstance(row, Row)] if rows and isinstance(rows[0], Row) else []

    def _patterns(self) -> list[str]:
        return [self.path] if isinstance(self.path, str) else self.path

    def _layout(self, file: Path) -> FileLayout:
        with file_formats.wrap_read_errors(file):
            suffix = Path(content_name(file)).suffix.casefold()
        file_format = SUFFIXES.get(suffix) if self.file_format == "auto" else self.file_format
        if file_format is None:
            known = ", ".join((*SUFFIXES, *COMPRESSIONS))
            raise InstructLabError(
                f"the ending {suffix or file.suffix!r} is not of a known file format ({known})",
                where=str(file),
                do="Set file_format to json, jsonl, csv or parquet",
            )
        if file_format == "parquet" and is_compressed(file):
            raise InstructLabError("a Parquet file cannot be compressed as a whole", where=str(file), do="Unpack it")
        if self.records is not None and file_format != "json":
            what = f"records is only for JSON files, and this one is {file_format}"
            raise InstructLabError(what, where=str(file), do="Leave records out, or set file_format=json")
        delimiter = self.delimiter or ("\t" if suffix == ".tsv" else None)
        return FileLayout(file_format, delimiter, self.quoting, self.spacing, self.records)


def expand_folders(path: str | list[str], ending: str) -> list[str]:
    """Replace each folder by a pattern for all files in it and its subfolders whose extension is `ending`."""
    patterns = [path] if isinstance(path, str) else path
    return [
        str(Path(glob.escape(str(user_path(pattern)))) / "**" / f"*.{ending}")
        if user_path(pattern).is_dir()
        else pattern
        for pattern in patterns
    ]


def _matches(pattern: str) -> list[Path]:
    try:
        path = user_path(pattern)
    except InstructLabError:
        return [Path(pattern)]  # `_find_fault` gives the reason
    if not glob.has_magic(pattern) or path.exists():
        return [path]
    return sorted(Path(match) for match in glob.glob(str(path), recursive=True) if Path(match).is_file())


def _find_fault(pattern: str, matches: list[Path]) -> tuple[str | None, str | None]:
    """Return the reason why a path or pattern names no readable file, and a path to suggest instead.

    The reason is `None` if there is no fault, and the suggestion is `None` if none is known.
    """
    if not matches:
        return "no file matches the pattern", None
    path = matches[0]
    try:
        require_regular(user_path(path))
    except NotARegularFile as error:
        folder = str(Path(pattern) / "*.jsonl") if error.found == "a folder" else None
        return f"is {error.found} where a file is expected", folder
    except FileNotFoundError:
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        close = nearest(path.name, siblings)
        return "there is no such file", str(Path(pattern).parent / close) if close else None
    except (InstructLabError, OSError) as error:
        return error.what if isinstance(error, InstructLabError) else f"cannot be read: {error.strerror}", None
    return None, None

"""Benchmarks whose texts must not occur in the training data: files inside a published wheel, or local files."""

from __future__ import annotations

import gzip
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, Any, cast

from pydantic import Field

from instruct_lab.assets import Input, PackageAsset, file_input
from instruct_lab.config import Component, component
from instruct_lab.config.spelling import nearest
from instruct_lab.data.sources.base import suggest_column
from instruct_lab.errors import InstructLabError, Problem, Refusal
from instruct_lab.files import open_regular, user_path

ENDINGS = (".json", ".jsonl", ".ndjson", ".txt")


@component
class Benchmark(Component, ABC):
    """A file of texts on which a model is evaluated, and on which it must therefore not be trained.

    The file is JSON (a list of objects or of texts), JSON lines or plain text (one text per line), optionally
    compressed with gzip.
    """

    columns: list[str] = Field(default_factory=list)  # columns with held-out texts; each text is separate

    @abstractmethod
    def file(self, cache_path: Path) -> Path:
        """Return the path of the benchmark's file on this machine; it is downloaded if necessary.

        Args:
            cache_path: folder for downloads.

        Raises:
            InstructLabError: the file does not exist, or cannot be downloaded.
        """

    @abstractmethod
    def input(self, cache_path: Path) -> Input:
        """Return the file's name, SHA-256 and size, for the run's record.

        Raises:
            InstructLabError: the file does not exist, or cannot be read or downloaded.
        """

    def texts(self, cache_path: Path) -> Iterator[str]:
        """Yield the benchmark's texts, which must not occur in the training data.

        Raises:
            InstructLabError: the file cannot be read completely (an incomplete benchmark would miss contaminated rows),
                it has no texts, or a row lacks one of the `columns` or has something other than text in such a column;
                the error names the row.
        """
        file = self.file(cache_path)
        found = False
        for value, where in _rows(file):
            for text in self._of_row(value, where):
                found = True
                yield text
        if not found:
            raise InstructLabError("The benchmark has no texts", where=str(file), do="check that it is the right file")

    def _of_row(self, value: Any, where: str) -> Iterator[str]:
        if isinstance(value, str):
            if self.columns:
                raise InstructLabError("Expected a row with columns, found a text", where=where, do="remove `columns`")
            yield value
            return
        if not isinstance(value, dict):
            raise InstructLabError(f"Expected a row, found {type(value).__name__}", where=where)
        if not self.columns:
            names = ", ".join(map(str, value))
            raise InstructLabError("`columns` is not set", where=where, do=f"set columns to some of {names}")
        for column in self.columns:
            if column not in value:
                raise InstructLabError(
                    f"The row has no column {column!r}", where=where, do=suggest_column(column, map(str, value))
                )
            yield from _texts(value[column], f"{where}, column {column!r}")


@component
class PackageBenchmark(Benchmark):
    """A benchmark that is a file in a wheel from a package index; the wheel is only read, never installed or run.

    The SHA-256 of the wheel is part of the config, so its content cannot change.
    """

    asset: PackageAsset  # the file inside the wheel

    def __post_init__(self) -> None:
        """Refuse an `asset` without a file inside the wheel, or with a file of an unknown format."""
        if self.asset.path is None:
            raise Refusal("asset", "names no file inside the wheel: set asset.path")
        if fault := _unknown_ending(self.asset.path):
            raise Refusal("asset", fault)

    def file(self, cache_path: Path) -> Path:
        """Extract the file from the wheel, after a check of the wheel's SHA-256, and return its path."""
        return self.asset.extract(cache_path)

    def input(self, cache_path: Path) -> Input:
        """Return the file's name, SHA-256 and size for the run's record."""
        return self.asset.input(self.file(cache_path))


@component
class FileBenchmark(Benchmark):
    """A benchmark in a local file."""

    path: Annotated[str, Field(min_length=1)]  # the file, relative to the working directory

    def __post_init__(self) -> None:
        """Refuse an unknown file format."""
        if fault := _unknown_ending(self.path):
            raise Refusal("path", fault)

    def location_fields(self) -> set[str]:
        """Return the fields that are not part of a cache key: only `path`.

        A cache key contains the hash of the file instead, so a moved file keeps its key.
        """
        return {"path"}

    def problems(self) -> Iterator[Problem]:
        """Report a path that does not exist or is a folder."""
        path = user_path(self.path)
        if path.is_file():
            return
        if path.exists():
            yield Problem(key="path", value=self.path, reason="is a folder; a file is expected")
            return
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        close = nearest(path.name, siblings)
        suggestion = str(Path(self.path).parent / close) if close else None
        yield Problem(key="path", value=self.path, reason="there is no such file", suggestion=suggestion)

    def file(self, cache_path: Path) -> Path:
        """Return the path of the local file."""
        return user_path(self.path)

    def input(self, cache_path: Path) -> Input:
        """Return the file's name, SHA-256 and size, for the run's record."""
        return file_input(self.file(cache_path))


def _ending(path: str) -> str:
    return Path(path.casefold().removesuffix(".gz")).suffix


def _unknown_ending(path: str) -> str | None:
    if _ending(path) in ENDINGS:
        return None
    return f"unknown file format of {path} (known: {', '.join(ENDINGS)}, each also with .gz)"


def _rows(file: Path) -> Iterator[tuple[Any, str]]:
    """Yield the rows of a file, each with a text that names the file and the number of the row or line."""
    try:
        is_compressed = file.suffix.casefold() == ".gz"
        with open_regular(file) as raw, cast(IO[bytes], gzip.open(raw) if is_compressed else raw) as stream:
            yield from _decode_rows(stream, file)
    except UnicodeDecodeError as error:
        raise InstructLabError(
            f"The file is not UTF-8 text ({error.reason})", where=str(file), do="convert it to UTF-8"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InstructLabError(
            f"The file cannot be read to its end ({reason})", where=str(file), do="check the path, or download it again"
        ) from error


def _decode_rows(stream: IO[bytes], file: Path) -> Iterator[tuple[Any, str]]:
    if _ending(file.name) == ".json":
        rows = _parse_json(stream.read(), str(file))
        if not isinstance(rows, list):
            raise InstructLabError(f"Expected a list of rows, found {type(rows).__name__}", where=str(file))
        for number, row in enumerate(rows, start=1):
            yield row, f"{file}, row {number}"
        return
    is_text = _ending(file.name) == ".txt"
    for number, line in enumerate(stream, start=1):
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if line.strip():
            where = f"{file}, line {number}"
            yield (line.decode().rstrip("\r\n") if is_text else _parse_json(line, where)), where


def _parse_json(encoded: bytes, where: str) -> Any:
    try:
        return json.loads(encoded.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        position = f"line {error.lineno}, character {error.colno}"
        raise InstructLabError(f"Invalid JSON ({error.msg}, {position})", where=where) from error
    except RecursionError as error:
        raise InstructLabError("The JSON is nested too deeply", where=where) from error


def _texts(value: Any, where: str) -> Iterator[str]:
    """Yield the texts in a value of a column: the value itself if it is a text, the texts in a list, none for null."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, where)
    elif value is not None:
        raise InstructLabError(
            f"Expected text, found {type(value).__name__}: {value!r:.60}", where=where, do="choose another column"
        )

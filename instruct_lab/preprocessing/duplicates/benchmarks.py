"""Held-out texts by name: those of a benchmark inside a published wheel, or of a local file."""

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

ENDINGS = (".json", ".jsonl", ".ndjson", ".txt")


@component
class Benchmark(Component, ABC):
    """Texts that a model is measured on and must not be trained on.

    They stand in a file of JSON (a list of objects or of texts), JSON lines or plain text (one text a line); it may be
    compressed with gzip.
    """

    columns: list[str] = Field(default_factory=list)  # columns whose texts are held out, each by itself

    @abstractmethod
    def file(self, cache_path: Path) -> Path:
        """The file on disk.

        Args:
            cache_path: folder for what is downloaded.

        Raises:
            InstructLabError: it is not there, or cannot be brought.
        """

    @abstractmethod
    def input(self, cache_path: Path) -> Input:
        """The file's name, SHA-256 and size.

        Raises:
            InstructLabError: it is not there, or cannot be read or brought.
        """

    def texts(self, cache_path: Path) -> Iterator[str]:
        """The texts that are held out, one after the other.

        Raises:
            InstructLabError: the file cannot be read to its end, or a row lacks a column or has no text in it; names
                the row. A benchmark that is read in part would let the rest through.
        """
        file = self.file(cache_path)
        found = False
        for value, where in _rows(file):
            for text in self._of_row(value, where):
                found = True
                yield text
        if not found:
            raise InstructLabError(
                "The benchmark holds no texts", where=str(file), do="Check that it is the right file"
            )

    def _of_row(self, value: Any, where: str) -> Iterator[str]:
        if isinstance(value, str):
            if self.columns:
                raise InstructLabError(
                    "A row with columns was expected and a text found", where=where, do="Take the columns away"
                )
            yield value
            return
        if not isinstance(value, dict):
            raise InstructLabError(f"A row was expected and {type(value).__name__} found", where=where)
        if not self.columns:
            names = ", ".join(map(str, value))
            raise InstructLabError("No columns are named", where=where, do=f"Set columns to some of {names}")
        for column in self.columns:
            if column not in value:
                raise InstructLabError(
                    f"The row has no column {column!r}", where=where, do=suggest_column(column, map(str, value))
                )
            yield from _texts(value[column], f"{where}, column {column!r}")


@component
class PackageBenchmark(Benchmark):
    """A benchmark inside a published wheel, pinned by SHA-256; the wheel is only read, never installed or run."""

    asset: PackageAsset  # the file inside the wheel

    def __post_init__(self) -> None:
        """Refuse an asset that names no file, or one that cannot be read."""
        if self.asset.path is None:
            raise Refusal("asset", "names no file inside the wheel: set asset.path")
        if fault := _unknown_ending(self.asset.path):
            raise Refusal("asset", fault)

    def file(self, cache_path: Path) -> Path:
        """The verified file from inside the wheel."""
        return self.asset.extract(cache_path)

    def input(self, cache_path: Path) -> Input:
        """The file as the run's record names it."""
        return self.asset.input(self.file(cache_path))


@component
class FileBenchmark(Benchmark):
    """A benchmark in a local file."""

    path: Annotated[str, Field(min_length=1)]  # the file, relative to here

    def __post_init__(self) -> None:
        """Refuse a file whose ending tells no format."""
        if fault := _unknown_ending(self.path):
            raise Refusal("path", fault)

    def location_fields(self) -> set[str]:
        """The path: a file is known by its bytes."""
        return {"path"}

    def problems(self) -> Iterator[Problem]:
        """A file that is not there."""
        path = Path(self.path).expanduser()
        if path.is_file():
            return
        if path.exists():
            yield Problem(key="path", value=self.path, reason="is a folder where a file is expected")
            return
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        close = nearest(path.name, siblings)
        suggestion = str(Path(self.path).parent / close) if close else None
        yield Problem(key="path", value=self.path, reason="there is no such file", suggestion=suggestion)

    def file(self, cache_path: Path) -> Path:
        """The path."""
        return Path(self.path).expanduser()

    def input(self, cache_path: Path) -> Input:
        """The file's name, SHA-256 and size."""
        return file_input(self.file(cache_path))


def _ending(path: str) -> str:
    return Path(path.casefold().removesuffix(".gz")).suffix


def _unknown_ending(path: str) -> str | None:
    if _ending(path) in ENDINGS:
        return None
    return f"the ending of {path} tells no format (known: {', '.join(ENDINGS)}, and those with .gz)"


def _rows(file: Path) -> Iterator[tuple[Any, str]]:
    """The rows of a file, each with the place that it was read from."""
    try:
        is_compressed = file.suffix.casefold() == ".gz"
        with cast(IO[bytes], gzip.open(file) if is_compressed else file.open("rb")) as stream:
            yield from _decoded(stream, file)
    except UnicodeDecodeError as error:
        raise InstructLabError(
            f"The file is not UTF-8 text ({error.reason})", where=str(file), do="Convert it to UTF-8"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InstructLabError(
            f"The file cannot be read to its end ({reason})", where=str(file), do="Check the path, or bring it again"
        ) from error


def _decoded(stream: IO[bytes], file: Path) -> Iterator[tuple[Any, str]]:
    if _ending(file.name) == ".json":
        rows = _json(stream.read(), str(file))
        if not isinstance(rows, list):
            raise InstructLabError(f"A list of rows was expected and {type(rows).__name__} found", where=str(file))
        for number, row in enumerate(rows, start=1):
            yield row, f"{file}, row {number}"
        return
    is_text = _ending(file.name) == ".txt"
    for number, line in enumerate(stream, start=1):
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if line.strip():
            where = f"{file}, line {number}"
            yield (line.decode().rstrip("\r\n") if is_text else _json(line, where)), where


def _json(encoded: bytes, where: str) -> Any:
    try:
        return json.loads(encoded.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, character {error.colno}"
        raise InstructLabError(f"This is no JSON ({error.msg}, {place})", where=where) from error
    except RecursionError as error:
        raise InstructLabError("The JSON is nested too deeply", where=where) from error


def _texts(value: Any, where: str) -> Iterator[str]:
    """The text of a column, or its texts; none of null."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, where)
    elif value is not None:
        raise InstructLabError(
            f"Text was expected and {type(value).__name__} found: {value!r:.60}", where=where, do="Name another column"
        )

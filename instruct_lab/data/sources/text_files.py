"""A source of text files, with one row for each document, paragraph or line."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, Literal

from pydantic import Field

from instruct_lab.assets import Input, file_input
from instruct_lab.config import component
from instruct_lab.data.audit import Audit
from instruct_lab.data.sources.base import BrokenRow, Row, Source
from instruct_lab.data.sources.file_formats import wrap_read_errors
from instruct_lab.data.sources.files import Files, expand_folders
from instruct_lab.errors import InstructLabError, Problem, Refusal
from instruct_lab.files import open_regular

CHUNK_CHARACTERS = 1 << 16
PARAGRAPH_END = re.compile(r"\n[ \t\r]*\n\s*")
LINE_END = re.compile(r"\n")
BREAKS = (PARAGRAPH_END, LINE_END, re.compile(r"[.!?]\s+|[。！？]"), re.compile(r"\s"))
"""Patterns after which a text that is too long is cut, in order of preference."""


@component
class TextFiles(Source):
    """Text files: each row is a document, a paragraph or a line; long texts are cut to bound the use of memory.

    A text longer than `max_characters` is cut at the last end of a paragraph before this limit, or else at the last end
    of a line, a sentence or a word. White space at the cut belongs to the part before the cut, so joining the parts of
    a document restores the document. The columns are text, file (the name of the file) and part (1 for the first row of
    a file, 2 for the second, and so on). A file that does not have the configured encoding becomes a broken row.
    """

    path: (
        Annotated[str, Field(min_length=1)] | Annotated[list[str], Field(min_length=1)]
    )  # folder (its *.txt files), files, patterns
    unit: Literal["document", "paragraph", "line"] = "document"  # the text of a row; paragraphs end at empty lines
    max_characters: Annotated[int, Field(ge=1)] = 100_000  # maximum length of a row; longer texts become several rows
    encoding: Annotated[str, Field(min_length=1)] = "utf-8"  # encoding of the files in Python's names: utf-8, gb18030

    def __post_init__(self) -> None:
        """Refuse an encoding that Python does not know or that does not encode text, such as `base64`."""
        try:
            is_text = codecs.lookup(self.encoding)._is_text_encoding
        except (LookupError, ValueError):
            is_text = False
        if not is_text:
            raise Refusal("encoding", "is no encoding of text", "utf-8")

    def inputs(self, cache_path: Path) -> list[Input]:
        """Return every file, with the SHA-256 of its bytes.

        Raises:
            InstructLabError: no file matches, or a file cannot be read.
        """
        return [file_input(file) for file in self._files().files()]

    def rows(self, cache_path: Path, audit: Audit, stage: str) -> Iterator[Row | BrokenRow]:
        """Yield the texts of all files; little more than `max_characters` characters are in memory at a time.

        Raises:
            InstructLabError: no file matches, or a file cannot be opened.
        """
        for file in self._files().files():
            number = 0
            with wrap_read_errors(file):
                try:
                    for text in self._texts(file):
                        number += 1
                        yield Row({"text": text, "file": file.name, "part": number}, f"{file}, {self.unit} {number}")
                except UnicodeError as error:
                    where = f"{file}, after {self.unit} {number}" if number else str(file)
                    what = f"The file is not {self.encoding} text ({getattr(error, 'reason', error)})"
                    yield BrokenRow(InstructLabError(what, where=where, do="Convert it, or set encoding"))
                    continue
                if not number:
                    audit.record(stage, "dropped", "file without text", file.name)

    def location_fields(self) -> set[str]:
        """Return `path`, the field that says where the files are.

        Keys of the data cache leave it out, and depend on the content of the files instead.
        """
        return {"path"}

    def known_columns(self) -> list[str]:
        """Return the names of the columns that every row has."""
        return ["text", "file", "part"]

    def problems(self) -> Iterator[Problem]:
        """Report each path that matches no file, and each file that cannot be opened."""
        yield from self._files().problems()

    def _files(self) -> Files:
        return Files(path=expand_folders(self.path, "txt"), file_format="jsonl")

    def _texts(self, file: Path) -> Iterator[str]:
        encoding = "utf-8-sig" if codecs.lookup(self.encoding).name == "utf-8" else self.encoding
        ends = {"document": None, "paragraph": PARAGRAPH_END, "line": LINE_END}[self.unit]
        with io.TextIOWrapper(open_regular(file), encoding=encoding) as stream:
            for text in _split_text(stream, ends, self.max_characters):
                if ends is not None:
                    text = text.strip("\n") if self.unit == "line" else text.strip()
                if text.strip():
                    yield text


def _split_text(stream: IO[str], ends: re.Pattern[str] | None, max_characters: int) -> Iterator[str]:
    """Split a text into parts of at most `max_characters` characters; joining the parts restores the text.

    Args:
        stream: the text.
        ends: pattern after whose matches the text is split, such as line breaks; `None` splits it only where a part
            would become too long.
        max_characters: maximum length of a part.
    """
    buffer, has_more = "", True
    while has_more or buffer:
        while has_more and len(buffer) <= max_characters:
            chunk = stream.read(max(CHUNK_CHARACTERS, max_characters + 1 - len(buffer)))
            buffer, has_more = buffer + chunk, bool(chunk)
        start = 0
        while start < len(buffer) and (not has_more or len(buffer) - start > max_characters):
            end = _find_end(buffer, start, ends, max_characters, is_last=not has_more)
            yield buffer[start:end]
            start = end
        buffer = buffer[start:]


def _find_end(text: str, start: int, ends: re.Pattern[str] | None, max_characters: int, is_last: bool) -> int:
    """Find the end of one part when a text is split into parts.

    Args:
        text: as much of the text as has been read.
        start: position in `text` at which the part begins.
        ends: pattern after whose matches the text is split; `None` splits it only where a part would become too long.
        max_characters: maximum length of a part.
        is_last: whether `text` reaches to the end of the whole text.
    """
    limit = start + max_characters
    match = ends.search(text, start, limit + CHUNK_CHARACTERS // 64) if ends is not None else None
    if match is not None and match.start() <= limit:
        return min(match.end(), limit)
    if is_last and len(text) <= limit:
        return len(text)
    for pattern in BREAKS:
        if (end := _find_last(pattern, text, start, limit)) is not None:
            return end
    return limit


def _find_last(pattern: re.Pattern[str], text: str, start: int, limit: int) -> int | None:
    """Return the end of a pattern's last match between `start` and `limit`, or `None` if there is no match."""
    if pattern.pattern.startswith(r"\n") and text.find("\n", start, limit) < 0:
        return None
    width = 256
    while True:
        end = None
        for match in pattern.finditer(text, max(start, limit - width), limit):
            end = match.end()
        if end is not None or limit - width <= start:
            return end
        width *= 8

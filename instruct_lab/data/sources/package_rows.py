"""Two sources that read data files inside a Python wheel: `PackageRows` (JSON lines) and `Dialogues` (YAML).

The wheel has a fixed version and SHA-256. It is opened as an archive: it is not installed, and none of its code is run.
"""

from __future__ import annotations

import fnmatch
import gzip
import json
import string
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from instruct_lab.assets import Input, PackageAsset
from instruct_lab.config import component
from instruct_lab.data.audit import Audit
from instruct_lab.data.sources.base import BrokenRow, Row, Source
from instruct_lab.errors import InstructLabError, Problem, Refusal


@component
class PackageRows(Source):
    """The rows of a JSON-lines file (plain or gzip) inside a Python wheel.

    `add` can define additional columns, each by a pattern with the names of other columns in braces.
    """

    asset: PackageAsset  # the wheel, and the file's path inside it
    add: dict[str, str] = Field(default_factory=dict)  # additional columns as patterns, for example {input: "{prompt}"}

    def __post_init__(self) -> None:
        """Refuse a config in which `asset`, the reference to the wheel, does not name a file inside the wheel."""
        if self.asset.path is None:
            raise Refusal("asset.path", "names no file inside the wheel")

    def inputs(self, cache_path: Path) -> list[Input]:
        """Return the file inside the wheel as the only input.

        Raises:
            InstructLabError: the file cannot be downloaded.
        """
        return [self.asset.input(self.asset.extract(cache_path))]

    def rows(self, cache_path: Path, audit: Audit, stage: str) -> Iterator[Row | BrokenRow]:
        """Yield the file's rows, each with the additional columns that `add` defines.

        Raises:
            InstructLabError: the file cannot be downloaded or read.
        """
        file = self.asset.extract(cache_path)
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                where = f"{self.asset.name}, line {number}"
                try:
                    columns = json.loads(line)
                    columns |= {name: pattern.format_map(columns) for name, pattern in self.add.items()}
                except (ValueError, TypeError, KeyError) as error:
                    what = f"The row cannot be read ({type(error).__name__}: {error})"
                    yield BrokenRow(InstructLabError(what, where=where, do="Correct the patterns of add"))
                    continue
                yield Row(columns, where)

    def problems(self) -> Iterator[Problem]:
        """Report each pattern of `add` (the additional columns) whose braces do not match."""
        for name, pattern in self.add.items():
            try:
                list(string.Formatter().parse(pattern))
            except ValueError as error:
                yield Problem(key=f"add.{name}", value=pattern, reason=f"is not a pattern ({error})")


@component
class Dialogues(Source):
    """Dialogues from YAML files inside a wheel: each file has a list `conversations` of lists of turns.

    User and assistant alternate; a user's turn at the end of a dialogue is dropped. Only the first of several equal
    dialogues is kept. Turns that YAML reads as numbers or dates are converted to text.
    """

    keeps_one_of_equal_rows = True

    asset: PackageAsset  # the wheel
    patterns: Annotated[list[str], Field(min_length=1)] = Field(
        default_factory=lambda: ["*.yml", "*.yaml"]
    )  # files inside the wheel

    def inputs(self, cache_path: Path) -> list[Input]:
        """Return the wheel as the only input.

        Raises:
            InstructLabError: the wheel cannot be downloaded.
        """
        return [self.asset.input(self.asset.fetch(cache_path))]

    def known_columns(self) -> list[str]:
        """Return the names of the columns that every dialogue has."""
        return ["messages", "file"]

    def rows(self, cache_path: Path, audit: Audit, stage: str) -> Iterator[Row | BrokenRow]:
        """Yield one row for each dialogue, with the columns messages and file.

        Raises:
            InstructLabError: the wheel cannot be downloaded, or contains no file that matches `patterns`.
        """
        import yaml

        with zipfile.ZipFile(self.asset.fetch(cache_path)) as archive:
            names = [name for name in sorted(archive.namelist()) if self._matches(name)]
            if not names:
                raise InstructLabError(
                    f"The wheel has no file that matches {', '.join(self.patterns)}", where=self.asset.name
                )
            for name in names:
                try:
                    found = yaml.safe_load(archive.read(name).decode("utf-8"))["conversations"]
                except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError) as error:
                    yield BrokenRow(InstructLabError(f"The file has no dialogues ({error})", where=name))
                    continue
                for number, turns in enumerate(found, start=1):
                    yield _dialogue(turns, name, f"{self.asset.name}, {name}, dialogue {number}", audit, stage)

    def _matches(self, name: str) -> bool:
        return any(fnmatch.fnmatch(name, pattern) for pattern in self.patterns)


def _dialogue(turns: Any, file: str, where: str, audit: Audit, stage: str) -> Row | BrokenRow:
    if not isinstance(turns, list) or len(turns) < 2:
        return BrokenRow(InstructLabError("A dialogue of two turns or more was expected", where=where))
    if len(turns) % 2:
        audit.record(stage, "changed", "last turn without an answer dropped", str(turns[-1]))
        turns = turns[:-1]
    messages = [{"role": ("user", "assistant")[index % 2], "content": str(turn)} for index, turn in enumerate(turns)]
    return Row({"messages": messages, "file": file}, where)

"""A source of data sets on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.assets import Input
from instruct_lab.config import component
from instruct_lab.data.audit import Audit
from instruct_lab.data.sources.base import BrokenRow, Row, Source
from instruct_lab.data.sources.row_stream import RowStream, SourcePosition
from instruct_lab.errors import InstructLabError, Refusal, one_line
from instruct_lab.hub import PINNED
from instruct_lab.progress import advance, stage


@component
class HubDataSet(Source):
    """A data set on the Hugging Face Hub, read by `datasets` through its own cache (`HF_HOME`)."""

    fields_about: ClassVar = {"revision": ("repository",), "configuration": ("repository",)}

    repository: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")]  # owner/name
    revision: Annotated[str, Field(min_length=1)]  # commit (40 hex digits: pinned), tag or branch
    configuration: str | None = None  # named subset, if the repository has several
    split: Annotated[str, Field(min_length=1)] = "train"  # the Hub's split to read, or a slice such as train[:100]
    streaming: bool = False  # read rows over the network on demand instead of downloading all; requires max_rows

    def __post_init__(self) -> None:
        """Refuse streaming without a pinned commit or without `max_rows`."""
        if self.streaming and not PINNED.fullmatch(self.revision):
            raise Refusal(
                "revision", "must be a commit (40 hex digits) with streaming, since its rows have no checksum"
            )
        if self.streaming and self.max_rows is None:
            raise Refusal("max_rows", "must be set with streaming: how many rows to read")

    def inputs(self, cache_path: Path) -> list[Input]:
        """Return the data set as one input, identified by the SHA-256 of its rows as JSON lines.

        The hash changes if `revision` is a branch and its rows change. For a pinned commit, it is computed once. With
        `streaming`, the name and the commit of the data set are hashed instead of the rows.

        Raises:
            InstructLabError: the Hub cannot be reached, or has no such data set, revision, subset or split.
        """
        name = "/".join(part for part in (self.repository, self.configuration, self.split) if part)
        name = f"{name}@{self.revision}"
        named = hashlib.sha256(name.encode()).hexdigest()
        if self.streaming:
            return [Input(f"{name} (streamed)", named, 0)]
        known = cache_path / "hub" / f"{named}.json"
        if PINNED.fullmatch(self.revision) and known.is_file():
            content = json.loads(known.read_text(encoding="utf-8"))
            return [Input(name, content["sha256"], content["bytes"])]
        digest, size = hashlib.sha256(), 0
        for columns in self._load():
            line = json.dumps(columns, sort_keys=True, ensure_ascii=False, default=str) + "\n"
            encoded = line.encode("utf-8", "surrogatepass")
            digest.update(encoded)
            size += len(encoded)
            advance()
        if PINNED.fullmatch(self.revision):
            known.parent.mkdir(parents=True, exist_ok=True)
            temporary = known.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps({"name": name, "sha256": digest.hexdigest(), "bytes": size}))
            temporary.replace(known)
        return [Input(name, digest.hexdigest(), size)]

    def rows(self, cache_path: Path, audit: Audit, stage: str) -> Iterator[Row | BrokenRow]:
        """Yield every row, from the data set's memory-mapped files or as a stream.

        Raises:
            InstructLabError: the Hub cannot be reached, or has no such data set, revision, subset or split.
        """
        yield from self._named(self._load())

    def stream(self, cache_path: Path, position: SourcePosition) -> RowStream:
        """Return a stream of all rows after a position.

        With `streaming`, the data set's shards (files) before the position are not read again.

        Args:
            cache_path: folder for downloads.
            position: a position that an earlier stream returned; an empty dictionary means the beginning.
        """
        if not self.streaming:
            return super().stream(cache_path, position)
        opened: list[Any] = []
        start, state = int(position.get("row", 0)), position.get("datasets")
        rows = self._load(state, opened)

        def reached() -> SourcePosition:
            return {"datasets": opened[0].state_dict() if opened else state}

        return RowStream(self._named(rows, start), start, reached)

    def _named(self, rows: Iterator[dict[str, Any]], start: int = 0) -> Iterator[Row | BrokenRow]:
        for number, columns in enumerate(rows, start=start + 1):
            yield Row(columns, f"{self.repository}, split {self.split}, row {number}", has_padding=True)

    def _load(self, state: Any = None, opened: list[Any] | None = None) -> Iterator[dict[str, Any]]:
        """Yield the rows of the data set.

        Args:
            state: a state that a stream of the library `datasets` returned earlier, from which reading continues;
                `None`: reading begins at the first row.
            opened: list to which the opened data set is appended, so that the caller can ask it how far it was read.

        Raises:
            InstructLabError: the Hub cannot be reached, or has no such data set, revision, subset or split.
        """
        import datasets

        options: dict[str, Any] = {"streaming": True} if self.streaming else {}
        try:
            datasets.disable_progress_bars()
            with stage(f"loading {self.repository} from the Hub or its cache"):
                rows = datasets.load_dataset(
                    self.repository, self.configuration, split=self.split, revision=self.revision, **options
                )
            if opened is not None:
                opened.append(rows)
            if state is not None:
                rows.load_state_dict(state)
            yield from rows
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            unreachable = isinstance(error, ConnectionError)
            what = "The Hub cannot be reached" if unreachable else "The data set cannot be loaded"
            raise InstructLabError(
                f"{what} ({one_line(error, 400)})",
                where=f"{self.repository}, revision {self.revision}",
                do="Check the network, or download it on a machine with network access and copy the cache (HF_HOME)"
                if unreachable
                else "Check repository, revision, configuration, split and your access to it",
            ) from error

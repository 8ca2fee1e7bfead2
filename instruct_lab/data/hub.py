"""Rows from a data set on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from instruct_lab.assets import Input
from instruct_lab.config import component
from instruct_lab.data.audit import Audit
from instruct_lab.data.source import Row, Rows, Source
from instruct_lab.errors import InstructLabError


@component
class HubDataSet(Source):
    """A data set on the Hugging Face Hub, read by `datasets` through its own cache (`HF_HOME`)."""

    repository: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")]  # owner/name
    revision: Annotated[str, Field(min_length=1)]  # commit (40 hex digits: pinned), tag or branch
    configuration: str | None = None  # named subset, where the repository has several
    split: Annotated[str, Field(min_length=1)] = "train"  # the Hub's split to read; slices such as train[:100] work

    def read(self, cache_path: Path, audit: Audit, stage: str) -> Rows:
        """Download (or take from the cache) and read every row.

        The input's checksum is over the rows as JSON lines, so that a moved branch shows in the record.

        Raises:
            InstructLabError: the Hub cannot be reached, or has no such data set, revision, subset or split.
        """
        rows, digest, size = [], hashlib.sha256(), 0
        for number, columns in enumerate(self._load(), start=1):
            line = json.dumps(columns, sort_keys=True, ensure_ascii=False, default=str) + "\n"
            encoded = line.encode("utf-8", "surrogatepass")
            digest.update(encoded)
            size += len(encoded)
            rows.append(Row(columns, f"{self.repository}, split {self.split}, row {number}"))
        name = "/".join(part for part in (self.repository, self.configuration, self.split) if part)
        return Rows(rows, [Input(f"{name}@{self.revision}", digest.hexdigest(), size)])

    def _load(self) -> Iterator[dict[str, Any]]:
        import datasets

        try:
            loaded = datasets.load_dataset(
                self.repository, self.configuration, split=self.split, revision=self.revision
            )
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            reason = " ".join(str(error).split())[:400]
            unreachable = isinstance(error, ConnectionError)
            raise InstructLabError(
                f"{'The Hub cannot be reached' if unreachable else 'The data set cannot be loaded'} ({reason})",
                where=f"{self.repository}, revision {self.revision}",
                do="Check the network, or download it once where there is one and copy the cache (HF_HOME)"
                if unreachable
                else "Check repository, revision, configuration, split and your access to it",
            ) from error
        yield from loaded

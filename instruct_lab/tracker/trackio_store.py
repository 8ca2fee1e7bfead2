"""The SQLite files of trackio, written to directly.

trackio's own `init` keeps to the user's home, prints, starts threads and swallows a full disk as a warning. What it
calls in the end, as its `import_csv` does, is used here instead: so a failure is seen, and a run keeps its id.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

HUB_VARIABLES = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID", "TRACKIO_DATASET_ID")
"""Each would have trackio talk to a server."""
STAMP = "_Record"
"""The setting that says which state of its record a run was imported from; trackio hides such names."""


def open_folder(folder: Path) -> Any:
    """trackio's storage, in this folder and with no server behind it."""
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for name in HUB_VARIABLES:
        os.environ.pop(name, None)
    os.environ["TRACKIO_DIR"] = str(folder)
    from trackio import sqlite_storage, utils

    if folder != utils.TRACKIO_DIR:  # it was imported for another folder, and reads the variable only then
        moved = {"TRACKIO_DIR": folder, "MEDIA_DIR": folder / "media", "ARTIFACTS_DIR": folder / "artifacts"}
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == "trackio":
                for constant in moved.keys() & vars(module).keys():
                    setattr(module, constant, moved[constant])
    return sqlite_storage.SQLiteStorage


class StoredRun:
    """One run in a project's file.

    Args:
        folder: where trackio keeps its files.
        project: the project that the run is listed under.
        run_id: the record's id.
        name: what the run is shown as.
    """

    def __init__(self, folder: Path, project: str, run_id: str, name: str) -> None:
        self.storage = open_folder(folder)
        self.project, self.run_id, self.name = project, run_id, name
        self.config: dict[str, Any] | None = None
        self.waiting: list[tuple[dict[str, Any], int, str]] = []

    @property
    def stamp(self) -> str | None:
        """The state of the record that the run was imported from; none where it was not."""
        config = self.storage.get_run_config(self.project, self.name, run_id=self.run_id) or {}
        return config.get(STAMP)

    def begin(self, settings: Mapping[str, Any], group: str, started: datetime, stamp: str | None = None) -> None:
        """Forget what is known of the run, and say what it is."""
        self.storage.delete_run(self.project, self.name, run_id=self.run_id)
        shown = {key: value for key, value in settings.items() if not key.startswith("_")}
        own = {"_Created": started.isoformat(), "_Group": group, "_Username": None, STAMP: stamp}
        self.config = {**shown, **own}

    def add(self, values: Mapping[str, Any], step: int, at: datetime) -> None:
        """Values for the next write."""
        self.waiting.append((dict(values), step, at.isoformat()))

    def add_table(
        self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int, at: datetime
    ) -> None:
        """A table for the next write."""
        from trackio import Table

        lines = [dict(zip(columns, map(_cell, row), strict=True)) for row in rows]
        self.add({name: {"_type": Table.TYPE, "_value": lines}}, step, at)

    def write(self) -> None:
        """Write all that waits, at once or not at all."""
        if not self.waiting:
            return
        values, steps, times = (list(column) for column in zip(*self.waiting, strict=True))
        self.storage.bulk_log(
            self.project, self.name, values, steps=steps, timestamps=times, config=self.config, run_id=self.run_id
        )
        self.config, self.waiting = None, []


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float) else str(value)

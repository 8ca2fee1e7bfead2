"""Write trackio's SQLite files through its storage class.

trackio's own functions for writing have disadvantages. `init` prints text, starts threads and only warns if the disk is
full. `import_csv` can only import a whole project at once, and only numbers. Both functions use the storage class,
which raises exceptions on failure and keeps the ids of the runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from instruct_lab.errors import InstructLabError
from instruct_lab.tracker.values import plain_cell

HUB_VARIABLES = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID", "TRACKIO_DATASET_ID")
"""Environment variables that make trackio send its data to a server."""
STAMP = "_Record"
"""Key under which a run's settings hold the text `stamp`; trackio hides keys that begin with an underscore."""


def open_folder(folder: Path) -> Any:
    """Return trackio's storage class, set up to use a folder and no server.

    trackio reads its folder from the environment when it is imported, so a process can use only one folder.

    Raises:
        InstructLabError: this process already uses another folder.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for name in HUB_VARIABLES:
        os.environ.pop(name, None)
    os.environ["TRACKIO_DIR"] = str(folder)
    from trackio import sqlite_storage, utils

    if folder != utils.TRACKIO_DIR.absolute():
        raise InstructLabError(
            f"This process already uses trackio with the folder {utils.TRACKIO_DIR}",
            where=str(folder),
            do="Start a process of its own for each runs_path",
        )
    return sqlite_storage.SQLiteStorage


class StoredRun:
    """A run in the SQLite file of one of trackio's projects.

    Args:
        folder: folder of trackio's files.
        project: the project that the run belongs to.
        run_id: id of the run's record.
        name: the run's name in the dashboard.
    """

    def __init__(self, folder: Path, project: str, run_id: str, name: str) -> None:
        self.storage = open_folder(folder)
        self.project, self.run_id, self.name = project, run_id, name
        self.config: dict[str, Any] | None = None
        self.pending: list[tuple[dict[str, Any], int, str]] = []

    @property
    def stamp(self) -> str | None:
        """The text that identifies the state of the record when it was imported; `None` if the run was not imported."""
        config = self.storage.get_run_config(self.project, self.name, run_id=self.run_id) or {}
        return config.get(STAMP)

    def begin(self, settings: Mapping[str, Any], group: str, started: datetime, stamp: str | None = None) -> None:
        """Delete what is stored of the run, and set the settings that the next call of `write` stores.

        Args:
            settings: the run's settings.
            group: the group that the dashboard lists the run under.
            started: the time at which the run started.
            stamp: a text that identifies the state of the imported record; `None` if the run is not imported.
        """
        self.storage.delete_run(self.project, self.name, run_id=self.run_id)
        public = {key: value for key, value in settings.items() if not key.startswith("_")}
        own = {"_Created": started.isoformat(), "_Group": group, "_Username": None, STAMP: stamp}
        self.config = {**public, **own}

    def add(self, values: Mapping[str, Any], step: int, at: datetime) -> None:
        """Keep values in memory until the next call of `write`."""
        self.pending.append((dict(values), step, at.isoformat()))

    def add_table(
        self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int, at: datetime
    ) -> None:
        """Keep a table in memory until the next call of `write`."""
        from trackio import Table

        lines = [dict(zip(columns, map(plain_cell, row), strict=True)) for row in rows]
        self.add({name: {"_type": Table.TYPE, "_value": lines}}, step, at)

    def write(self) -> None:
        """Write all values and tables that were added since the last call, in one transaction.

        The first write after `begin` also stores the settings. If nothing was added, nothing is written.
        """
        if not self.pending:
            return
        values, steps, times = (list(column) for column in zip(*self.pending, strict=True))
        self.storage.bulk_log(
            self.project, self.name, values, steps=steps, timestamps=times, config=self.config, run_id=self.run_id
        )
        self.config, self.pending = None, []

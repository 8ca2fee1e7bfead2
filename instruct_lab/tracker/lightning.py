"""Loggers of Lightning as trackers: the same values, final values and tables as every other tracker receives."""

from __future__ import annotations

import csv
import html
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instruct_lab.config import ExternalClass
from instruct_lab.tracker.base import TrackerSession, shown
from instruct_lab.tracker.values import Scalar, flat_config

if TYPE_CHECKING:
    from instruct_lab.records.record import RunRecord

INTERRUPTED = 130
MARKDOWN = re.compile(r"([\\`*_\[\]#~])")


def connect(
    tracker: ExternalClass, name: str, record: RunRecord, config: Mapping[str, Any], tags: list[str], group: str
) -> TrackerSession:
    """Begin to send a run to a logger of Lightning; may raise whatever its library raises.

    Args:
        tracker: the logger's class and arguments; `{run_path}`, `{run_id}`, `{run_name}`, `{runs_path}` and `{group}`
            in texts are filled in.
        name: its key in the config.
        record: the run's own record.
        config: the whole config, resolved.
        tags: what the run is found by.
        group: the study or sweep that it belongs to.
    """
    kind = KINDS.get(tracker.target.rpartition(".")[2], LightningSession)
    places = {
        "run_path": str(record.path),
        "runs_path": str(record.path.parent.parent),
        "run_name": record.name,
        "run_id": record.id,
        "group": group,
    }
    logger = tracker.build(run=places, **kind.arguments(name, record))
    session = kind(logger, name, record, flat_config(config))
    session.begin(tags, group)
    return session


class LightningSession(TrackerSession):
    """A run that a logger of Lightning is receiving.

    Args:
        logger: Lightning's logger.
        name: its key in the config.
        record: the run's own record.
        settings: the config by full keys.
    """

    def __init__(self, logger: Any, name: str, record: RunRecord, settings: dict[str, Scalar]) -> None:
        self.logger, self.name, self.record, self.settings = logger, name, record, settings
        self.step = 0

    @classmethod
    def arguments(cls, name: str, record: RunRecord) -> dict[str, Any]:
        """Arguments of the logger beside the config's."""
        return {}

    def begin(self, tags: list[str], group: str) -> None:
        """Say what the run is."""
        self.logger.log_hyperparams(self.settings)

    def log(self, values: dict[str, float], step: int) -> None:
        """Pass values on at an optimizer step."""
        self.logger.log_metrics(values, step=step)
        self.step = step

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Pass a table on, if the logger takes tables."""
        if hasattr(self.logger, "log_table"):
            self.logger.log_table(name, columns=list(columns), data=[list(row) for row in rows])

    def summarize(self, values: dict[str, Any]) -> None:
        """Log the run's final values at its last step."""
        self.logger.log_metrics(values, step=self.step)

    def finish(self, exit_code: int) -> None:
        """Close the run."""
        self.logger.finalize("success" if exit_code == 0 else "failed")

    def where(self) -> str | None:
        """Nothing is known of how to see the run."""
        return None


class CSVSession(LightningSession):
    """Tables stand as CSV files beside `metrics.csv`."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Pass values on; a run that goes on brings its earlier ones, since Lightning begins the file anew."""
        if self.step == 0:
            for line in self.record.read_metrics()[:-1]:  # the last one is what is logged here
                earlier = {key: value for key, value in line.items() if key not in ("step", "epoch", "seconds")}
                self.logger.log_metrics(earlier, step=int(line["step"]))
        super().log(values, step)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write a file of its own."""
        folder = Path(self.logger.log_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{name}.csv").open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            csv.writer(file).writerows([columns, *rows])


class TensorBoardSession(LightningSession):
    """The settings stand with the final values, as the HParams page wants them; tables stand as text."""

    def begin(self, tags: list[str], group: str) -> None:
        """Nothing yet: TensorBoard takes the settings once, with the final values."""

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Pass a table on as Markdown."""
        lines = [columns, ["---"] * len(columns), *([_markdown(cell) for cell in row] for row in rows)]
        self.logger.experiment.add_text(name, "\n".join(f"| {' | '.join(line)} |" for line in lines), self.step)

    def summarize(self, values: dict[str, Any]) -> None:
        """Write the settings with the final values."""
        self.logger.log_hyperparams(self.settings, metrics=values, step=self.step)

    def where(self) -> str | None:
        """How to see all runs."""
        return f"see it: tensorboard --logdir {shown(Path(self.logger.root_dir))}"


class MLflowSession(LightningSession):
    """Tags tell the group and the chosen options; tables stand as artifacts; a resumed run keeps its id."""

    @classmethod
    def arguments(cls, name: str, record: RunRecord) -> dict[str, Any]:
        """The id under which MLflow already knows a resumed run."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        known = record.manifest.trackers.get(name)
        return {"run_id": known} if known else {}

    def begin(self, tags: list[str], group: str) -> None:
        """Tell settings and tags, and keep MLflow's id of the run."""
        told = {"group": group, **dict(tag.split("=", 1) for tag in tags if "=" in tag)}
        for key, value in told.items():
            self.client.set_tag(self.run_id, _mlflow_name(key), value)
        self.logger.log_hyperparams({_mlflow_name(key): value for key, value in self.settings.items()})
        self.record.write_manifest(trackers={**self.record.manifest.trackers, self.name: self.run_id})

    @property
    def client(self) -> Any:
        """MLflow's client."""
        return self.logger.experiment

    @property
    def run_id(self) -> str:
        """MLflow's id of the run."""
        return str(self.logger.run_id)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Keep a table as an artifact, once."""
        file = f"{name}.json"
        if file not in {artifact.path for artifact in self.client.list_artifacts(self.run_id)}:
            cells = zip(*rows, strict=True)
            self.client.log_table(self.run_id, dict(zip(columns, map(list, cells), strict=True)), file)

    def finish(self, exit_code: int) -> None:
        """Close the run."""
        self.logger.finalize("KILLED" if exit_code >= INTERRUPTED else "success" if exit_code == 0 else "failed")

    def where(self) -> str | None:
        """How to see all runs."""
        uri = str(self.client.tracking_uri)
        return uri if uri.startswith("http") else f"see it: mlflow ui --backend-store-uri {uri}"


KINDS: dict[str, type[LightningSession]] = {
    "CSVLogger": CSVSession,
    "TensorBoardLogger": TensorBoardSession,
    "MLFlowLogger": MLflowSession,
}
"""What is special about a logger, by the name of its class."""


def _markdown(cell: Any) -> str:
    text = "" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else str(cell)
    shown = MARKDOWN.sub(r"\\\1", html.escape(text, quote=False)).replace("|", "&#124;")
    return "<br>".join(shown.splitlines())


def _mlflow_name(key: str) -> str:
    """MLflow refuses other characters in names."""
    return re.sub(r"[^\w\-. :/]", "_", key)[:250]

"""Use Lightning's loggers as trackers: a logger receives the same values and tables as every other tracker."""

from __future__ import annotations

import csv
import dataclasses
import html
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instruct_lab.config import ExternalClass
from instruct_lab.optional_packages import missing_reason
from instruct_lab.tracker.base import TrackerSession, short_path
from instruct_lab.tracker.names import options_of
from instruct_lab.tracker.values import Scalar, estimates_of, flat_config, tracker_names

if TYPE_CHECKING:
    from instruct_lab.records.record import RunRecord

INTERRUPTED = 129
MARKDOWN = re.compile(r"([\\`*_\[\]#~])")


def connect(
    tracker: ExternalClass, name: str, record: RunRecord, config: Mapping[str, Any], tags: list[str], group: str
) -> TrackerSession:
    """Open a session that sends a run to one of Lightning's loggers; exceptions of the logger's library are not caught.

    Args:
        tracker: the logger's class and arguments; in text arguments, the placeholders `{run_path}`, `{run_id}`,
            `{run_name}`, `{runs_path}` and `{group}` are filled in.
        name: the logger's key in the config.
        record: the run's record.
        config: the whole config, resolved.
        tags: tags of the run.
        group: the study or sweep that the run belongs to.
    """
    known = LOGGERS.get(tracker.target.rpartition(".")[2])
    session_class = known.session if known else LightningSession
    placeholders = {
        "run_path": str(record.path),
        "runs_path": str(record.path.parent.parent),
        "run_name": record.name,
        "run_id": record.id,
        "group": group,
    }
    logger = tracker.build(run=placeholders, **session_class.arguments(name, record))
    session = session_class(logger, name, record, flat_config(config))
    session.begin(tags, group)
    return session


class LightningSession(TrackerSession):
    """The connection of a run to a logger of Lightning.

    Args:
        logger: Lightning's logger.
        name: the logger's key in the config.
        record: the run's record.
        settings: the values of the config, with keys such as `tuning.r`.
    """

    def __init__(self, logger: Any, name: str, record: RunRecord, settings: dict[str, Scalar]) -> None:
        self.logger, self.name, self.record, self.settings = logger, name, record, settings
        self.step = 0

    @classmethod
    def arguments(cls, name: str, record: RunRecord) -> dict[str, Any]:
        """Return arguments for the logger's constructor in addition to those from the config."""
        return {}

    def begin(self, tags: list[str], group: str) -> None:
        """Send the run's settings to the logger as hyperparameters; tags and group are not used."""
        self.logger.log_hyperparams(self.settings)

    def log(self, values: dict[str, float], step: int) -> None:
        """Send values measured at an optimizer step to the logger."""
        self.logger.log_metrics(values, step=step)
        self.step = step

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Send a table to the logger if it has the method `log_table`."""
        if hasattr(self.logger, "log_table"):
            self.logger.log_table(name, columns=list(columns), data=[list(row) for row in rows])

    def summarize(self, values: dict[str, Any]) -> None:
        """Send the run's final values to the logger, at the last step for which it has received values."""
        self.logger.log_metrics(values, step=self.step)

    def finish(self, exit_code: int) -> None:
        """Close the run in the logger, with the status `success` or `failed`."""
        self.logger.finalize("success" if exit_code == 0 else "failed")

    def where(self) -> str | None:
        """Return `None`, because how to view the run depends on the logger."""
        return None


class CSVSession(LightningSession):
    """A session of `CSVLogger` that also writes tables, as CSV files in the folder of `metrics.csv`."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Write values measured at an optimizer step.

        Lightning starts a new file when a run is resumed, so the first call also writes the values from before the
        interruption.
        """
        if self.step == 0:
            estimates = estimates_of(self.record.config)
            for line in self.record.read_metrics()[:-1]:  # the last line is logged below
                earlier = {key: value for key, value in line.items() if key not in ("step", "epoch", "seconds")}
                self.logger.log_metrics(tracker_names(earlier, estimates), step=int(line["step"]))
        super().log(values, step)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write a table to a CSV file of its own."""
        folder = Path(self.logger.log_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{name}.csv").open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            csv.writer(file).writerows([columns, *rows])


class TensorBoardSession(LightningSession):
    """A session of `TensorBoardLogger`: tables become text, and the HParams page shows settings and final values."""

    def begin(self, tags: list[str], group: str) -> None:
        """Do nothing, because `summarize` writes the settings together with the final values."""

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Send a table to TensorBoard as text in Markdown."""
        lines = [columns, ["---"] * len(columns), *([_markdown_cell(cell) for cell in row] for row in rows)]
        self.logger.experiment.add_text(name, "\n".join(f"| {' | '.join(line)} |" for line in lines), self.step)

    def summarize(self, values: dict[str, Any]) -> None:
        """Send the settings together with the final values to TensorBoard's HParams page."""
        self.logger.log_hyperparams(self.settings, metrics=values, step=self.step)

    def where(self) -> str | None:
        """Return the command that shows all runs in TensorBoard."""
        return f"see it: tensorboard --logdir {short_path(Path(self.logger.root_dir))}"


class MLflowSession(LightningSession):
    """A session of `MLFlowLogger`: the study or sweep and the chosen options become tags, tables become artifacts."""

    @classmethod
    def arguments(cls, name: str, record: RunRecord) -> dict[str, Any]:
        """Return MLflow's id of the run as `run_id` if the run is resumed, so that MLflow continues that run."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        known = record.manifest.trackers.get(name)
        return {"run_id": known} if known else {}

    def begin(self, tags: list[str], group: str) -> None:
        """Send settings to MLflow, and write MLflow's id of the run to the record.

        The tags in MLflow are `group` and the chosen options; `tags` is not used.
        """
        values = {"group": group, **options_of(self.record.manifest.choices)}
        for key, value in values.items():
            self.client.set_tag(self.run_id, _mlflow_name(key), value)
        self.logger.log_hyperparams({_mlflow_name(key): value for key, value in self.settings.items()})
        self.record.write_manifest(trackers={**self.record.manifest.trackers, self.name: self.run_id})

    @property
    def client(self) -> Any:
        """The `MlflowClient` of the logger."""
        return self.logger.experiment

    @property
    def run_id(self) -> str:
        """MLflow's id of the run."""
        return str(self.logger.run_id)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Store a table as an artifact in MLflow, unless the run already has a table of this name there."""
        file = f"{name}.json"
        if file not in {artifact.path for artifact in self.client.list_artifacts(self.run_id)}:
            cells = zip(*rows, strict=True)
            self.client.log_table(self.run_id, dict(zip(columns, map(list, cells), strict=True)), file)

    def finish(self, exit_code: int) -> None:
        """Close the run in MLflow; its status becomes finished, failed or, after an interruption, killed."""
        self.logger.finalize("KILLED" if exit_code >= INTERRUPTED else "success" if exit_code == 0 else "failed")

    def where(self) -> str | None:
        """Return the address of the MLflow server; for data stored on disk, return the command that shows all runs."""
        uri = str(self.client.tracking_uri)
        return uri if uri.startswith("http") else f"see it: mlflow ui --backend-store-uri {uri}"


@dataclasses.dataclass(frozen=True)
class KnownLogger:
    """Properties of one of Lightning's loggers.

    Args:
        session: the class that connects a run to this logger.
        package: package that the logger needs in addition to Lightning; `None` if it needs none.
    """

    session: type[LightningSession] = LightningSession
    package: str | None = None


LOGGERS = {
    "CSVLogger": KnownLogger(CSVSession),
    "TensorBoardLogger": KnownLogger(TensorBoardSession, "tensorboard"),
    "MLFlowLogger": KnownLogger(MLflowSession, "mlflow"),
    "CometLogger": KnownLogger(package="comet_ml"),
    "NeptuneLogger": KnownLogger(package="neptune"),
}
"""Properties of the Lightning loggers that need a session class or a package of their own, keyed by class name."""


def missing_package(target: str) -> str | None:
    """Return a message that names the package which a logger lacks and how to install it; `None` if nothing is missing.

    Args:
        target: dotted name of the logger's class.
    """
    module, _, class_name = target.rpartition(".")
    known = LOGGERS.get(class_name)
    if not module.startswith("pytorch_lightning.") or known is None or known.package is None:
        return None
    return missing_reason(known.package)


def _markdown_cell(cell: Any) -> str:
    text = "" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else str(cell)
    escaped = MARKDOWN.sub(r"\\\1", html.escape(text, quote=False)).replace("|", "&#124;")
    return "<br>".join(escaped.splitlines())


def _mlflow_name(key: str) -> str:
    """Replace the characters that MLflow does not accept in names with underscores; cut the key to 250 characters."""
    return re.sub(r"[^\w\-. :/]", "_", key)[:250]

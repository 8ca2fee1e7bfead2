"""Define the content of the files in a run record, and parse these files.

Each dataclass defines the JSON object in one file or in a line of it. Records of other versions of instruct_lab are
readable too: a JSON key that the dataclass lacks is ignored, and a field whose JSON key is missing or has the value
`null` gets its default. A number that is not finite is written as `null`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from instruct_lab.files import OMIT_EMPTY
from instruct_lab.records.continuations import Continuation
from instruct_lab.records.entries import known_entries, parse_number

if TYPE_CHECKING:
    from instruct_lab.metrics import MetricValue

CONFIG = "config.yaml"
SETTINGS = "settings.json"
"""File with the settings at the start of the run that can change its results, keyed by full config key."""
REPRODUCTION = "reproduction.json"
"""File in the record of a reproduced run, with the comparison between its results and those of the recorded run."""
OVERRIDES = "overrides.yaml"
MANIFEST = "manifest.json"
AUDIT = "audit.json"
AUDIT_PAGE = "audit.html"
METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
PREDICTIONS = "predictions.jsonl"
VERDICTS = "verdicts.jsonl"
"""File of the verdicts of judges, which exists if a judge was asked."""
LOG = "log.txt"
CHECKPOINTS = "checkpoints"
RESULTS = {"before": "before.json", "after": "after.json"}
"""Files of the measurements before and after training, which hold the statistics of every example."""

Status = Literal["running", "finished", "failed", "interrupted", "pruned"]
"""The status of a run."""
STATUSES: tuple[Status, ...] = get_args(Status)
PROCESS_GONE = "process gone"
"""Note on an interrupted run whose recorded status is still `running`, because its process was killed."""

Stage = Literal["before", "after"]
BEFORE: Stage = "before"
"""Name of the measurement before training, and of the system that is measured: the base model."""
AFTER: Stage = "after"
"""Name of the measurement after training, and of the system that is measured: the tuned model."""
DIFFERENCE = "difference"
"""The tuned model's value minus the base model's, on the same examples."""

SPLITS = ("train", "validation", "test")
SHORT_NAMES = {"train": "train", "validation": "val", "test": "test"}
"""The first part of a metric's full name (`val/chrf`), keyed by split."""


def split_of(metric: str) -> str:
    """Return the split of a metric, given the metric's full name: `validation` for `val/chrf`."""
    short = metric.partition("/")[0]
    return next((split for split, known in SHORT_NAMES.items() if known == short), short)


def short_name(split: str) -> str:
    """Return the name of a split in metric names: `val` for `validation`; any other name is returned unchanged."""
    return SHORT_NAMES.get(split, split)


@dataclasses.dataclass(frozen=True)
class InputEntry:
    """The name, SHA-256 and size in bytes of one input: a file or package from which a run read its data or model."""

    name: str = ""
    sha256: str = ""
    bytes: int = 0


@dataclasses.dataclass(frozen=True)
class ExceptionEntry:
    """The exception that ended a failed run."""

    type: str = ""
    message: str = ""
    traceback: str = ""


@dataclasses.dataclass(frozen=True)
class SweepEntry:
    """Says which trial of which sweep a run is.

    Args:
        id: id of the sweep.
        point: index of the run's point, the combination of values that the run was started with.
        values: the values of the point, keyed by config key.
        seed: seed in the sweep's config, plus the index of the run among the runs of its point; `None` if unknown.
        metrics: the metrics by which the sweep compares its runs.
    """

    id: str = ""
    point: int = 0
    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    seed: int | None = None
    metrics: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`: the name and id of a run, its status, its environment and how training went.

    Args:
        id: id of the run.
        name: name of the run, the folder above its record.
        status: status of the run; `None` if its record was never completely created.
        started: time in UTC, in ISO 8601; `None` if the record was never completely created.
        ended: time in UTC, in ISO 8601; `None` while the run is running.
        seconds: duration of the run, without the time between an interruption and its resumption; `None` until the run
            has ended for the first time.
        exception: the exception that ended a failed run; `None` for any other run.
        code: git commit of instruct_lab's code and SHA-256 of its uncommitted changes; `None` without a git checkout.
        source_sha256: SHA-256 of the Python files of instruct_lab.
        packages: versions of instruct_lab and of its declared dependencies.
        environment: versions of all installed packages.
        python: version of Python.
        platform: the operating system.
        hardware: processors, memory and GPUs.
        choices: the chosen option of each config group.
        seeds: random seeds, keyed by name.
        config_hash: SHA-256 of the settings that change results; paths, trackers and devices are left out.
        derived: for each config value that the program computed, what it was computed from, keyed by full key.
        runs_remote_code: whether Python files that come with the model may run.
        permissions: actions of the run that need the user's permission, such as running code, as one sentence each.
        data_fingerprint: SHA-256 of the prepared data; `None` before the data is prepared.
        inputs: every file and package from which the data and the model were read.
        parameters: number of all parameters (`total`) and of those that are trained (`trained`).
        num_steps: optimizer steps of the whole run; `None` before training.
        steps_per_epoch: optimizer steps of one pass over the training data; `None` before training.
        continuations: each time that the run was continued after a change, such as of settings, inputs, code or limits.
        warnings: what the run found wrong with its training, such as parameters that did not change.
        skipped_steps: the optimizer steps that were skipped because the loss or the gradient was not finite.
        reduced_batches: the steps at which memory was exhausted, and the smaller sizes of batches from then on.
        device: type of the devices that train, `cpu`, `cuda` or `mps`; empty before training.
        num_devices: number of devices over which each step's examples are divided; `None` before training, and in
            records of earlier versions.
        plan: the run's memory and time in bytes and seconds, as predicted and as measured; empty for a run of less than
            a minute.
        evaluated_step: optimizer step of the weights that were evaluated after training; `None` before that evaluation.
        trackers: id that a tracker gave to the run, keyed by the tracker's name.
        sweep: the trial that the run belongs to; `None` if the run is not part of a sweep.
    """

    id: str = ""
    name: str = ""
    status: Status | None = None
    started: str | None = None
    ended: str | None = None
    seconds: float | None = None
    exception: ExceptionEntry | None = None
    code: dict[str, str | None] | None = None
    source_sha256: str | None = None
    packages: dict[str, str] = dataclasses.field(default_factory=dict)
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    python: str = ""
    platform: str = ""
    hardware: dict[str, Any] = dataclasses.field(default_factory=dict)
    choices: dict[str, Any] = dataclasses.field(default_factory=dict)
    seeds: dict[str, int] = dataclasses.field(default_factory=dict)
    config_hash: str | None = None
    derived: dict[str, str] = dataclasses.field(default_factory=dict)
    runs_remote_code: bool = False
    permissions: list[str] = dataclasses.field(default_factory=list)
    data_fingerprint: str | None = None
    inputs: list[InputEntry] = dataclasses.field(default_factory=list)
    parameters: dict[str, int] = dataclasses.field(default_factory=dict)
    num_steps: int | None = None
    steps_per_epoch: int | None = None
    device: str = ""
    num_devices: int | None = None
    continuations: list[Continuation] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    skipped_steps: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    reduced_batches: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    plan: dict[str, Any] = dataclasses.field(default_factory=dict)
    evaluated_step: int | None = None
    trackers: dict[str, str] = dataclasses.field(default_factory=dict)
    sweep: SweepEntry | None = None

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> Manifest:
        """Create a manifest from the JSON object in `manifest.json`.

        Raises:
            TypeError: a value in the JSON object does not have the expected type.
        """
        known = known_entries(cls, entries)
        mappings = (
            "packages",
            "environment",
            "hardware",
            "choices",
            "seeds",
            "derived",
            "parameters",
            "plan",
            "trackers",
        )
        for name in mappings:
            known[name] = dict(known.get(name) or {})
        if not all(isinstance(option, str | None) or _is_texts(option) for option in known["choices"].values()):
            raise TypeError("choices are names of options")
        known["inputs"] = [InputEntry(**known_entries(InputEntry, entry)) for entry in known.get("inputs", ())]
        known["continuations"] = [Continuation.from_json(entry) for entry in known.get("continuations", ())]
        for name, kind in (("exception", ExceptionEntry), ("sweep", SweepEntry)):
            if known.get(name):
                known[name] = kind(**known_entries(kind, known[name]))
        return cls(**known)


@dataclasses.dataclass(frozen=True)
class Summary:
    """The content of `summary.json`: the results and costs of a finished run.

    Args:
        status: status of the run.
        seconds: duration of the whole run.
        tokens: number of target tokens that the model was trained on.
        training_seconds: duration of the training loop.
        peak_memory_bytes: peak memory of the GPU or, without a GPU, of the process.
        weights_bytes: size on disk of the weights in the last checkpoint.
        positions: number of token positions, including padding, that the first of the run's devices computed in
            training.
        saved_positions: number of token positions that the first device did not have to compute, because examples with
            a common prefix shared the computation of the prefix.
        metrics: values, keyed by `split/metric` and then system (`before`, a baseline's name, `after`, `difference`).
    """

    status: Status = "finished"
    seconds: float | None = None
    tokens: int | None = None
    training_seconds: float | None = None
    peak_memory_bytes: int | None = None
    weights_bytes: int | None = None
    positions: int = dataclasses.field(default=0, metadata=OMIT_EMPTY)
    saved_positions: int = dataclasses.field(default=0, metadata=OMIT_EMPTY)
    metrics: dict[str, dict[str, MetricValue]] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> Summary:
        """Create a summary from the JSON object in `summary.json`."""
        known = known_entries(cls, entries)
        metrics = known.get("metrics", {})
        known["metrics"] = {
            name: {system: _metric_value(entry) for system, entry in systems.items()}
            for name, systems in metrics.items()
        }
        return cls(**known)

    def value(self, metric: str, system: str = AFTER) -> MetricValue | None:
        """Return the value of a metric for one system; return `None` if it was not measured.

        Args:
            metric: the metric, as `split/metric`.
            system: the system, such as `before` (the base model) or `after` (the tuned model).
        """
        return self.metrics.get(metric, {}).get(system)


@dataclasses.dataclass(frozen=True)
class PredictionLine:
    """A line of `predictions.jsonl`: one example with its answers and scores.

    Args:
        id: id of the conversation.
        split: split of the conversation.
        prompt: the last message before the answer.
        prediction: the tuned model's answer.
        prediction_before: the base model's answer; `None` if the base model was not evaluated.
        references: acceptable answers.
        scores: scores of the tuned model's answer, keyed by metric; `None` for a score that is not finite.
        cluster: name of the cluster (a group of related examples) to which the example belongs; empty if to none.
    """

    id: str = ""
    split: str = ""
    prompt: str = ""
    prediction: str = ""
    prediction_before: str | None = None
    references: list[str] = dataclasses.field(default_factory=list)
    scores: dict[str, float | None] = dataclasses.field(default_factory=dict)
    cluster: str = dataclasses.field(default="", metadata=OMIT_EMPTY)

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> PredictionLine:
        """Create the object from the JSON object in one line of the file."""
        return cls(**known_entries(cls, entries))


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _metric_value(entry: Mapping[str, Any]) -> MetricValue:
    from instruct_lab.metrics import MetricValue

    value, low, high = (parse_number(entry.get(name)) for name in ("value", "low", "high"))
    notes = tuple(entry.get("notes") or ())  # records of earlier versions have no notes
    count, signature = int(entry.get("count") or 0), str(entry.get("signature") or "")
    ends = tuple(map(parse_number, entry.get("by_example") or ()))
    return MetricValue(value, low, high, count, signature, notes, (ends[0], ends[1]) if len(ends) == 2 else None)

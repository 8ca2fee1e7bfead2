"""Collect what a user wants to know about one run: its status, settings, results, costs and files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instruct_lab.errors import InstructLabError
from instruct_lab.files import to_plain
from instruct_lab.records import schema
from instruct_lab.records.costs import costs_of
from instruct_lab.records.evaluations import EvaluationFiles, evaluation_names
from instruct_lab.records.identity import settings_of
from instruct_lab.records.labels import OPTIONAL, label_typed
from instruct_lab.records.record import RunRecord
from instruct_lab.records.run_settings import RunSettings
from instruct_lab.records.schema import AFTER, BEFORE, DIFFERENCE, Manifest, Summary

if TYPE_CHECKING:
    from instruct_lab.metrics import MetricValue

    MetricTable = dict[str, dict[str, MetricValue]]
    """The values of metrics, keyed by `split/metric` and then by system."""

FILES = {
    schema.CONFIG: "the whole config",
    schema.AUDIT_PAGE: "what happened to the data",
    schema.METRICS: "logged values",
    schema.SUMMARY: "results",
    schema.PREDICTIONS: "answers to the held-out examples",
    schema.VERDICTS: "verdicts of judges on these answers",
    schema.CHECKPOINTS: "weights",
    schema.LOG: "log",
}
"""Descriptions of the files of a record that a user may open, keyed by file name."""


@dataclasses.dataclass(frozen=True)
class RunReport:
    """What a user wants to know about one run.

    Args:
        record: the run's record.
        manifest: the content of the record's `manifest.json`.
        summary: the results; empty if the run has none.
        status: the run's status, or `interrupted (process gone)` if its process was killed.
        label: the options and values that the user typed or that a sweep varied; empty if there are none.
        choices: the chosen options that are not the default ones, keyed by group.
        default_choices: the default options of the groups; empty if they are not known.
        settings: config values that differ from the values that the chosen options set, keyed by full key. Each is a
            pair: the run's value, and the value that the options set.
        has_defaults: whether the run was compared with the defaults. This is impossible if this installation lacks
            an option of the run; `choices` then has all options, and `settings` has the values that the user typed.
        costs: the costs that are in the record, such as `training_seconds`, keyed by name.
        evaluations: the results of the evaluations that were made after the run (`instruct-lab evaluate`), keyed by
            evaluation, then by `split/metric`, then by system (such as `after`).
    """

    record: RunRecord
    manifest: Manifest
    summary: Summary
    status: str
    label: str
    choices: dict[str, Any]
    default_choices: dict[str, Any]
    settings: dict[str, tuple[Any, Any]]
    has_defaults: bool
    costs: dict[str, float]
    evaluations: dict[str, MetricTable]

    @property
    def files(self) -> dict[Path, str]:
        """Short descriptions of those files of the record that exist, keyed by path."""
        return {self.record.path / name: text for name, text in FILES.items() if (self.record.path / name).exists()}

    @property
    def results(self) -> MetricTable:
        """The metrics, keyed by `split/metric` and then by system (such as `after`); the test split comes first."""
        return _sorted(self.summary.metrics)

    def to_json(self) -> dict[str, Any]:
        """Convert the report to a dictionary for JSON."""
        manifest = self.manifest
        return {
            "id": self.record.id,
            "name": self.record.name,
            "status": self.status,
            "path": str(self.record.path),
            "label": self.label,
            "started": manifest.started,
            "seconds": manifest.seconds,
            "choices": manifest.choices,
            "changed_choices": self.choices,
            "changed_settings": {
                key: {"value": value, "default": default} for key, (value, default) in self.settings.items()
            },
            "derived": manifest.derived,
            "results": _to_json(self.results),
            "evaluations": {name: _to_json(results) for name, results in self.evaluations.items()},
            "costs": self.costs,
            "warnings": manifest.warnings,
            "error": None if manifest.exception is None else manifest.exception.message,
            "files": {path.name: str(path) for path in self.files},
        }


def report_of(record: RunRecord) -> RunReport:
    """Read a run's record, and compare its settings with the current defaults (those of instruct_lab and of the lab).

    Raises:
        InstructLabError: the record is damaged.
    """
    manifest, typed = record.manifest, RunSettings.read(record)
    defaults = _default_choices(), _defaults_of(manifest.choices)
    if defaults[0] is None or defaults[1] is None:
        settings = {key: (value, None) for key, value in typed.values.items() if key in typed.typed}
        choices = manifest.choices
    else:
        choices = {group: option for group, option in manifest.choices.items() if option != defaults[0].get(group)}
        settings = _differing(settings_of(record.config), defaults[1], manifest.derived)
    return RunReport(
        record=record,
        manifest=manifest,
        summary=record.summary or Summary(),
        status=record.status_text,
        label=str(label_typed(typed)),
        choices=choices,
        default_choices=defaults[0] or {},
        settings=settings,
        has_defaults=None not in defaults,
        costs={name: cost for name, cost in costs_of(record).items() if cost is not None},
        evaluations=dict(_evaluations(record)),
    )


def _evaluations(record: RunRecord) -> Iterator[tuple[str, MetricTable]]:
    for name in evaluation_names(record):
        if (summary := EvaluationFiles(record, name).summary) is not None:
            yield name, _sorted(summary.metrics)


def _sorted(found: MetricTable) -> MetricTable:
    return {name: found[name] for name in sorted(found, key=lambda name: not name.startswith("test/"))}


def _to_json(results: MetricTable) -> Any:
    return to_plain(
        {
            name: {system: dataclasses.asdict(value) for system, value in systems.items()}
            for name, systems in results.items()
        }
    )


def _default_choices() -> dict[str, Any] | None:
    from instruct_lab.config.compose import compose

    try:
        return dict(compose([]).choices)
    except InstructLabError:
        return None


def _defaults_of(choices: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the settings that a run would have if the user had only chosen these options and set no values.

    The result is `None` if this installation lacks one of the options. Options of the groups `experiments` and `debug`
    are left out, because they only change the options of other groups.

    Args:
        choices: the chosen option of each config group.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from instruct_lab.config.compose import compose
    from instruct_lab.config.show import to_json

    of_run = {group: option for group, option in choices.items() if group not in OPTIONAL}
    try:
        composition = compose([f"{group}={_option_text(option)}" for group, option in of_run.items()])
        if composition.problems:
            return None
        config = OmegaConf.to_container(OmegaConf.create(to_json(composition, with_unset=True)["config"]), resolve=True)
    except (InstructLabError, OmegaConfBaseException):
        return None
    return settings_of({str(key): value for key, value in config.items()}) if isinstance(config, dict) else None


def _option_text(option: Any) -> str:
    return f"[{','.join(option)}]" if isinstance(option, list) else str(option)


def _differing(
    settings: Mapping[str, Any], defaults: Mapping[str, Any], derived: Mapping[str, str]
) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ from their defaults, as pairs (value, default), keyed by full key.

    Args:
        settings: the run's settings, keyed by full key.
        defaults: their default values.
        derived: keys of settings that the program computed, which are left out.
    """
    return {
        key: (value, defaults.get(key))
        for key, value in settings.items()
        if key not in derived and value != defaults.get(key) and not (value in (None, {}, []) and key not in defaults)
    }


def result_rows(results: MetricTable) -> list[tuple[str, MetricValue | None, MetricValue | None, MetricValue | None]]:
    """Return a tuple for each metric: its name, the base model's value, the tuned model's value, and their difference.

    A value that was not measured is `None`.

    Args:
        results: values, keyed by `split/metric` and then by system (`before`, `after` and others).
    """
    return [
        (name, systems.get(BEFORE), systems.get(AFTER), systems.get(DIFFERENCE)) for name, systems in results.items()
    ]

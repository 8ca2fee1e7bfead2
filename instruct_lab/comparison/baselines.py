"""Collect the baselines of the compared runs: what was evaluated on the runs' examples without being trained.

Baselines are the model before training, and ways to answer without a model, such as copying the source text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from instruct_lab.comparison.arms import Arm
from instruct_lab.comparison.scores import Estimate
from instruct_lab.metrics import MetricValue
from instruct_lab.records.schema import AFTER, BEFORE, DIFFERENCE

MAX_NAMED = 3
"""Maximum number of runs whose ids a label or a note lists."""
Metrics = Mapping[str, Mapping[str, MetricValue]]
"""The metrics in a run's summary, keyed by `split/metric` and then by system, such as `before` for the base model."""


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A system that was evaluated without training, such as the base model.

    If several runs measured equal values for a system, these runs share one `Baseline`.

    Args:
        label: `before training` or `baseline NAME`. If other runs measured other values for the system, the ids of
            `runs` follow.
        runs: indices of the runs that evaluated the system and measured these values.
        metrics: the system's values, keyed by `split/metric`.
        differences: the system's values minus the best configuration's values, with paired intervals, keyed by
            `split/metric`. They exist only for the model before training, and only if the best configuration is a
            single run that is listed in `runs`.
        system: name of the system in the run's summary; `before` is the model before training.
    """

    label: str
    runs: list[int]
    metrics: dict[str, MetricValue]
    differences: dict[str, Estimate]
    system: str = BEFORE

    @property
    def is_base_model(self) -> bool:
        """Whether the system is the model before training."""
        return self.system == BEFORE


def find_baselines(
    runs: Sequence[str], results: Sequence[Metrics], arms: Iterable[Arm], best: Mapping[str, str]
) -> list[Baseline]:
    """Find the baselines of the runs; list a baseline once if several runs measured equal values for it.

    Values that agree to six significant digits count as equal.

    Args:
        runs: ids of the runs.
        results: the metrics in each run's summary.
        arms: the configurations; a configuration is a set of runs that differ only in the seed.
        best: for each metric, the id of the best configuration, keyed by `split/metric`.
    """
    found: dict[str, dict[tuple[object, ...], list[int]]] = {}  # system to values to runs
    for index, metrics in enumerate(results):
        for system in dict.fromkeys(system for values in metrics.values() for system in values):
            if system not in (AFTER, DIFFERENCE):
                values = _of_system(metrics, system)
                key = tuple((name, f"{value.value:.6g}", value.count) for name, value in values.items())
                found.setdefault(system, {}).setdefault(key, []).append(index)
    best_runs = {
        name: arm.runs[0] for arm in arms for name, one in best.items() if one == arm.id and len(arm.runs) == 1
    }
    return [
        Baseline(
            _label(system, [runs[index] for index in indices] if len(groups) > 1 else []),
            indices,
            _of_system(results[indices[0]], system),
            _differences(results, indices, best_runs) if system == BEFORE else {},
            system,
        )
        for system, groups in found.items()
        for indices in groups.values()
    ]


def _of_system(metrics: Metrics, system: str) -> dict[str, MetricValue]:
    return {name: values[system] for name, values in metrics.items() if system in values}


def _label(system: str, runs: Sequence[str]) -> str:
    label = "before training" if system == BEFORE else f"baseline {system}"
    more = f" and {len(runs) - MAX_NAMED} more" if len(runs) > MAX_NAMED else ""
    return f"{label} ({', '.join(runs[:MAX_NAMED])}{more})" if runs else label


def _differences(
    results: Sequence[Metrics], indices: Sequence[int], best_runs: Mapping[str, int]
) -> dict[str, Estimate]:
    gains = {name: results[run].get(name, {}).get(DIFFERENCE) for name, run in best_runs.items() if run in indices}
    return {
        name: Estimate(0 - gain.value, 0 - gain.high, 0 - gain.low) for name, gain in gains.items() if gain is not None
    }


def notes_on(runs: Sequence[str], values: Sequence[MetricValue | None]) -> list[str]:
    """List the notes (such as warnings) that are attached to the values of one metric, each note once.

    If a note applies only to some of the runs, the ids of these runs precede it.

    Args:
        runs: ids of the runs.
        values: each run's value of the metric, which contains its notes; `None` if it was not measured.
    """
    found: dict[str, list[str]] = {}
    for run, value in zip(runs, values, strict=True):
        for note in value.notes if value is not None else ():
            found.setdefault(note, []).append(run)
    lines = []
    for note, having in found.items():
        more = f" and {len(having) - MAX_NAMED} more" if len(having) > MAX_NAMED else ""
        lines.append(note if len(having) == len(runs) else f"{', '.join(having[:MAX_NAMED])}{more}: {note}")
    return lines

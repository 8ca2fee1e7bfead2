"""Estimate before a sweep which differences between its runs are too small to measure with the available examples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import cast

from instruct_lab.data import DataSet
from instruct_lab.data.split import SplitName
from instruct_lab.evaluation.evaluation import HELD_OUT
from instruct_lab.experiment.experiment import Experiment
from instruct_lab.records.schema import SHORT_NAMES, split_of
from instruct_lab.sweep.settings import Sweep

WIDTH = 1.96
"""Half the width of a 95% interval, in standard errors."""


def describe_precision(settings: Sweep, experiment: Experiment) -> Iterator[str]:
    """Yield sentences that say how large a metric's difference between two runs must be to exceed chance.

    A difference is too small if its 95% confidence interval would include 0. The width of the interval is estimated
    from the number of examples and from the typical standard deviation of a difference over examples, which the metric
    declares. Metrics that declare none are left out, and so are splits whose maximum number of examples is not known.
    Splits with equally many examples are described in one sentence.

    Args:
        settings: the settings of the sweep. If it optimises metrics that declare a standard deviation, only these are
            described.
        experiment: the configuration of one of the sweep's points.
    """
    names = [f"{SHORT_NAMES[split]}/{name}" for split in _splits(experiment) for name in experiment.active_metrics]
    chosen = [name for name in names if name in settings.metrics and _deviation(experiment, name)] or names
    limits: dict[int, dict[str, dict[str, str]]] = {}  # splits of each metric, by number of examples, then limit
    for full_name in chosen:
        short, _, name = full_name.partition("/")
        deviation, count = _deviation(experiment, full_name), _max_examples(experiment, split_of(full_name))
        if deviation is not None and count is not None:
            limit = f"±{WIDTH * deviation / math.sqrt(count):.1f}"
            of_limit = limits.setdefault(count, {}).setdefault(limit, {})
            of_limit[name] = f"{of_limit[name]} and {short}" if name in of_limit else short
    noise = "" if settings.seeds > 1 else "; one run each: training noise comes on top, and sweep.seeds=3 measures it"
    for count, of_count in limits.items():
        splits = dict.fromkeys(short for of_limit in of_count.values() for short in of_limit.values())
        listed = ", ".join(f"{limit} {' and '.join(of_limit)}" for limit, of_limit in of_count.items())
        yield (
            f"{count} example{'s' * (count != 1)} ({', '.join(splits)}): differences under {listed} will not be "
            f"distinguishable, as configurations typically vary{noise}"
        )


def _splits(experiment: Experiment) -> list[SplitName]:
    return [one for one in HELD_OUT if one in experiment.evaluation.splits and experiment.data.source_names(one)]


def _deviation(experiment: Experiment, name: str) -> float | None:
    return experiment.active_metrics[name.partition("/")[2]].typical_deviation


def _max_examples(experiment: Experiment, split: str) -> int | None:
    """Return the maximum number of examples of a split that are evaluated; `None` if the config sets no maximum."""
    limits = [experiment.evaluation.max_examples]
    if isinstance(experiment.data, DataSet):
        limits.append(experiment.data.limit.get(cast(SplitName, split)))
    return min((limit for limit in limits if limit is not None), default=None)

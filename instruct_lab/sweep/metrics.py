"""Check that a sweep's runs measure the metrics that it optimises, and decide whether to minimize or maximize each."""

from __future__ import annotations

from collections.abc import Iterator

from instruct_lab.config.spelling import nearest
from instruct_lab.data.split import SplitName
from instruct_lab.errors import Problem
from instruct_lab.evaluation.evaluation import HELD_OUT
from instruct_lab.experiment.experiment import Experiment
from instruct_lab.experiment.rules.monitoring import logged_values, monitored_direction
from instruct_lab.records.costs import COSTS
from instruct_lab.records.schema import SHORT_NAMES
from instruct_lab.sweep.samplers import Sampler
from instruct_lab.sweep.settings import Sweep

STEP_VALUES = ("train/lr", "train/gradient_norm", "train/target_tokens", "train/target_tokens_per_second")
"""The values that every optimizer step logs in addition to the objective's values."""


def setting_problems(settings: Sweep, sampler: Sampler) -> Iterator[Problem]:
    """Report a sampler that cannot optimise several metrics, and a pruner whose metric is not measured in training."""
    if len(settings.metrics) > 1 and not sampler.takes_several_metrics:
        reason = f"{type(sampler).__name__} optimises only one metric"
        yield Problem(key="sweep.metric", value=settings.metrics, reason=reason)
    metric = settings.metrics[0]
    if settings.pruner.prunes and not metric.startswith("val/"):
        reason = "a pruner needs a value that is logged during training, which begins with val/"
        yield Problem(key="sweep.metric", value=metric, reason=reason, suggestion="val/loss")


def metric_problems(settings: Sweep, experiment: Experiment) -> Iterator[Problem]:
    """Report metrics of the sweep that a run does not measure, and wrong or missing directions.

    The direction of a metric is `minimize` or `maximize`. It is wrong if the metric declares the opposite, and missing
    if neither the metric nor `sweep.direction` gives one.

    Args:
        settings: the settings of the sweep.
        experiment: the configuration of the run.
    """
    during, results = training_values(experiment), result_values(experiment)
    for index, metric in enumerate(settings.metrics):
        if settings.pruner.prunes and metric.startswith("val/") and metric not in during:
            yield _not_measured(metric, during, "during training, as the pruner needs it", experiment)
        elif metric not in {*during, *results, *COSTS} and not _is_of_benchmark(metric, experiment):
            yield _not_measured(metric, list(dict.fromkeys([*during, *results, *COSTS])), "", experiment)
        else:
            yield from _direction_problems(metric, _stated_direction(settings, index), experiment)


def _is_of_benchmark(metric: str, experiment: Experiment) -> bool:
    """Whether a metric's name consists of the name of a configured benchmark, a slash, and any name of a score.

    The name of the score is not checked, because the scores are known only after the benchmark is loaded.
    """
    return any(metric.rpartition("/")[0] in suite.names for suite in experiment.benchmarks.values())


def _not_measured(metric: str, measured: list[str], when: str, experiment: Experiment) -> Problem:
    known = f"measured: {', '.join(measured)}" if measured else "nothing is measured"
    reason = f"no run measures this value{f' {when}' if when else ''} ({known})"
    split, _, name = metric.partition("/")
    if split == "val" and not experiment.data.source_names("validation"):
        reason += "; the data has no validation split: set data.split.validation"
    elif split == "test" and not experiment.data.source_names("test"):
        reason += "; the data has no test split: set data.split.test"
    elif when and name in experiment.active_metrics and not experiment.evaluation.during_examples:
        reason += "; evaluation.during_examples is 0: set it to measure answers at each validation"
    return Problem(key="sweep.metric", value=metric, reason=reason, suggestion=nearest(metric, measured))


def training_values(experiment: Experiment) -> list[str]:
    """List the names of the values that a run logs during training; empty if its tuning method does not train."""
    if not experiment.tuning.trains:
        return []
    objective, limit = experiment.objective, experiment.trainer.arguments.get("limit_val_batches")
    found = logged_values(objective, experiment.evaluation, experiment.active_metrics, experiment.data)
    of_example = sorted(objective.values_of(experiment.data.gives))
    of_training = [*(name for name in found if name.startswith("train/")), *STEP_VALUES]
    of_training += [f"train/{name}" for name in of_example]
    sources = [] if limit == 0 else experiment.data.source_names("validation")
    of_validation = [name for name in found if name.startswith("val/")] if sources else []
    of_model = ["loss", *(["perplexity"] if objective.is_likelihood else []), *of_example]
    return [*of_training, *of_validation, *_by_source(experiment, "validation", of_model if sources else [])]


def result_values(experiment: Experiment) -> list[str]:
    """List the names of the metrics in a run's final evaluation, such as `test/chrf`."""
    names = list(experiment.active_metrics)
    found = []
    for split in HELD_OUT:
        if split in experiment.evaluation.splits and experiment.data.source_names(split):
            found += [f"{SHORT_NAMES[split]}/{name}" for name in names]
            found += _by_source(experiment, split, names)
    return found


def _by_source(experiment: Experiment, split: SplitName, names: list[str]) -> list[str]:
    sources = experiment.data.source_names(split)
    if not experiment.reports_by_source or len(sources) < 2:
        return []
    return [f"{SHORT_NAMES[split]}/{source}/{name}" for source in sources for name in names]


# ---- directions


def directions(settings: Sweep, experiment: Experiment) -> list[str]:
    """Return `minimize` or `maximize` for each metric of the sweep.

    Most metrics declare whether a higher or a lower value is better. For any other metric, `settings.direction`
    decides; if this is not set either, the metric is minimized.
    """
    return [
        _declared_direction(metric, experiment) or _stated_direction(settings, index) or "minimize"
        for index, metric in enumerate(settings.metrics)
    ]


def _stated_direction(settings: Sweep, index: int) -> str | None:
    return settings.direction[index] if isinstance(settings.direction, list) else settings.direction


def _direction_problems(metric: str, stated: str | None, experiment: Experiment) -> Iterator[Problem]:
    declared = _declared_direction(metric, experiment)
    if declared is not None and stated not in (None, declared):
        better = "lower" if declared == "minimize" else "higher"
        reason = f"{metric} is better when it is {better}: this direction would look for the worst"
        yield Problem(key="sweep.direction", value=stated, reason=reason, suggestion=declared)
    elif declared is None and stated is None:
        reason = f"whether {metric} is better when higher or lower is not known: set it to minimize or maximize"
        yield Problem(key="sweep.direction", reason=reason)


def _declared_direction(metric: str, experiment: Experiment) -> str | None:
    mode = "min" if metric in COSTS else monitored_direction(experiment, metric)
    return None if mode is None else {"min": "minimize", "max": "maximize"}[mode]

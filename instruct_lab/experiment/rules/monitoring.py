"""Rules about the values that callbacks monitor: whether they are logged, and whether lower or higher is better."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from instruct_lab.callbacks import Callback, Checkpoint
from instruct_lab.config import ExternalClass
from instruct_lab.config.spelling import nearest
from instruct_lab.data import Data
from instruct_lab.errors import Problem
from instruct_lab.evaluation import Evaluation
from instruct_lab.metrics import Metric, ValueMetric
from instruct_lab.objective import Objective

if TYPE_CHECKING:
    from instruct_lab.experiment.experiment import Experiment

Mode = Literal["min", "max"]
LOWER_IS_BETTER = ("loss", "perplexity")


def monitored_direction(experiment: Experiment, key: str) -> Mode | None:
    """Return `min` if a lower monitored value is better, `max` if a higher one is, or `None` if this is not known.

    Args:
        experiment: the run's configuration.
        key: the name under which the value is logged, such as `val/loss`.
    """
    return direction_of(key, experiment.active_metrics)


def direction_of(key: str, metrics: Mapping[str, Metric]) -> Mode | None:
    """Return `min` if a lower monitored value is better, `max` if a higher one is, or `None` if this is not known.

    Args:
        key: the name under which the value is logged, such as `val/loss`.
        metrics: the metrics of the run, keyed by name.
    """
    name = key.rpartition("/")[2]
    if name in LOWER_IS_BETTER:
        return "min"
    metric = metrics.get(name) or _metric_of_value(name, metrics)
    if metric is None or metric.higher_is_better is None:
        return None
    return "max" if metric.higher_is_better else "min"


def _metric_of_value(name: str, metrics: Mapping[str, Metric]) -> Metric | None:
    """Return the metric that reports a value of the objective, such as preference accuracy; `None` if there is none.

    `name` is the value's key in `Loss.values`.
    """
    reading = (m for m in metrics.values() if isinstance(m, ValueMetric) and m.value_name == name)
    return next(reading, None)


def mode_argument(callback: ExternalClass, experiment: Experiment) -> dict[str, Any]:
    """Return the keyword argument `mode` (`min` or `max`) for another library's callback that monitors a logged value.

    The result is empty if the config sets the mode, if the callback has no argument `mode`, or if it is not known
    whether lower or higher values are better.
    """
    watched = _watched_by(callback)
    if watched is None or not watched.takes_mode or watched.mode is not None:
        return {}
    mode = monitored_direction(experiment, watched.monitor)
    return {} if mode is None else {"mode": mode}


@dataclasses.dataclass(frozen=True)
class _Watched:
    """What a callback monitors: the value's name, the `mode` (`None` if not set), and whether it has a `mode`."""

    monitor: str
    mode: str | None
    takes_mode: bool = True


def _watched_by(callback: Callback | ExternalClass) -> _Watched | None:
    if isinstance(callback, Checkpoint):
        return None if callback.monitor is None else _Watched(callback.monitor, callback.mode)
    if isinstance(callback, ExternalClass) and isinstance(monitor := callback.arguments.get("monitor"), str):
        return _Watched(monitor, callback.arguments.get("mode"), callback.accepts("mode"))
    return None


def check_monitors(
    callbacks: dict[str, Callback | ExternalClass],
    metrics: dict[str, Metric],
    objective: Objective,
    evaluation: Evaluation,
    data: Data,
    trainer: ExternalClass,
) -> Iterator[Problem]:
    """Report callbacks that monitor a value which the run does not log."""
    logged = logged_values(objective, evaluation, metrics, data)
    is_validated = data.has_validation and trainer.arguments.get("limit_val_batches") != 0
    for name, callback in callbacks.items():
        watched = _watched_by(callback)
        if watched is None:
            continue
        key, monitor = f"callbacks.{name}.monitor", watched.monitor
        if not is_validated and monitor.startswith("val/") and isinstance(callback, ExternalClass):
            yield Problem(key=key, value=monitor, reason="this run has no validation, so this value is not logged")
        elif monitor not in logged:
            hint = "" if evaluation.during_examples else "; evaluation.during_examples is 0"
            reason = f"no such value is logged (logged: {', '.join(logged)}{hint})"
            yield Problem(key=key, value=monitor, reason=reason, suggestion=nearest(monitor, logged))


def logged_values(objective: Objective, evaluation: Evaluation, metrics: Mapping[str, Metric], data: Data) -> list[str]:
    """List the names of the values that training and validation log; a callback can monitor these values."""
    logged = ["train/loss", "val/loss"]
    if objective.is_likelihood:
        logged.append("val/perplexity")
    logged += [f"val/{name}" for name in sorted(objective.values_of(data.gives))]
    if evaluation.during_examples:
        logged += [f"val/{name}" for name, metric in metrics.items() if metric.reads == "answers"]
    return list(dict.fromkeys(logged))


def check_modes(
    callbacks: dict[str, Callback | ExternalClass],
    metrics: dict[str, Metric],
    objective: Objective,
    evaluation: Evaluation,
    data: Data,
) -> Iterator[Problem]:
    """Report a `mode` that contradicts the monitored value, such as `max` for a loss.

    Also report a missing `mode` if it is not known whether lower or higher values are better.
    """
    logged = logged_values(objective, evaluation, metrics, data)
    for name, callback in callbacks.items():
        watched = _watched_by(callback)
        if watched is None or not watched.takes_mode or watched.monitor not in logged:
            continue
        key, direction = f"callbacks.{name}.mode", direction_of(watched.monitor, metrics)
        if watched.mode in ("min", "max") and direction is not None and watched.mode != direction:
            better = "higher" if direction == "max" else "lower"
            reason = f"{watched.monitor} is better when it is {better}: this mode would pick the worst"
            yield Problem(key=key, value=watched.mode, reason=reason, suggestion=direction)
        elif watched.mode is None and direction is None:
            reason = f"whether a small or a large {watched.monitor} is better is not known: set {key}=min or {key}=max"
            yield Problem(key=key, reason=reason)

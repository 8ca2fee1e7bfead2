"""Set values of a run's config that follow from its other choices."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from instruct_lab.experiment.experiment import Experiment
from instruct_lab.experiment.rules.declarations import longest_example, suitable_learning_rate


class Derived(NamedTuple):
    """A value that follows from other choices, and a text that names its origin."""

    value: Any
    origin: str


def settle(experiment: Experiment) -> tuple[Experiment, dict[str, Derived]]:
    """Set the learning rate if it is null, and limit the length of examples to the model's positions.

    Returns:
        The experiment with these values, and the changed values, keyed by full key.
    """
    model, tuning, cache_path = experiment.model, experiment.tuning, experiment.cache_path
    batching, optimizer = experiment.batching, experiment.optimizer
    values: dict[str, Derived] = {}
    rate = suitable_learning_rate(tuning, experiment.objective, optimizer, model, cache_path)
    if optimizer.lr is None and rate is not None:
        values["optimizer.lr"] = Derived(rate, f"the rate that suits {type(tuning).__name__}")
        optimizer = dataclasses.replace(optimizer, lr=rate)
    longest = longest_example(model, tuning, cache_path)
    if longest is not None and (batching.max_tokens is None or batching.max_tokens > longest):
        values["batching.max_tokens"] = Derived(longest, "the positions of the model")
        batching = dataclasses.replace(batching, max_tokens=longest)
    return dataclasses.replace(experiment, optimizer=optimizer, batching=batching), values

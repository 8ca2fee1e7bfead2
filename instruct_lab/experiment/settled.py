"""Values of a run's config that follow from its other choices."""

from __future__ import annotations

import dataclasses
from typing import Any

from instruct_lab.experiment.experiment import Experiment
from instruct_lab.experiment.rules.declarations import suitable_learning_rate


def settle(experiment: Experiment) -> tuple[Experiment, dict[str, Any]]:
    """Fill in the learning rate that suits the chosen components if `optimizer.lr` is null.

    Returns:
        The experiment with these values, and the values by full key, for the record.
    """
    values: dict[str, Any] = {}
    optimizer = experiment.optimizer
    suitable = suitable_learning_rate(experiment.tuning, experiment.objective, optimizer)
    if optimizer.lr is None and suitable is not None:
        values["optimizer.lr"] = suitable
        optimizer = dataclasses.replace(optimizer, lr=suitable)
    return dataclasses.replace(experiment, optimizer=optimizer), values

"""Values of a run's config that follow from its other choices: the learning rate of the chosen tuning method."""

from __future__ import annotations

import dataclasses
from typing import Any

from instruct_lab.experiment.experiment import Experiment


def settle(experiment: Experiment) -> tuple[Experiment, dict[str, Any]]:
    """Fill in what a config leaves open.

    Returns:
        The experiment with these values, and the values by full key, for the record.
    """
    values: dict[str, Any] = {}
    optimizer = experiment.optimizer
    if optimizer.lr is None and experiment.suitable_learning_rate is not None:
        values["optimizer.lr"] = experiment.suitable_learning_rate
        optimizer = dataclasses.replace(optimizer, lr=experiment.suitable_learning_rate)
    return dataclasses.replace(experiment, optimizer=optimizer), values

"""List all combinations of model family, objective, tuning method and batching, and whether they can be trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from omegaconf import OmegaConf

from instruct_lab.batching import Batching
from instruct_lab.config.build import FAILED, build
from instruct_lab.config.component import ALL_FAMILIES
from instruct_lab.config.compose import compose_option
from instruct_lab.config.options import options
from instruct_lab.errors import ConfigError
from instruct_lab.experiment.rules.combinations import (
    batching_reason,
    family_reason,
    packing_reason,
    tuning_reason,
)
from instruct_lab.objective import Objective
from instruct_lab.tuning import Tuning

FAMILIES = ("decoder", "encoder-decoder", "encoder")
AXES = ("objective", "tuning", "batching")


@dataclasses.dataclass(frozen=True)
class Combination:
    """A model family, objective, tuning method and batching option, each given by its name.

    `reason` says why they cannot be combined; it is `None` if they can.
    """

    family: str
    objective: str
    tuning: str
    batching: str
    reason: str | None = None

    @property
    def trains(self) -> bool:
        """Whether the combination can be trained."""
        return self.reason is None

    def to_json(self) -> dict[str, Any]:
        """Return the dictionary that `check --matrix --json` prints for this combination."""
        return {**dataclasses.asdict(self), "trains": self.trains, "reason": self.reason or ""}


def component_of(group: str, option: str) -> Any:
    """Build the component that an option configures.

    Raises:
        ConfigError: Hydra cannot compose the option, or its component cannot be built.
    """
    result = build(OmegaConf.create(compose_option(group, option)))
    if result.root is FAILED:
        raise ConfigError([dataclasses.replace(p, key=f"{group}.{p.key}" if p.key else group) for p in result.problems])
    return result.root


def matrix() -> Iterator[Combination]:
    """Yield every combination, ordered by family, then by the names of the objective, tuning and batching options."""
    assert set(FAMILIES) == ALL_FAMILIES
    built = {group: {option.name: component_of(group, option.name) for option in options(group)} for group in AXES}
    for family in FAMILIES:
        for objective_name, objective in built["objective"].items():
            for tuning_name, tuning in built["tuning"].items():
                for batching_name, batching in built["batching"].items():
                    reason = combination_reason(family, objective, tuning, batching)
                    yield Combination(family, objective_name, tuning_name, batching_name, reason)


def combination_reason(family: str, objective: Objective, tuning: Tuning, batching: Batching) -> str | None:
    """Return the reason why family, objective, tuning method and batching cannot be combined; `None` if they can."""
    for chosen in (objective, tuning, batching):
        if reason := family_reason(chosen, family):
            return reason
    together = tuning_reason(tuning, objective) or batching_reason(batching, objective)
    return together or packing_reason(batching, objective, tuning)

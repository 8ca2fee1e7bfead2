"""Every combination of model family, objective, tuning method and batching, and whether it trains."""

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
from instruct_lab.experiment.rules.combinations import batching_reason, family_reason, tuning_reason
from instruct_lab.objective import Objective
from instruct_lab.tuning import Tuning

FAMILIES = ("decoder", "encoder-decoder", "encoder")
AXES = ("objective", "tuning", "batching")


@dataclasses.dataclass(frozen=True)
class Combination:
    """A family and one option of each group; `reason` says why they do not train, if they do not."""

    family: str
    objective: str
    tuning: str
    batching: str
    reason: str | None = None

    @property
    def trains(self) -> bool:
        """Whether the combination trains."""
        return self.reason is None

    def to_json(self) -> dict[str, Any]:
        """The form that other tools read."""
        return {**dataclasses.asdict(self), "trains": self.trains, "reason": self.reason or ""}


def component_of(group: str, option: str) -> Any:
    """The component of a packaged option or of one of the user's own.

    Raises:
        ConfigError: it does not compose or build.
    """
    result = build(OmegaConf.create(compose_option(group, option)))
    if result.root is FAILED:
        raise ConfigError([dataclasses.replace(p, key=f"{group}.{p.key}" if p.key else group) for p in result.problems])
    return result.root


def matrix() -> Iterator[Combination]:
    """Every combination, in the order of families and of the options' names."""
    assert set(FAMILIES) == ALL_FAMILIES
    built = {group: {option.name: component_of(group, option.name) for option in options(group)} for group in AXES}
    for family in FAMILIES:
        for objective_name, objective in built["objective"].items():
            for tuning_name, tuning in built["tuning"].items():
                for batching_name, batching in built["batching"].items():
                    reason = combination_reason(family, objective, tuning, batching)
                    yield Combination(family, objective_name, tuning_name, batching_name, reason)


def combination_reason(family: str, objective: Objective, tuning: Tuning, batching: Batching) -> str | None:
    """Why these do not go together; `None` if they do."""
    for chosen in (objective, tuning, batching):
        if reason := family_reason(chosen, family):
            return reason
    return tuning_reason(tuning, objective) or batching_reason(batching, objective)

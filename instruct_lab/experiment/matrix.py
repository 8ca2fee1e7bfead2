"""Every combination of model family, objective, tuning method and batching: whether it trains, from declarations."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from omegaconf import OmegaConf

from instruct_lab.config.build import FAILED, build
from instruct_lab.config.component import ALL_FAMILIES
from instruct_lab.config.compose import compose_option
from instruct_lab.config.options import options
from instruct_lab.errors import ConfigError
from instruct_lab.experiment.rules.combinations import batching_reason, family_reason, tuning_reason

FAMILIES = ("decoder", "encoder-decoder", "encoder")
AXES = ("objective", "tuning", "batching")


@dataclasses.dataclass(frozen=True)
class Combination:
    """One option of each group and a family; it trains, or `reason` says why it does not."""

    family: str
    objective: str
    tuning: str
    batching: str
    reason: str | None = None

    @property
    def trains(self) -> bool:
        """Whether nothing speaks against it."""
        return self.reason is None

    def to_json(self) -> dict[str, Any]:
        """The form that other tools read."""
        return {**dataclasses.asdict(self), "trains": self.trains, "reason": self.reason or ""}


def component_of(group: str, option: str) -> Any:
    """The component of an option as it stands in the packaged or the user's own configs.

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


def combination_reason(family: str, objective: Any, tuning: Any, batching: Any) -> str | None:
    """Why these do not go together; none where they do."""
    for chosen in (objective, tuning, batching):
        if reason := family_reason(chosen, family):
            return reason
    return tuning_reason(tuning, objective) or batching_reason(batching, objective)

"""What a user can choose about a sweep."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.errors import Refusal
from instruct_lab.sweep.pruners import Pruner
from instruct_lab.sweep.space import Dimension, SpaceError, dimension_of, points_dimension, space_of

Direction = Literal["minimize", "maximize"]


@component
class Sweep(Component):
    """What varies, how often, and what is looked for. See `instruct_lab.sweep.space.dimension_of` for the syntax."""

    space: dict[str, Any] = Field(default_factory=dict)  # what varies: group or full key to values
    points: list[str | list[str]] = Field(
        default_factory=list
    )  # whole points, each an override or a list of them; combined with what varies in space
    seeds: Annotated[int, Field(ge=1)] = 1  # runs of each point, with seeds from the config's seed upwards
    num_points: Annotated[int, Field(ge=1)] | None = None  # points to try; null: all, where they have an end
    metric: str | list[str] = (
        "val/loss"  # what is looked for: a metric of the results, a logged validation value (its best), or a cost
    )
    direction: Direction | list[Direction] | None = None  # null: as the metric's own definition says
    refused_points: Literal["refuse", "fail"] = (
        "refuse"  # points whose config is wrong: refuse the whole sweep beforehand, or record each as failed
    )
    max_hours: Annotated[float, Field(gt=0)] | None = None  # no trial starts after so many hours
    pruner: Pruner  # which trials are stopped early

    def __post_init__(self) -> None:
        try:
            space_of(self.dimensions())
        except SpaceError as error:
            raise Refusal("space", str(error)) from None
        if not self.metrics or len(set(self.metrics)) < len(self.metrics):
            raise Refusal("metric", "name one metric, or several that differ")
        if isinstance(self.direction, list) and len(self.direction) != len(self.metrics):
            raise Refusal("direction", "there is one for each metric")
        if len(self.metrics) > 1 and self.pruner.prunes:
            raise Refusal("pruner", "a trial is pruned by one metric, and several are looked for")

    @property
    def metrics(self) -> list[str]:
        """What is looked for, one or several."""
        return [self.metric] if isinstance(self.metric, str) else self.metric

    def dimensions(self) -> list[Dimension]:
        """What varies; an entry that is null does not.

        Raises:
            SpaceError: an entry cannot be read.
        """
        listed = [points_dimension(self.points)] if self.points else []
        return [*listed, *(dimension_of(key, entry) for key, entry in self.space.items() if entry is not None)]

"""The settings of a sweep: what varies, how many runs are made, and what is optimised."""

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
    """Settings of a sweep: the values that vary, the number of runs, and the metric to optimise.

    An entry of `space` is a config group or key with its values: a list, or a text such as `4,8,16`, `range(1, 9, 2)`
    or `tag(log, interval(1e-5, 1e-3))`. `instruct_lab.sweep.space.dimension_of` lists all possibilities.
    """

    space: dict[str, Any] = Field(default_factory=dict)  # values that vary, by group or full key
    points: list[str | list[str]] = Field(default_factory=list)  # points to try, each one override or several
    seeds: Annotated[int, Field(ge=1)] = 1  # runs of each point, with seeds counting up from the config's seed
    num_points: Annotated[int, Field(ge=1)] | None = None  # points to try; null: all points of a grid
    metric: str | list[str] = "val/loss"  # metric to optimise: a result, a cost, or the best logged value
    direction: Direction | list[Direction] | None = None  # direction of optimisation; null: as the metric declares
    refused_points: Literal["refuse", "fail"] = "refuse"  # points with problems refuse the sweep, or only fail
    max_hours: Annotated[float, Field(gt=0)] | None = None  # no further trial starts after this time; null: no limit
    pruner: Pruner  # rule by which trials are stopped early

    def __post_init__(self) -> None:
        try:
            space_of(self.dimensions())
        except SpaceError as error:
            raise Refusal("space", str(error)) from None
        if not self.metrics or len(set(self.metrics)) < len(self.metrics):
            raise Refusal("metric", "give one metric, or several different ones")
        if isinstance(self.direction, list) and len(self.direction) != len(self.metrics):
            raise Refusal("direction", "give one direction for each metric")
        if len(self.metrics) > 1 and self.pruner.prunes:
            raise Refusal("pruner", "a pruner compares trials by one metric, and sweep.metric has several")

    @property
    def metrics(self) -> list[str]:
        """The metrics to optimise, as a list."""
        return [self.metric] if isinstance(self.metric, str) else self.metric

    def dimensions(self) -> list[Dimension]:
        """Return the dimensions of the search space, each of which is something that varies between the runs.

        If `points` is not empty, the first dimension is the choice among its items. Each entry of `space` is a
        dimension too: a config group or key that varies. Entries whose value is `None` are left out.

        Raises:
            SpaceError: an entry of `points` or `space` cannot be read.
        """
        listed = [points_dimension(self.points)] if self.points else []
        return [*listed, *(dimension_of(key, entry) for key, entry in self.space.items() if entry is not None)]

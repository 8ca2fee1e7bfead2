"""What is measured on held-out examples."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.errors import Refusal

HeldOut = Literal["validation", "test"]
HELD_OUT: tuple[HeldOut, ...] = ("validation", "test")


@component
class Evaluation(Component):
    """What is measured on held-out examples, before the first step, during training and at the end."""

    splits: list[HeldOut] = Field(
        default_factory=lambda: list(HELD_OUT)
    )  # splits that are measured; one that the data does not have is left out
    max_examples: Annotated[int, Field(ge=1)] | None = None  # examples of a split (of a source, by_source); null: all
    before: bool = True  # measure the untuned model too
    baselines: bool = True  # measure the data set's plain baselines too
    during_examples: Annotated[int, Field(ge=0)] = 0  # validation examples answered at each validation
    by_source: bool | None = None  # tell held-out results source by source too; null: where the data is a mixture
    checkpoint: Literal["best", "last"] = "best"  # the weights that are measured at the end, used and exported
    show_samples: Annotated[int, Field(ge=0)] = 3  # predictions shown below the final table

    def __post_init__(self) -> None:
        if len(set(self.splits)) != len(self.splits):
            raise Refusal("splits", "each split is named once")

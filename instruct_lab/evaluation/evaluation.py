"""The settings with which a model is evaluated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.errors import Refusal

HeldOut = Literal["validation", "test"]
HELD_OUT: tuple[HeldOut, ...] = ("validation", "test")


@component
class Evaluation(Component):
    """Settings of the evaluation on held-out examples, before, during and after training."""

    splits: list[HeldOut] = Field(
        default_factory=lambda: list(HELD_OUT)
    )  # splits to evaluate; splits that the data does not have are skipped
    max_examples: Annotated[int, Field(ge=1)] | None = None  # examples per split (per source with by_source); null: all
    before: bool = True  # evaluate the base model too
    baselines: bool = True  # evaluate the data set's baselines too
    batch_tokens: Annotated[int, Field(ge=1)] | None = (
        None  # maximum number of tokens in a batch, with padding; longer examples are on their own; null: by memory
    )
    during_examples: Annotated[int, Field(ge=0)] = (
        0  # validation examples answered at each validation; trackers name their metrics val/chrf_estimate
    )
    by_source: bool | None = None  # also report results of each data source; null: if the data is a mixture
    checkpoint: Literal["best", "last"] = "best"  # the weights to evaluate, use and export
    show_samples: Annotated[int, Field(ge=0)] = 3  # predictions printed below the final table

    def __post_init__(self) -> None:
        if len(set(self.splits)) != len(self.splits):
            raise Refusal("splits", "names a split twice; name each split once")

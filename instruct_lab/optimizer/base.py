"""The base of optimizers: from named parameters to a torch optimizer over parameter groups."""

from __future__ import annotations

import importlib.util
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.errors import InstructLabError, Problem, Refusal
from instruct_lab.optimizer.groups import (
    NO_DECAY,
    Factor,
    Group,
    distances_from_top,
    factors_by_pattern,
    parameter_groups,
)

if TYPE_CHECKING:
    import torch


@component
class Optimizer(Component, ABC):
    """How gradients become updates, and which parameters get which learning rate and weight decay.

    The learning rate of a parameter is `lr` times the tuning method's factor for it, the first factor of `lr_factors`
    whose pattern matches its name, and `layer_decay` to the power of its distance from the model's output. A schedule
    multiplies all of them by one factor, so their ratios do not change.
    """

    package: ClassVar[tuple[str, str] | None] = None
    """The optional package that does the work: its import name and its name for pip."""

    averages_weights: ClassVar[bool] = False
    """Whether evaluation and checkpoints use an average of the weights that the optimizer itself maintains."""

    lr: Annotated[float, Field(gt=0)] | None = (
        None  # peak learning rate; null: the tuning method's, scaled for the optimizer and the objective
    )
    weight_decay: Annotated[float, Field(ge=0)] = 0.0  # decoupled, times the learning rate
    no_decay: str = NO_DECAY  # regular expression: parameters whose names match are not decayed
    lr_factors: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict
    )  # regular expression of parameter names to a factor of lr; the first match wins
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = (
        None  # layer-wise decay: factor of lr for each layer further from the output; embeddings get the lowest
    )

    def __post_init__(self) -> None:
        for field, pattern in [("no_decay", self.no_decay), *(("lr_factors", key) for key in self.lr_factors)]:
            try:
                re.compile(pattern)
            except re.error as error:
                raise Refusal(field, f"{pattern!r} is not a regular expression: {error}") from error

    @property
    def learning_rate_scale(self) -> float:
        """Learning rate that suits this optimizer, as a multiple of the one that suits AdamW."""
        return 1.0

    @property
    def peak_lr(self) -> float:
        """`lr` as a number. A run's config always has one: see `instruct_lab.experiment.settled`.

        Raises:
            InstructLabError: it is null.
        """
        if self.lr is None:
            raise InstructLabError("The learning rate is null", where="optimizer.lr", do="set it, such as 1e-4")
        return self.lr

    def problems(self) -> Iterator[Problem]:
        """Report a required package that is not installed."""
        if self.package is not None and importlib.util.find_spec(self.package[0]) is None:
            name = type(self).__name__
            reason = (
                f"{name} needs the package {self.package[1]}, which is not installed: pip install {self.package[1]}"
            )
            yield Problem(key="", reason=reason, kind="unavailable_here")

    def build(
        self, parameters: Iterable[tuple[str, torch.nn.Parameter]], factor: Factor | None = None
    ) -> torch.optim.Optimizer:
        """A torch optimizer over the named parameters that require gradients.

        Args:
            parameters: all of a model's, including frozen ones, which show how deep the model is.
            factor: the tuning method's factor of the learning rate, by parameter name.

        Raises:
            InstructLabError: no parameter requires gradients, or a pattern or `layer_decay` has no effect on them.
        """
        named = list(parameters)
        by_pattern = factors_by_pattern(self.lr_factors, [name for name, value in named if value.requires_grad])
        distances = distances_from_top(name for name, _ in named) if self.layer_decay is not None else {}
        decay = self.layer_decay if self.layer_decay is not None else 1.0

        def total(name: str) -> float:
            by_method = factor(name) if factor is not None else 1.0
            return by_method * by_pattern.get(name, 1.0) * decay ** distances.get(name, 0)

        optimizer = self.make(parameter_groups(named, no_decay=self.no_decay, factor=total, part=self.part))
        # fused kernels can unscale float16 gradients in the step, which is too late for clipping and for logging norms
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        return optimizer

    def part(self, name: str, parameter: torch.nn.Parameter) -> str:
        """Name of the update rule for a parameter; empty for optimizers with one rule."""
        return ""

    @abstractmethod
    def make(self, groups: list[Group]) -> torch.optim.Optimizer:
        """The torch optimizer over these groups."""


def check_betas(betas: list[float]) -> None:
    """Refuse decays of running means outside [0, 1).

    Raises:
        Refusal: of the field `betas`.
    """
    if not all(0 <= beta < 1 for beta in betas):
        raise Refusal("betas", "each must be at least 0 and below 1")


Betas = Annotated[list[float], Field(min_length=2, max_length=2)]
"""Two decays of running means, each in [0, 1)."""

"""The base class of optimizers, which build a torch optimizer over groups of named parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from instruct_lab.config import Component, Regex, component
from instruct_lab.errors import InstructLabError, Problem, Refusal
from instruct_lab.optimizer.groups import (
    NO_DECAY,
    Factor,
    Group,
    distances_from_top,
    factors_by_pattern,
    parameter_groups,
)
from instruct_lab.optional_packages import missing_packages

if TYPE_CHECKING:
    import torch


@component
class Optimizer(Component, ABC):
    """Base class of optimizers, which define the update rule, and the learning rate and weight decay of each parameter.

    A parameter's learning rate is the product of `lr` and up to three factors: the tuning method's factor for this
    parameter, the first factor in `lr_factors` whose pattern matches the parameter's name, and `layer_decay` to the
    power of the parameter's distance from the model's output, in layers. The learning-rate schedule multiplies all
    learning rates by the same factor, so their ratios do not change.
    """

    package: ClassVar[str | None] = None
    """The import name of the optional package that implements the optimizer."""

    averages_weights: ClassVar[bool] = False
    """Whether evaluation and checkpoints use an average of the weights, which the optimizer maintains."""

    is_elementwise: ClassVar[bool] = False
    """True if each element of a parameter is updated from its own gradient and states, so parameters can be sharded."""

    lr: Annotated[float, Field(gt=0)] | None = (
        None  # peak learning rate; null: the tuning method's default, scaled for the optimizer and the objective
    )
    weight_decay: Annotated[float, Field(ge=0)] = 0.0  # decoupled weight decay, multiplied by the learning rate
    no_decay: Regex = NO_DECAY  # regular expression: no weight decay for parameters whose names match
    lr_factors: dict[Regex, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict
    )  # factors of lr, keyed by a regular expression of parameter names; the first match applies
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = (
        None  # factor of lr for each layer of distance from the output; embeddings get the lowest learning rate
    )
    nonfinite: Literal["stop", "skip_step"] = (
        "stop"  # what to do if the loss or the gradient of a step is not finite; skipped steps are listed in the record
    )

    @property
    def learning_rate_scale(self) -> float:
        """The factor that turns the default learning rate, which suits AdamW, into one for this optimizer."""
        return 1.0

    @property
    def peak_lr(self) -> float:
        """The peak learning rate, `lr`; a run sets it to a number before it starts if the config leaves it null.

        Raises:
            InstructLabError: `lr` is null.
        """
        if self.lr is None:
            raise InstructLabError("The learning rate is null", where="optimizer.lr", do="set it, such as 1e-4")
        return self.lr

    def problems(self) -> Iterator[Problem]:
        """Report the package that implements the optimizer if it is not installed."""
        if self.package is not None:
            yield from missing_packages(self.package, subject=type(self).__name__)

    def build(
        self, parameters: Iterable[tuple[str, torch.nn.Parameter]], factor: Factor | None = None
    ) -> torch.optim.Optimizer:
        """Build a torch optimizer over the named parameters that require gradients.

        Args:
            parameters: all named parameters of a model, including frozen ones, which are needed to count the layers.
            factor: function from a parameter's name to the factor by which the tuning method multiplies its learning
                rate.

        Raises:
            InstructLabError: no parameter requires gradients, a pattern in `lr_factors` changes no learning rate, or
                `layer_decay` is set and no parameter name contains a layer number.
        """
        named = list(parameters)
        by_pattern = factors_by_pattern(self.lr_factors, [name for name, value in named if value.requires_grad])
        distances = distances_from_top(name for name, _ in named) if self.layer_decay is not None else {}
        decay = self.layer_decay if self.layer_decay is not None else 1.0

        def total(name: str) -> float:
            by_method = factor(name) if factor is not None else 1.0
            return by_method * by_pattern.get(name, 1.0) * decay ** distances.get(name, 0)

        optimizer = self.make(parameter_groups(named, no_decay=self.no_decay, factor=total, part=self.part))
        # fused kernels can unscale float16 gradients in the step, too late for clipping and for logging their norms
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        return optimizer

    def part(self, name: str, parameter: torch.nn.Parameter) -> str:
        """Return the name of the update rule for a parameter; it is empty if all parameters have the same rule."""
        return ""

    @abstractmethod
    def make(self, groups: list[Group]) -> torch.optim.Optimizer:
        """Build the torch optimizer for the given parameter groups."""


def check_betas(betas: list[float]) -> None:
    """Refuse betas outside [0, 1).

    Raises:
        Refusal: a value is outside this range.
    """
    if not all(0 <= beta < 1 for beta in betas):
        raise Refusal("betas", "each must be at least 0 and below 1")


Betas = Annotated[list[float], Field(min_length=2, max_length=2)]
"""The decay rates of two running means, each in [0, 1)."""

"""Optimizers with one update rule for all parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.errors import Refusal
from instruct_lab.optimizer.base import Betas, Optimizer, check_betas
from instruct_lab.optimizer.groups import Group

if TYPE_CHECKING:
    import torch

FUSED_DEVICES = frozenset({"cpu", "cuda", "mps", "xpu"})
"""Device types for which torch has a fused AdamW kernel."""


@component
class AdamW(Optimizer):
    """Adam with decoupled weight decay. Source: Loshchilov and Hutter, 2019.

    With w a parameter, g its gradient, t the step counted from 1, b1 and b2 the two `betas`, and wd = `weight_decay`:
    m = b1·m + (1 - b1)·g; v = b2·v + (1 - b2)·g²;
    w = w - lr·wd·w - lr·(m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).
    """

    is_elementwise: ClassVar[bool] = True

    betas: Betas = Field(
        default_factory=lambda: [0.9, 0.999]
    )  # decay rates of the running means of the gradient and of its square, each in [0, 1)
    eps: Annotated[float, Field(gt=0)] = 1e-8  # added to the denominator
    fused: bool = True  # use the fused kernel if the device has one: faster, with the same update

    def __post_init__(self) -> None:
        check_betas(self.betas)

    def make(self, groups: list[Group]) -> torch.optim.Optimizer:
        """Build `torch.optim.AdamW`."""
        import torch

        return torch.optim.AdamW(
            [group.options(self.peak_lr, self.weight_decay) for group in groups],
            lr=self.peak_lr,
            betas=(self.betas[0], self.betas[1]),
            eps=self.eps,
            fused=self.fused and can_fuse(groups),
        )


def can_fuse(groups: list[Group]) -> bool:
    """Whether torch has a fused AdamW kernel for all parameters of the groups."""
    return all(
        parameter.device.type in FUSED_DEVICES and parameter.is_floating_point()
        for group in groups
        for parameter in group.parameters
    )


@component
class Adafactor(Optimizer):
    """Adafactor: a factored second moment, no first moment, and update sizes relative to the size of the weights.

    For a matrix w with gradient g at step t, counted from 1, with b = 1 - t^beta2_decay and wd = `weight_decay`:
    R = b·R + (1 - b)·(mean of g² over columns); C = b·C + (1 - b)·(mean of g² over rows); V = R·C / mean(R);
    u = g / sqrt(V); w = w - lr·wd·w - max(min_scale, rms(w)) · min(lr, 1 / sqrt(t)) · u / max(1, rms(u) /
    clip_threshold). rms is the root mean square. For a vector, V is the running mean of g² itself.
    Source: Shazeer and Stern, 2018; implemented by `torch.optim.Adafactor`.
    """

    beta2_decay: Annotated[float, Field(le=0)] = -0.8  # exponent of the second moment's decay over steps
    eps: Annotated[float, Field(gt=0)] | None = None  # lower bound of sqrt(V); null: chosen by dtype
    min_scale: Annotated[float, Field(ge=0)] = 1e-3  # lower bound of rms(w), the root mean square of the weights
    clip_threshold: Annotated[float, Field(ge=1)] = 1.0  # upper bound of an update's root mean square

    @property
    def learning_rate_scale(self) -> float:
        """The factor 50 turns AdamW's usual learning rate in full fine-tuning, 2e-5, into Adafactor's usual rate, 1e-3.

        The rate 1e-3 is that of Raffel et al., 2020.
        """
        return 50.0

    def make(self, groups: list[Group]) -> torch.optim.Optimizer:
        """Build `torch.optim.Adafactor`."""
        import torch

        return torch.optim.Adafactor(
            [group.options(self.peak_lr, self.weight_decay) for group in groups],
            lr=self.peak_lr,
            beta2_decay=self.beta2_decay,
            eps=(self.eps, self.min_scale),
            d=self.clip_threshold,
        )


@component
class Lion(Optimizer):
    """Lion: each update is the sign of a mean of momentum and gradient, times lr. Source: Chen et al., 2023.

    It stores one state for each parameter, where AdamW stores two. With w a parameter, g its gradient, m the momentum,
    b1 and b2 the two `betas`, and wd = `weight_decay`:
    w = w - lr·wd·w - lr·sign(b1·m + (1 - b1)·g); then m = b2·m + (1 - b2)·g.
    """

    is_elementwise: ClassVar[bool] = True

    betas: Betas = Field(
        default_factory=lambda: [0.9, 0.99]
    )  # b1, weight of the momentum in the update, and b2, decay rate of the momentum, each in [0, 1)

    @property
    def learning_rate_scale(self) -> float:
        """The factor 0.15, by which AdamW's learning rate is multiplied for Lion.

        Chen et al. (2023) recommend factors of 1/10 to 1/3.
        """
        return 0.15

    def __post_init__(self) -> None:
        check_betas(self.betas)

    def make(self, groups: list[Group]) -> torch.optim.Optimizer:
        """Build this package's implementation of Lion, since torch has none."""
        from instruct_lab.optimizer._lion import SignMomentum

        options = [group.options(self.peak_lr, self.weight_decay) for group in groups]
        return SignMomentum(options, lr=self.peak_lr, betas=(self.betas[0], self.betas[1]))


@component
class ScheduleFreeAdamW(Optimizer):
    """AdamW with a running average of the weights, so that the learning rate does not have to decay.

    z are the weights that each step updates, x is their running average, v̂ is AdamW's bias-corrected second moment, b1
    is the first of the `betas`, and wd = `weight_decay`. The gradient g is taken at y = (1 - b1)·z + b1·x. Then
    z = z - lr·(g / (sqrt(v̂) + eps) + wd·y), and x = (1 - c)·x + c·z. Here c is the weight lr_max²·t^averaging_power of
    step t, divided by the sum of the weights of all steps so far; lr_max is the largest lr so far. The model holds y in
    training, and the average x in evaluation and in checkpoints. Use `lr_scheduler=constant`, with or without warm-up.
    Source: Defazio et al., 2024.
    """

    package: ClassVar[str | None] = "schedulefree"
    averages_weights: ClassVar[bool] = True

    betas: Betas = Field(
        default_factory=lambda: [0.9, 0.999]
    )  # share of the average x in y (above 0), and decay rate of the running mean of the gradient's square
    eps: Annotated[float, Field(gt=0)] = 1e-8  # added to the denominator
    averaging_power: Annotated[float, Field(ge=0)] = 0.0  # step t has weight t to this power in the average

    def __post_init__(self) -> None:
        check_betas(self.betas)
        if self.betas[0] == 0:
            raise Refusal("betas", "the first must be above 0: the average is computed from it")

    @property
    def learning_rate_scale(self) -> float:
        """The factor 2, by which AdamW's learning rate is multiplied for this optimizer.

        Defazio et al. (2024) recommend factors of 1 to 10.
        """
        return 2.0

    def make(self, groups: list[Group]) -> torch.optim.Optimizer:
        """Build `schedulefree.AdamWScheduleFree`, in training mode."""
        import schedulefree

        optimizer: torch.optim.Optimizer = schedulefree.AdamWScheduleFree(
            [group.options(self.peak_lr, self.weight_decay) for group in groups],
            lr=self.peak_lr,
            betas=(self.betas[0], self.betas[1]),
            eps=self.eps,
            r=self.averaging_power,
        )
        optimizer.train()  # type: ignore[attr-defined]
        return optimizer

"""Optimizers with a special update rule for the matrices of the hidden layers, and AdamW for all other parameters."""

from __future__ import annotations

import functools
from abc import ABC
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from instruct_lab.config import LimitedExpression, Regex, component
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.optimizer.base import Betas, Optimizer, check_betas
from instruct_lab.optimizer.groups import EMBEDDING, Group
from instruct_lab.optimizer.optimizers import can_fuse

if TYPE_CHECKING:
    import torch

OUTSIDE = rf"{EMBEDDING}|relative_attention_bias|(^|\.)(lm_head|embed_out|score|classifier|cls)\."
"""Matches names of matrices at the model's input or output, such as embeddings and heads, which AdamW updates."""

MATRIX, REST = "matrix", "rest"


@component
class MatrixOptimizer(Optimizer, ABC):
    """Base class of optimizers with a special update rule for matrices of the hidden layers, and AdamW for the rest.

    AdamW also updates matrices whose names match `outside`, by default those of embeddings and heads.
    """

    outside: Regex = OUTSIDE  # regular expression: AdamW also updates matrices whose names match
    betas: Betas = Field(
        default_factory=lambda: [0.9, 0.999]
    )  # AdamW's decay rates of the running means of the gradient and its square, each in [0, 1)
    eps: Annotated[float, Field(gt=0)] = 1e-8  # number that AdamW adds to the denominator

    def __post_init__(self) -> None:
        check_betas(self.betas)

    @functools.cached_property
    def _outside(self) -> LimitedExpression:
        return LimitedExpression(self.outside, where="optimizer.outside", ignore_case=True)

    def part(self, name: str, parameter: torch.nn.Parameter) -> str:
        """Return the name of the update rule for a parameter: `matrix` for the special rule, `rest` for AdamW."""
        is_matrix = parameter.ndim == 2 and not self._outside.search(name)
        return MATRIX if is_matrix and self.takes(parameter) else REST

    def takes(self, parameter: torch.nn.Parameter) -> bool:
        """Whether the special update rule supports matrices of this parameter's shape."""
        return True

    def _split(self, groups: list[Group], wanted: str) -> tuple[list[Group], list[Group]]:
        matrices = [group for group in groups if group.part == MATRIX]
        if not matrices:
            raise InstructLabError(
                f"None of the trained parameters is {wanted}, so {type(self).__name__} would do the same as AdamW",
                where="optimizer",
                do="choose optimizer=adamw, or a tuning method that trains matrices",
            )
        return matrices, [group for group in groups if group.part == REST]


@component
class Muon(MatrixOptimizer):
    """Muon: momentum, made orthogonal by a Newton-Schulz iteration, for matrices; AdamW for other parameters.

    For a matrix w [rows, columns] with gradient g, and wd = `weight_decay`: m = momentum·m + (1 - momentum)·g. With
    `nesterov`, u = momentum·m + (1 - momentum)·g, else u = m. The Newton-Schulz iteration starts from X = u / |u| in
    bfloat16. It repeats the step X = a·X + (b·A + c·A²)·X `iterations` times, where A = X·Xᵀ, and a, b and c are
    PyTorch's constants. Then w = w - lr·wd·w - lr·s·X.

    If `scale` is `match_rms_adamw`, s = 0.2·sqrt(max(rows, columns)), so that learning rates of AdamW can be used. If
    it is `original`, s = sqrt(max(1, rows / columns)).
    Sources: Jordan et al., 2024; Liu et al., 2025; implemented by `torch.optim.Muon`.
    """

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95  # decay rate of the gradient's running mean, for matrices
    nesterov: bool = True  # use Nesterov momentum
    iterations: Annotated[int, Field(ge=1, lt=100)] = 5  # number of Newton-Schulz iterations
    scale: Literal["match_rms_adamw", "original"] = "match_rms_adamw"  # how the matrix's shape scales its update
    adamw_lr: Annotated[float, Field(gt=0)] | None = None  # peak learning rate of other parameters; null: lr

    def __post_init__(self) -> None:
        MatrixOptimizer.__post_init__(self)
        if self.scale == "original" and self.lr is None:
            raise Refusal("lr", "null is a rate for scale=match_rms_adamw; scale=original needs its own, about 0.02")

    def make(self, groups: list[Group]) -> torch.optim.Optimizer:
        """Build `torch.optim.Muon` for matrices; combine it with `torch.optim.AdamW` if there are other parameters."""
        import torch

        from instruct_lab.optimizer._joint import Joint

        matrices, rest = self._split(groups, "a matrix inside the model")
        muon = torch.optim.Muon(
            [group.options(self.peak_lr, self.weight_decay) for group in matrices],
            lr=self.peak_lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            ns_steps=self.iterations,
            adjust_lr_fn=self.scale,
        )
        if not rest:
            return muon
        adamw_lr = self.adamw_lr if self.adamw_lr is not None else self.peak_lr
        adamw = torch.optim.AdamW(
            [group.options(adamw_lr, self.weight_decay) for group in rest],
            betas=(self.betas[0], self.betas[1]),
            eps=self.eps,
            fused=can_fuse(rest),
        )
        return Joint([muon, adamw])


@component
class LowRankGradients(MatrixOptimizer, ABC):
    """Base class of optimizers that project a matrix's gradient to a low rank, so that AdamW's states are smaller."""

    rank: Annotated[int, Field(ge=1)] = 128  # rank of the projected gradient; matrices with a side up to this use AdamW
    update_every: Annotated[int, Field(ge=1)] = 200  # optimizer steps between updates of the projection

    def takes(self, parameter: torch.nn.Parameter) -> bool:
        """Whether both dimensions of the matrix are larger than `rank`, the rank to which its gradient is projected."""
        return min(parameter.shape) > self.rank


@component
class GaLore(LowRankGradients):
    """GaLore: AdamW on projections of the gradients of matrices; plain AdamW for other parameters.

    With g the gradient of a matrix w, both [n, m] with n >= m, and wd = `weight_decay`: every `update_every` steps,
    P [rank, m] = the leading right singular vectors of g; r = g·Pᵀ; N = the update that AdamW computes from r;
    w = w - lr·scale·N·P - lr·wd·w. For n < m the left singular vectors are used.
    Source: Zhao et al., 2024; implemented by the package pytorch-optimizer.
    """

    package: ClassVar[str | None] = "pytorch_optimizer"

    scale: Annotated[float, Field(gt=0)] = 0.25  # scale of the projected update

    @property
    def learning_rate_scale(self) -> float:
        """The factor for the default learning rate, 1 / `scale`: updates of matrices are also multiplied by `scale`."""
        return 1 / self.scale

    def make(self, groups: list[Group]) -> torch.optim.Optimizer:
        """Build a `pytorch_optimizer.GaLore` whose state can be saved in checkpoints."""
        from instruct_lab.optimizer._galore import ProjectedAdamW

        matrices, rest = self._split(groups, f"a matrix with both sides above rank {self.rank}")
        options = [group.options(self.peak_lr, self.weight_decay) for group in rest]
        for group in matrices:
            projected = {"rank": self.rank, "update_proj_gap": self.update_every, "scale": self.scale}
            options.append({**group.options(self.peak_lr, self.weight_decay), **projected, "projection_type": "std"})
        return ProjectedAdamW(options, lr=self.peak_lr, betas=(self.betas[0], self.betas[1]), eps=self.eps)

"""Optimizers with a rule of their own for the matrices inside a model, and AdamW's for the rest."""

from __future__ import annotations

import re
from abc import ABC
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.optimizer.base import Betas, Optimizer, check_betas
from instruct_lab.optimizer.groups import EMBEDDING, Group
from instruct_lab.optimizer.optimizers import can_fuse

if TYPE_CHECKING:
    import torch

OUTSIDE = rf"{EMBEDDING}|relative_attention_bias|(^|\.)(lm_head|embed_out|score|classifier|cls)\."
"""Matrices that are tables or outputs: embeddings, language-model heads, classification heads."""

MATRIX, REST = "matrix", "rest"


@component
class MatrixOptimizer(Optimizer, ABC):
    """Splits the trained parameters into the matrices inside the model and the rest, which gets AdamW's update."""

    outside: str = OUTSIDE  # regular expression: matrices whose names match get AdamW's update
    betas: Betas = Field(
        default_factory=lambda: [0.9, 0.999]
    )  # AdamW's decay of the gradient's and of its square's running means, each in [0, 1)
    eps: Annotated[float, Field(gt=0)] = 1e-8  # AdamW's, added to the denominator

    def __post_init__(self) -> None:
        Optimizer.__post_init__(self)
        check_betas(self.betas)
        try:
            re.compile(self.outside)
        except re.error as error:
            raise Refusal("outside", f"not a regular expression: {error}") from error

    def part(self, name: str, parameter: torch.nn.Parameter) -> str:
        """`matrix` for a matrix inside the model, else `rest`."""
        is_matrix = parameter.ndim == 2 and not re.search(self.outside, name, re.IGNORECASE)
        return MATRIX if is_matrix and self.takes(parameter) else REST

    def takes(self, parameter: torch.nn.Parameter) -> bool:
        """Whether the matrix has a shape that the rule is for."""
        return True

    def _split(self, groups: list[Group], wanted: str) -> tuple[list[Group], list[Group]]:
        matrices = [group for group in groups if group.part == MATRIX]
        if not matrices:
            raise InstructLabError(
                f"None of the trained parameters is {wanted}, so {type(self).__name__} would be AdamW alone",
                where="optimizer",
                do="choose optimizer=adamw, or a tuning method that trains matrices",
            )
        return matrices, [group for group in groups if group.part == REST]


@component
class Muon(MatrixOptimizer):
    """Momentum, made orthogonal by a Newton-Schulz iteration, for matrices; AdamW for the rest.

    m = momentum·m + (1 - momentum)·g; u = momentum·m + (1 - momentum)·g with nesterov, else m; then `iterations` times
    X = a·X + (b·A + c·A²)·X with A = X·Xᵀ, from X = u / |u|, in bfloat16; w [n, m] = w - lr·wd·w - lr·s·X. Here s is
    0.2·sqrt(max(n, m)) where `scale` is `match_rms_adamw`, so that learning rates are AdamW's, and sqrt(max(1, n / m))
    where it is `original`. Sources: Jordan et al., 2024; Liu et al., 2025; as `torch.optim.Muon` has it.
    """

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95  # decay of the gradient's running mean, for matrices
    nesterov: bool = True  # look one step ahead along the momentum
    iterations: Annotated[int, Field(ge=1, lt=100)] = 5  # of Newton-Schulz
    scale: Literal["match_rms_adamw", "original"] = "match_rms_adamw"  # of the update by the matrix's shape
    adamw_lr: Annotated[float, Field(gt=0)] | None = None  # peak learning rate of the rest; null: lr

    def make(self, groups: list[Group]) -> torch.optim.Optimizer:
        """`torch.optim.Muon` and `torch.optim.AdamW` as one."""
        import torch

        from instruct_lab.optimizer._joint import Joint

        matrices, rest = self._split(groups, "a matrix inside the model")
        muon = torch.optim.Muon(
            [group.options(self.lr, self.weight_decay) for group in matrices],
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            ns_steps=self.iterations,
            adjust_lr_fn=self.scale,
        )
        if not rest:
            return muon
        adamw_lr = self.adamw_lr if self.adamw_lr is not None else self.lr
        adamw = torch.optim.AdamW(
            [group.options(adamw_lr, self.weight_decay) for group in rest],
            betas=(self.betas[0], self.betas[1]),
            eps=self.eps,
            fused=can_fuse(rest),
        )
        return Joint([muon, adamw])


@component
class LowRankGradients(MatrixOptimizer, ABC):
    """Keeps AdamW's two states of a matrix in a subspace of its gradient."""

    rank: Annotated[int, Field(ge=1)] = 128  # of the subspace; matrices with a side no longer get AdamW's update
    update_every: Annotated[int, Field(ge=1)] = 200  # optimizer steps between two choices of the subspace

    def takes(self, parameter: torch.nn.Parameter) -> bool:
        """Whether the subspace is smaller than the matrix."""
        return min(parameter.shape) > self.rank


@component
class GaLore(LowRankGradients):
    """AdamW on the gradient's projection to its own leading singular vectors, for matrices; AdamW for the rest.

    For g [n, m] with n >= m: every `update_every` steps P [rank, m] = the leading right singular vectors of g;
    r = g·Pᵀ; N = AdamW's update from r; w = w - lr·scale·N·P - lr·wd·w. For n < m the left vectors are taken.
    Source: Zhao et al., 2024; by the package pytorch-optimizer, with a state that checkpoints can hold.
    """

    package: ClassVar[tuple[str, str] | None] = ("pytorch_optimizer", "pytorch-optimizer")

    scale: Annotated[float, Field(gt=0)] = 0.25  # of the projected update

    def make(self, groups: list[Group]) -> torch.optim.Optimizer:
        """`pytorch_optimizer.GaLore`."""
        from instruct_lab.optimizer._galore import ProjectedAdamW

        matrices, rest = self._split(groups, f"a matrix with both sides above rank {self.rank}")
        options = [group.options(self.lr, self.weight_decay) for group in rest]
        for group in matrices:
            projected = {"rank": self.rank, "update_proj_gap": self.update_every, "scale": self.scale}
            options.append({**group.options(self.lr, self.weight_decay), **projected, "projection_type": "std"})
        return ProjectedAdamW(options, lr=self.lr, betas=(self.betas[0], self.betas[1]), eps=self.eps)

"""Optimizers and the parameter groups they take."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.errors import Refusal

if TYPE_CHECKING:
    import torch


class Optimizer(Component, ABC):
    """How gradients become updates."""

    @abstractmethod
    def build(
        self, parameters: Iterable[tuple[str, torch.nn.Parameter]], factor: Callable[[str], float] | None = None
    ) -> torch.optim.Optimizer:
        """A torch optimizer over the named parameters that require gradients."""


@component
class AdamW(Optimizer):
    """Adam with decoupled weight decay. Source: Loshchilov and Hutter, 2019."""

    lr: Annotated[float, Field(gt=0)]  # peak learning rate
    betas: Annotated[list[float], Field(min_length=2, max_length=2)] = Field(
        default_factory=lambda: [0.9, 0.999]
    )  # decay of the gradient's and of its square's running means, each in [0, 1)
    eps: Annotated[float, Field(gt=0)] = 1e-8  # added to the denominator
    weight_decay: Annotated[float, Field(ge=0)] = 0.0  # decoupled, times the learning rate
    no_decay: str = r"bias$|norm|embed"  # regular expression: parameters whose names match are not decayed
    fused: bool = True  # the fused kernel: same update, one pass over the parameters

    def __post_init__(self) -> None:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise Refusal("betas", "each must be at least 0 and below 1")
        try:
            re.compile(self.no_decay)
        except re.error as error:
            raise Refusal("no_decay", f"not a regular expression: {error}") from error

    def build(
        self, parameters: Iterable[tuple[str, torch.nn.Parameter]], factor: Callable[[str], float] | None = None
    ) -> torch.optim.Optimizer:
        """`torch.optim.AdamW` over a decayed and an undecayed group."""
        import torch

        decayed: list[torch.nn.Parameter] = []
        undecayed: list[torch.nn.Parameter] = []
        for name, parameter in parameters:
            if parameter.requires_grad:
                (undecayed if re.search(self.no_decay, name, re.IGNORECASE) else decayed).append(parameter)
        groups: list[dict[str, Any]] = [
            {"params": group, "weight_decay": decay}
            for group, decay in ((decayed, self.weight_decay), (undecayed, 0.0))
            if group
        ]
        betas = (self.betas[0], self.betas[1])
        return torch.optim.AdamW(groups, lr=self.lr, betas=betas, eps=self.eps, fused=self.fused)

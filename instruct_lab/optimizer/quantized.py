"""AdamW with quantised states, or with states that can move to CPU memory (paged), implemented by bitsandbytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.errors import Problem
from instruct_lab.optimizer.base import Betas, Optimizer, check_betas
from instruct_lab.optimizer.groups import Group

if TYPE_CHECKING:
    import torch


@component
class QuantizedAdamW(Optimizer):
    """AdamW whose two states are quantised to 8 bits (in blocks of 256 numbers), paged, or both.

    Paged states move to CPU memory when the GPU's memory is full, so that the run does not fail.
    Source: Dettmers et al., 2022 and 2023; implemented by the package bitsandbytes.
    """

    package: ClassVar[str | None] = "bitsandbytes"

    betas: Betas = Field(
        default_factory=lambda: [0.9, 0.999]
    )  # decay rates of the running means of the gradient and of its square, each in [0, 1)
    eps: Annotated[float, Field(gt=0)] = 1e-8  # added to the denominator
    bits: Literal[8, 32] = 8  # number of bits of each number in the states
    paged: bool = False  # let the states move to CPU memory; needs a GPU
    min_quantized: Annotated[int, Field(ge=0)] = 4096  # states of parameters with fewer elements keep 32 bits

    def __post_init__(self) -> None:
        check_betas(self.betas)

    def problems(self) -> Iterator[Problem]:
        """Report bitsandbytes if it is not installed, and paged states if this machine has no GPU."""
        from instruct_lab.model.hardware import has_gpu

        yield from Optimizer.problems(self)
        if self.paged and not has_gpu():
            reason = "paged states move out of a GPU's memory, and there is no GPU here: choose adamw_8bit, or set it"
            yield Problem(key="paged", value=True, reason=f"{reason} to false", kind="unavailable_here")

    def make(self, groups: list[Group]) -> torch.optim.Optimizer:
        """Build `bitsandbytes.optim.AdamW`."""
        import bitsandbytes

        optimizer: torch.optim.Optimizer = bitsandbytes.optim.AdamW(
            [group.options(self.peak_lr, self.weight_decay) for group in groups],
            lr=self.peak_lr,
            betas=(self.betas[0], self.betas[1]),
            eps=self.eps,
            optim_bits=self.bits,
            min_8bit_size=self.min_quantized,
            is_paged=self.paged,
        )
        return optimizer

"""Which parameters of a model train."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclasses.dataclass(frozen=True)
class ParameterCounts:
    """Scalars of a model: all of them, and those that train. Tied parameters count once."""

    total: int
    trained: int

    @property
    def share(self) -> float:
        """Trained scalars for each scalar of the model, in [0, 1]."""
        return self.trained / self.total if self.total else 0.0


def trainable_parameters(model: nn.Module) -> dict[str, int]:
    """Name and number of scalars of every parameter that trains, in the model's order."""
    return {name: parameter.numel() for name, parameter in model.named_parameters() if parameter.requires_grad}


def count_parameters(model: nn.Module) -> ParameterCounts:
    """How many scalars the model has, and how many of them train."""
    total = sum(parameter.numel() for parameter in model.parameters())
    return ParameterCounts(total=total, trained=sum(trainable_parameters(model).values()))

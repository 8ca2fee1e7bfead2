"""Which parameters of a model are trained."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclasses.dataclass(frozen=True)
class ParameterCounts:
    """Numbers of scalars in a model: all, and those that are trained. Tied parameters count once."""

    total: int
    trained: int

    @property
    def share(self) -> float:
        """Share of the scalars that are trained, in [0, 1]."""
        return self.trained / self.total if self.total else 0.0


def trainable_parameters(model: nn.Module) -> dict[str, int]:
    """Name and number of scalars of every trained parameter, in the model's order."""
    return {name: parameter.numel() for name, parameter in model.named_parameters() if parameter.requires_grad}


def count_parameters(model: nn.Module) -> ParameterCounts:
    """Count the scalars of the model and those that are trained."""
    total = sum(parameter.numel() for parameter in model.parameters())
    return ParameterCounts(total=total, trained=sum(trainable_parameters(model).values()))

"""List and count the trained parameters of a model."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclasses.dataclass(frozen=True)
class ParameterCounts:
    """The number of scalars in all parameters of a model, and in its trained parameters. Tied parameters count once."""

    total: int
    trained: int

    @property
    def share(self) -> float:
        """The number of trained scalars divided by the number of all scalars."""
        return self.trained / self.total if self.total else 0.0


def trainable_parameters(model: nn.Module) -> dict[str, int]:
    """Return the number of scalars of every trained parameter, keyed by name, in the model's order."""
    return {name: parameter.numel() for name, parameter in model.named_parameters() if parameter.requires_grad}


def count_parameters(model: nn.Module) -> ParameterCounts:
    """Count the scalars in all parameters and in the trained parameters of a model."""
    total = sum(parameter.numel() for parameter in model.parameters())
    return ParameterCounts(total=total, trained=sum(trainable_parameters(model).values()))

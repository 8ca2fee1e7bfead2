"""What an objective is: batch and model to (loss sum, target count)."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from instruct_lab.batching import Batch
from instruct_lab.config import Component

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclasses.dataclass(frozen=True, slots=True)
class Loss:
    """Summed losses and the number of target tokens they sum over, one of each for every example of a batch.

    Nothing is divided here: the sums of all micro-batches and devices are divided once, by all their targets, at the
    optimizer step.
    """

    sums: Tensor  # [batch], float32, nats
    counts: Tensor  # [batch], int64


class Objective(Component, ABC):
    """What is minimised."""

    @abstractmethod
    def loss(self, model: PreTrainedModel, batch: Batch) -> Loss:
        """The summed loss and the target count of every example of the batch."""

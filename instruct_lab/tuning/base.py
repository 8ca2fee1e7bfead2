"""What a tuning method is: which parameters train, and which are added."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from instruct_lab.config import Component

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Tuning(Component, ABC):
    """Decides what trains, and what a checkpoint of it holds."""

    is_adapter: ClassVar[bool] = False
    """Whether only added parameters train, so that a checkpoint holds them alone."""

    @abstractmethod
    def apply(self, model: PreTrainedModel) -> PreTrainedModel:
        """Set `requires_grad` on every parameter, adding parameters where the method has its own."""

    @abstractmethod
    def save(self, model: PreTrainedModel, path: Path) -> None:
        """Write what was trained to a folder: the adapter alone for adapter methods, else the whole model."""

    @abstractmethod
    def load(self, model: PreTrainedModel, path: Path) -> PreTrainedModel:
        """Read into a freshly loaded base model what `save` wrote; the result generates as the saved one did."""

    @abstractmethod
    def merge(self, model: PreTrainedModel) -> PreTrainedModel:
        """The tuned model as a plain one, without added modules."""

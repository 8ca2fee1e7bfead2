"""The base of tuning methods: which parameters are trained, and which are added."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.data import Conversation

if TYPE_CHECKING:
    from instruct_lab.model import LoadedModel


@component
class Tuning(Component, ABC):
    """Decides which parameters are trained, and what a checkpoint holds."""

    neftune_alpha: Annotated[float, Field(gt=0)] | None = None  # noise on the embeddings in training; 5 is usual

    is_adapter: ClassVar[bool] = False
    """True if only added parameters are trained: checkpoints store just those, and disabling them restores the base
    model."""

    heads: ClassVar[frozenset[str]] = frozenset({"language", "score"})
    """Outputs of the model that the method works with: see `instruct_lab.objective.Head`."""

    trains: ClassVar[bool] = True
    """False if nothing is trained: the base model is evaluated, with the prompts that `prompts` returns."""

    mergeable: ClassVar[bool] = True
    """True if `merge` returns a model without added modules; else an export holds adapter and base model."""

    learning_rate: ClassVar[float | None] = None
    """Peak learning rate of AdamW that suits the method; None: a run has to set `optimizer.lr`."""

    trains_new_tokens: ClassVar[bool] = False
    """True if the embeddings of tokens that are added to the vocabulary are trained and saved."""

    needs_biases: ClassVar[bool] = False
    """True if only biases are trained, so that a model without any is refused."""

    def learning_rate_for(self, hidden_size: int | None, pretrained: bool = True) -> float | None:
        """The peak learning rate of AdamW that suits the method with these settings, on a given model.

        Args:
            hidden_size: width of the model's hidden states; None if it is not known before loading.
            pretrained: False for a model with random weights.
        """
        return self.learning_rate

    @property
    def num_added_positions(self) -> int:
        """Positions that the method takes before each text, of those that the model has."""
        return 0

    @property
    def keeps_base(self) -> bool:
        """True if disabling the adapter restores the base model."""
        return True

    @property
    def shares_base(self) -> bool:
        """True if the base model's weights never change, so that runs may share them in memory."""
        return (self.is_adapter and self.keeps_base) or not self.trains

    @abstractmethod
    def apply(self, loaded: LoadedModel) -> LoadedModel:
        """Set `requires_grad` on every parameter; add the parameters of the method."""

    @abstractmethod
    def save(self, loaded: LoadedModel, path: Path) -> None:
        """Write what was trained to a folder: only the adapter for adapter methods, else the whole model.

        Args:
            loaded: what `apply` returned.
            path: the folder.
        """

    @abstractmethod
    def load(self, loaded: LoadedModel, path: Path) -> LoadedModel:
        """Read what `save` wrote into a freshly loaded base model; the result generates as the saved one did."""

    @abstractmethod
    def merge(self, loaded: LoadedModel) -> LoadedModel:
        """The tuned model without added modules."""

    def learning_rate_factor(self, name: str) -> float:
        """The factor of the learning rate of the parameter with this name."""
        return 1.0

    def prompts(
        self, conversations: Sequence[Conversation], demonstrations: Sequence[Conversation]
    ) -> list[Conversation]:
        """The conversations from which the tuned model's prompts are rendered; unchanged by most methods.

        Args:
            conversations: those whose final answer the model generates.
            demonstrations: the training split, from which a method may take worked examples.
        """
        return list(conversations)

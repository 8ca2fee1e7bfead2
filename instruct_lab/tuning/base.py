"""The base class of tuning methods, which add parameters to a model and choose the parameters to train."""

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
    """Base class of tuning methods, which decide which parameters are trained and stored in checkpoints."""

    neftune_alpha: Annotated[float, Field(gt=0)] | None = None  # scale of NEFTune noise on the embeddings; 5 is usual

    is_adapter: ClassVar[bool] = False
    """True if the trained parameters are an adapter: checkpoints hold only the adapter, not the base model."""

    heads: ClassVar[frozenset[str]] = frozenset({"language", "score"})
    """Model outputs that the method supports: `language` (vocabulary logits) and `score` (one number per text)."""

    trains: ClassVar[bool] = True
    """False if nothing is trained; the base model is then evaluated with the prompts that `prompts` returns."""

    mergeable: ClassVar[bool] = True
    """True if `merge` can return a model without added modules; if false, an export holds adapter and base model."""

    learning_rate: ClassVar[float | None] = None
    """The method's default peak learning rate with AdamW; `None`: a run must set `optimizer.lr`."""

    trains_new_tokens: ClassVar[bool] = False
    """True if the embeddings of new tokens are trained and saved."""

    sharding_obstacle: ClassVar[str | None] = None
    """The reason why a model with this method cannot be sharded over devices; `None` if it can."""

    needs_biases: ClassVar[bool] = False
    """True if only biases are trained; models without biases are refused."""

    def learning_rate_for(self, hidden_size: int | None, pretrained: bool = True) -> float | None:
        """Return the method's default peak learning rate with AdamW, which may depend on the width of the model.

        Args:
            hidden_size: width of the model's hidden states; `None` if it is unknown before loading.
            pretrained: whether the model's weights are pretrained, not random.
        """
        return self.learning_rate

    @property
    def num_added_positions(self) -> int:
        """Number of positions that the method adds before each text, such as those of virtual tokens."""
        return 0

    @property
    def keeps_base(self) -> bool:
        """Whether disabling the adapter restores the base model; false if adding it changes the base weights."""
        return True

    @property
    def shares_base(self) -> bool:
        """Whether the base model's weights never change, so that runs can share them in memory."""
        return (self.is_adapter and self.keeps_base) or not self.trains

    @abstractmethod
    def apply(self, loaded: LoadedModel) -> LoadedModel:
        """Add the parameters of the method, if it has any, and set `requires_grad` on every parameter."""

    @abstractmethod
    def save(self, loaded: LoadedModel, path: Path) -> None:
        """Write the trained parameters to a folder: the adapter, the selected parameters or the whole model.

        Args:
            loaded: the model that `apply` returned.
            path: the folder.
        """

    @abstractmethod
    def load(self, loaded: LoadedModel, path: Path) -> LoadedModel:
        """Load the parameters that `save` wrote into a freshly loaded base model, and return the restored model."""

    @abstractmethod
    def merge(self, loaded: LoadedModel) -> LoadedModel:
        """Merge the adapter into the base model's weights, and return the model without any added modules."""

    def learning_rate_factor(self, name: str) -> float:
        """Return the factor by which the learning rate of a parameter with this name is multiplied."""
        return 1.0

    def prompts(
        self, conversations: Sequence[Conversation], demonstrations: Sequence[Conversation]
    ) -> list[Conversation]:
        """Return the conversations from which the prompts are rendered; most methods return them unchanged.

        Args:
            conversations: the conversations whose final answer the model generates.
            demonstrations: the training split, from which a method may take worked examples.
        """
        return list(conversations)

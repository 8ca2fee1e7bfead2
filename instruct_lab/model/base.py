"""What a model is to the rest of the house."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from instruct_lab.assets import Input
from instruct_lab.config import Component

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Model(Component, ABC):
    """Weights and a tokenizer of one family.

    A loaded model carries `added_token_ids`: the rows of its embeddings that no pretraining has seen, since its
    tokenizer got new tokens. A tuning method that freezes the embeddings has to train these.
    """

    family: ClassVar[str]

    @abstractmethod
    def load_tokenizer(self, cache_path: Path) -> PreTrainedTokenizerBase:
        """The tokenizer alone, without reading weights."""

    @abstractmethod
    def load(self, tokenizer: PreTrainedTokenizerBase, cache_path: Path) -> PreTrainedModel:
        """The model in evaluation mode, its embeddings resized where the tokenizer has more tokens."""

    @abstractmethod
    def inputs(self, cache_path: Path) -> list[Input]:
        """The pinned files that the weights come from."""

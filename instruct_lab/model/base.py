"""What a model is to the rest of the house."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from instruct_lab.config import Component
from instruct_lab.data import Input

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Model(Component, ABC):
    """Weights and a tokenizer of one family."""

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

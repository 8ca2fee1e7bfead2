"""What a model is to the rest of the house."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from instruct_lab.assets import Input
from instruct_lab.config import Component

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from instruct_lab.model.loaded import LoadedModel


class Model(Component, ABC):
    """Weights and a tokenizer of one family."""

    family: ClassVar[str]

    @property
    def runs_remote_code(self) -> bool:
        """Whether Python files that come with the weights may run."""
        return False

    @property
    def is_quantized(self) -> bool:
        """Whether weights are quantised, so that adapters alone can train."""
        return False

    @abstractmethod
    def load_tokenizer(
        self, cache_path: Path, texts: Callable[[], Iterable[str]] | None = None
    ) -> PreTrainedTokenizerBase:
        """The tokenizer alone, without reading weights.

        Args:
            cache_path: folder for what is downloaded or made.
            texts: gives the texts of the run's training data, for a tokenizer that is trained on them; called only
                then.
        """

    @abstractmethod
    def load(
        self, tokenizer: PreTrainedTokenizerBase, cache_path: Path, head: Literal["language", "score"] = "language"
    ) -> LoadedModel:
        """The model in evaluation mode, its embeddings resized where the tokenizer has more tokens.

        Args:
            tokenizer: what `load_tokenizer` gave.
            cache_path: folder for what is downloaded or converted.
            head: `language`: logits over the vocabulary; `score`: one number for a whole text, by a head that is new.
        """

    @abstractmethod
    def inputs(self, cache_path: Path) -> list[Input]:
        """The pinned files that the weights come from."""

    def tokenizer_inputs(self, cache_path: Path) -> list[Input]:
        """Files of this machine that the tokenizer comes from, which may change from one moment to the next."""
        return []

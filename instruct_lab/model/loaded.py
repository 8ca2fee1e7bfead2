"""A loaded model, together with its tokenizer and what tuning methods, evaluation and export have to know about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model that `Model.load` or a tuning method returns, with its tokenizer.

    Args:
        model: the transformers model, inside PEFT's wrapper if an adapter was added.
        tokenizer: the tokenizer with which the model was loaded.
        family: `decoder`, `encoder-decoder` or `encoder`.
        added_token_ids: indices of the embedding rows of new tokens, which were not pretrained. A tuning method that
            freezes the embeddings has to train these rows.
        new_modules: names of modules that were not pretrained, such as a score head. Every tuning method trains and
            saves them.
        initial_adapter: the tensors of the LoRA adapter before training, if the product of its matrices was subtracted
            from the frozen weights (PiSSA, OLoRA); otherwise, `None`.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    family: str
    added_token_ids: tuple[int, ...] = ()
    new_modules: tuple[str, ...] = ()
    initial_adapter: Mapping[str, Tensor] | None = None

    def with_model(self, model: Any, **changes: Any) -> LoadedModel:
        """Return a copy of this object with another model.

        Args:
            model: the transformers model of the copy.
            changes: new values of further fields, as keyword arguments.
        """
        return dataclasses.replace(self, model=model, **changes)

"""A loaded model and the facts that other packages need to know about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """What `Model.load` returns, and what a tuning method takes and returns.

    Args:
        model: the model of transformers, inside PEFT's wrapper once an adapter was added.
        tokenizer: the tokenizer that it was loaded with.
        family: `decoder`, `encoder-decoder` or `encoder`.
        added_token_ids: rows of the embeddings that were not pretrained, because the tokenizer has new tokens. A method
            that freezes the embeddings has to train these rows.
        new_modules: names of modules that were not pretrained (the head that gives a score). Every tuning method trains
            and saves them.
        initial_adapter: the adapter's tensors before training, if the method moved part of the frozen weights into
            them; None otherwise.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    family: str
    added_token_ids: tuple[int, ...] = ()
    new_modules: tuple[str, ...] = ()
    initial_adapter: Mapping[str, Tensor] | None = None

    def with_model(self, model: Any, **changes: Any) -> LoadedModel:
        """The same facts about another model.

        Args:
            model: the other model.
            changes: fields that differ for it.
        """
        return dataclasses.replace(self, model=model, **changes)

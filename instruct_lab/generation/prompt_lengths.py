"""A check that prompts and answers fit the context of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from instruct_lab.errors import InstructLabError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_lengths(model: PreTrainedModel, prompts: Sequence[Sequence[int]], limit: int) -> None:
    """Check that each prompt has tokens and, together with an answer of `limit` tokens, fits the model's context.

    In an encoder-decoder, the prompt and the answer each have to fit the context by themselves.

    Args:
        model: a language model, whose context limits the lengths.
        prompts: the token ids of each prompt.
        limit: maximum number of tokens in an answer.

    Raises:
        InstructLabError: a prompt has no tokens, or does not fit the context.
    """
    context = context_length(model)
    for index, prompt in enumerate(prompts):
        if not len(prompt):
            raise InstructLabError(
                f"Prompt {index + 1} of {len(prompts)} has no tokens", do="leave its conversation out of the data"
            )
        longest = len(prompt) + limit
        if model.config.is_encoder_decoder:  # encoder and decoder can each use the whole context
            longest = max(len(prompt), limit)
        if context is not None and longest > context:
            raise InstructLabError(
                f"Prompt {index + 1} of {len(prompts)} has {len(prompt)} tokens; with {limit} new "
                f"ones that is more than the model's context of {context}",
                where="generation.max_new_tokens",
                do="lower it, or cut prompts with batching.max_tokens",
            )


def context_length(model: PreTrainedModel) -> int | None:
    """Return the number of tokens that fit the model's context; `None` if the model's configuration does not say."""
    context: int | None = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    return context

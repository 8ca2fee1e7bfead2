"""A tokenizer's settings, and the traps they close."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.errors import InstructLabError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RESERVED_PADS = ("<|finetune_right_pad_id|>", "<|pad|>", "<pad>", "[PAD]", "<|endoftext|>")
"""Tokens that tokenizers keep for padding without naming them as such."""


@component
class Tokenizer(Component):
    """What is changed about a model's tokenizer.

    Padding is masked by length everywhere, so a pad token equal to the end-of-turn token is harmless and is left as the
    model has it. A tokenizer without one gets a token that it keeps for padding, else its end-of-sequence token.
    """

    source: str | None = None  # a folder or Hub repository to take the tokenizer from instead of the weights'
    pad_token: str | None = None  # a token of the vocabulary; null: the model's own
    extra_tokens: list[str] = Field(default_factory=list)  # new tokens; the embeddings grow, new rows at their mean

    def prepare(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
        """Add tokens and see to the pad token.

        Raises:
            InstructLabError: `pad_token` is not in the vocabulary.
        """
        if self.extra_tokens:
            tokenizer.add_tokens(self.extra_tokens)
        vocabulary = tokenizer.get_vocab()
        if self.pad_token is not None:
            if self.pad_token not in vocabulary:
                raise InstructLabError(
                    f"{self.pad_token!r} is not in the tokenizer's vocabulary",
                    where="model.tokenizer.pad_token",
                    do="name one of its tokens, or add it with model.tokenizer.extra_tokens",
                )
            tokenizer.pad_token = self.pad_token
        elif tokenizer.pad_token is None:
            reserved = next((token for token in RESERVED_PADS if token in vocabulary), None)
            tokenizer.pad_token = reserved or tokenizer.eos_token or tokenizer.unk_token
        if tokenizer.pad_token is None:
            raise InstructLabError(
                "The tokenizer has no token that could pad", where="model.tokenizer.pad_token", do="name one"
            )
        return tokenizer

"""Generated answers, and the predictions that metrics score."""

from __future__ import annotations

import dataclasses
from typing import Any

from instruct_lab.files import OMIT_EMPTY


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A decoded answer.

    Args:
        text: the answer without special tokens.
        is_cut: whether the answer ended because it reached `max_new_tokens`, and not with a stop token.
    """

    text: str
    is_cut: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """One generated answer and its references.

    Args:
        id: the id of the conversation.
        split: the split of the conversation.
        prompt: the last message of the conversation before the answer.
        text: the generated answer.
        references: acceptable answers, with which the generated answer is compared.
        metadata: the columns of the data row that are not part of a message, such as the unit tests for a program that
            the model is to write.
        samples: more answers to the same prompt, sampled independently of `text`.
        num_cut: how many of the answers (`text` and `samples`) ended because they reached the length limit.
        reference_tokens: number of tokens in the longest reference.
    """

    id: str
    split: str
    prompt: str
    text: str
    references: tuple[str, ...]
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    samples: tuple[str, ...] = ()
    num_cut: int = dataclasses.field(default=0, metadata=OMIT_EMPTY)
    reference_tokens: int = dataclasses.field(default=0, metadata=OMIT_EMPTY)

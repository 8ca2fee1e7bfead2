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
        is_cut: whether the answer ended at `max_new_tokens` instead of a stop token.
    """

    text: str
    is_cut: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """One generated answer and its references.

    Args:
        id: the id of the conversation.
        split: the split of the conversation.
        prompt: the last message before the answer.
        text: the generated answer.
        references: acceptable answers, with which the generated answer is compared.
        metadata: the columns of the data row that are not part of the conversation, such as tests for a program.
        samples: further answers to the same prompt, sampled independently.
        num_cut: number of answers, including samples, that ended at the length limit instead of a stop token.
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

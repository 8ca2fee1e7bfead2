"""The answers that metrics score."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """One answer, with what it is compared to.

    Args:
        id: that of the conversation.
        split: the split of the conversation.
        prompt: the last message before the answer.
        text: the answer.
        references: acceptable answers.
        metadata: the conversation's other columns (a program's tests, instructions to verify).
        samples: further answers to the same prompt, drawn independently, if the run asks for several.
    """

    id: str
    split: str
    prompt: str
    text: str
    references: tuple[str, ...]
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    samples: tuple[str, ...] = ()

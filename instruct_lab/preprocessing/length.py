"""Too short and too long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Audit, Conversation
from instruct_lab.errors import Refusal
from instruct_lab.preprocessing.base import Part, Splits, Step, part_text, shown, train_alone


@component
class Length(Step):
    """Drops conversations that are shorter or longer, in characters, than wanted."""

    splits: Splits = Field(default_factory=train_alone)  # which splits pass through
    of: Part = "conversation"  # what is measured
    min_characters: Annotated[int, Field(ge=0)] = 0  # fewest characters that stay
    max_characters: Annotated[int, Field(ge=1)] | None = None  # most characters that stay; none: no bound

    def __post_init__(self) -> None:
        """Refuse bounds that let nothing through."""
        if self.max_characters is not None and self.min_characters > self.max_characters:
            raise Refusal("min_characters", f"is above max_characters ({self.max_characters}), so nothing would stay")

    def apply(self, conversations: Iterable[Conversation], stage: str, audit: Audit) -> Iterator[Conversation]:
        """Yield the conversations within the bounds; counts the others."""
        for conversation in conversations:
            length = len(part_text(conversation, self.of))
            if length < self.min_characters:
                audit.record(stage, "dropped", f"{self.of} under {self.min_characters} characters", shown(conversation))
            elif self.max_characters is not None and length > self.max_characters:
                audit.record(stage, "dropped", f"{self.of} over {self.max_characters} characters", shown(conversation))
            else:
                yield conversation

"""Splits by hash, and no prompt in two splits."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.data.audit import Audit
from instruct_lab.data.conversation import Conversation, normalized
from instruct_lab.errors import InstructLabError, Refusal

SplitName = Literal["train", "validation", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "validation", "test")
Share = Annotated[float, Field(ge=0, lt=1)]


@component
class HashSplit(Component):
    """Splits the training pool by a seeded hash of each row's prompt.

    A row's split depends on nothing but its own prompt, normalised: adding rows moves no old row, and equal prompts go
    together. Conversations go by their first user message, so that those that begin alike stay together.
    """

    validation: Share = 0.1  # expected share of rows
    test: Share = 0.0  # expected share of rows
    seed: Annotated[int, Field(ge=0)] = 0  # another seed, another division

    def __post_init__(self) -> None:
        """Refuse shares that leave nothing to train on."""
        if self.validation + self.test >= 1:
            raise Refusal(
                "validation", f"validation and test ({self.validation} + {self.test}) must sum to less than 1"
            )

    def split_of(self, conversation: Conversation) -> SplitName:
        """The split that a conversation belongs to."""
        digest = hashlib.sha256(f"{self.seed}\n{opening(conversation)}".encode()).digest()
        position = int.from_bytes(digest[:8], "big") / 2**64
        if position < self.test:
            return "test"
        return "validation" if position < self.test + self.validation else "train"


Prompt = tuple[tuple[str, str], ...]
"""Roles and normalised texts of the messages before an answer, system messages left out."""


def opening(conversation: Conversation) -> str:
    """The message that every prompt of the conversation begins with, normalised: the first user message.

    Empty where the assistant speaks first, since the first prompt is empty then.
    """
    first = next((message for message in conversation.messages if message.role != "system"), None)
    return "" if first is None or first.role == "assistant" else normalized(first.content)


def prompts(conversation: Conversation) -> list[Prompt]:
    """The prompt of each assistant turn, the final one last.

    The prompt of a single-turn conversation is its user message.
    """
    said: Prompt = ()
    found: list[Prompt] = []
    for message in conversation.messages:
        if message.role == "assistant":
            found.append(said)
        if message.role != "system":
            said = (*said, (message.role, normalized(message.content)))
    if not conversation.messages or conversation.messages[-1].role != "assistant":
        found.append(said)
    return found


def separate(
    splits: dict[SplitName, list[Conversation]],
    overlap: Literal["drop", "error"],
    audit: Audit,
    stage: str = "data/overlap",
) -> dict[SplitName, list[Conversation]]:
    """Take from each split the rows that answer a prompt of a split that comes before it: test, validation, train.

    Args:
        splits: conversations by split name.
        overlap: drop and count the row, or raise.
        audit: counts what leaves.
        stage: the name it is counted under.

    Raises:
        InstructLabError: with `overlap="error"`, on the first such row.
    """
    held: dict[Prompt, SplitName] = {}
    kept: dict[SplitName, list[Conversation]] = {}
    for name in reversed(SPLIT_NAMES):
        kept[name] = []
        for conversation in splits[name]:
            other = next((held[prompt] for prompt in prompts(conversation) if prompt in held), None)
            if other is None:
                kept[name].append(conversation)
                continue
            shown = conversation.prompt[-1].content if conversation.prompt else ""
            if overlap == "error":
                raise InstructLabError(
                    f"A prompt of {name} is also in {other}: {shown[:120]!r}",
                    where=f"conversation {conversation.id}",
                    do="Remove it from one of them, or set the data's overlap=drop",
                )
            audit.record(stage, "dropped", f"{name} prompt also in {other}", shown)
        for conversation in kept[name]:
            held.setdefault(prompts(conversation)[-1], name)
    audit.rows(stage, sum(map(len, splits.values())), sum(map(len, kept.values())))
    return {name: kept[name] for name in SPLIT_NAMES}

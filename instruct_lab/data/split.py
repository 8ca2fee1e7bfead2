"""Splits by hash, and no prompt in two splits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.data.audit import Audit
from instruct_lab.data.conversation import Conversation, normalize_text
from instruct_lab.data.table import map_conversations
from instruct_lab.errors import InstructLabError, Refusal

SplitName = Literal["train", "validation", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "validation", "test")
Share = Annotated[float, Field(ge=0, lt=1)]


@component
class HashSplit(Component):
    """Splits the training pool by a seeded hash of each row's prompt.

    A row's split depends on nothing but its own prompt, normalised: adding rows moves no old row, and equal prompts go
    together. Conversations go by their first user message, so that those that begin alike stay together; plain texts go
    by all of the text.
    """

    validation: Share = 0.1  # expected share of rows
    test: Share = 0.0  # expected share of rows
    seed: Annotated[int, Field(ge=0)] = 0  # another seed, another division
    column: Annotated[str, Field(min_length=1)] | None = None  # metadata whose equal values go together; null: prompts

    def __post_init__(self) -> None:
        """Refuse shares that leave nothing to train on."""
        if self.validation + self.test >= 1:
            raise Refusal(
                "validation", f"validation and test ({self.validation} + {self.test}) must sum to less than 1"
            )

    def split_of(self, conversation: Conversation) -> SplitName:
        """The split that a conversation belongs to."""
        digest = hashlib.sha256(f"{self.seed}\n{self._key(conversation)}".encode()).digest()
        position = int.from_bytes(digest[:8], "big") / 2**64
        if position < self.test:
            return "test"
        return "validation" if position < self.test + self.validation else "train"

    def _key(self, conversation: Conversation) -> str:
        if self.column is None:
            return opening(conversation)
        if self.column not in conversation.metadata:
            known = ", ".join(conversation.metadata) or "there is none"
            raise InstructLabError(
                f"Rows are split by the column {self.column!r}, which conversation {conversation.id} does not have",
                where="data.split.column",
                do=f"name one that the messages do not hold whole: {known}",
            )
        return json.dumps(conversation.metadata[self.column], sort_keys=True, default=str)


Prompt = bytes
"""A hash of the roles and normalised texts of the messages before an answer, system messages left out."""
PROMPT_BYTES = 16


def opening(conversation: Conversation) -> str:
    """The message that every prompt of the conversation begins with, normalised: the first user message.

    Of a plain text, the text. Empty where the assistant speaks first, since the first prompt is empty then.
    """
    if is_plain_text(conversation):
        return normalize_text(conversation.messages[0].content)
    first = next((message for message in conversation.messages if message.role != "system"), None)
    return "" if first is None or first.role == "assistant" else normalize_text(first.content)


def is_plain_text(conversation: Conversation) -> bool:
    """Whether this is a text without a prompt: one message, of the assistant."""
    return len(conversation.messages) == 1 and conversation.messages[0].role == "assistant"


def prompts(conversation: Conversation) -> list[Prompt]:
    """The prompt of each assistant turn, the final one last.

    The prompt of a single-turn conversation is its user message; of a plain text, the text.
    """
    if is_plain_text(conversation):
        text = f"text\0{normalize_text(conversation.messages[0].content)}"
        return [hashlib.blake2b(text.encode(), digest_size=PROMPT_BYTES).digest()]
    said = hashlib.blake2b(digest_size=PROMPT_BYTES)
    found: list[Prompt] = []
    last = len(conversation.messages) - 1
    for index, message in enumerate(conversation.messages):
        if message.role == "assistant":
            found.append(said.digest())
        if message.role != "system" and not (index == last and message.role == "assistant"):
            said.update(f"{message.role}\0{normalize_text(message.content)}\0".encode())
    if last < 0 or conversation.messages[-1].role != "assistant":
        found.append(said.digest())
    return found


def apart(
    splits: Mapping[SplitName, Sequence[Conversation]],
    overlap: Literal["drop", "error"],
    audit: Audit,
    stage: str = "data/overlap",
) -> dict[SplitName, bytearray]:
    """Which rows of each split answer no prompt of a split that comes before it: test, validation, train.

    Args:
        splits: conversations by split name.
        overlap: drop and count the row, or raise.
        audit: counts what leaves.
        stage: the name it is counted under.

    Returns:
        A flag for each row of each split: 1 where it stays.

    Raises:
        InstructLabError: with `overlap="error"`, on the first row that does.
    """
    held: dict[Prompt, SplitName] = {}
    flags: dict[SplitName, bytearray] = {name: bytearray() for name in SPLIT_NAMES}
    for name in reversed(SPLIT_NAMES):
        new: set[Prompt] = set()
        for row, asked in enumerate(map_conversations(prompts, splits[name])):
            other = next((held[prompt] for prompt in asked if prompt in held), None)
            flags[name].append(other is None)
            if other is None:
                if name != "train":
                    new.add(asked[-1])
                continue
            conversation = splits[name][row]
            shown = conversation.prompt[-1].content if conversation.prompt else ""
            if overlap == "error":
                raise InstructLabError(
                    f"A prompt of {name} is also in {other}: {shown[:120]!r}",
                    where=f"conversation {conversation.id}",
                    do="Remove it from one of them, or set the data's overlap=drop",
                )
            audit.record(stage, "dropped", f"{name} prompt also in {other}", shown)
        held |= dict.fromkeys(new - held.keys(), name)
    audit.rows(stage, sum(map(len, flags.values())), sum(map(sum, flags.values())))
    return flags

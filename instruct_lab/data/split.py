"""Splitting by hash, and removal of prompts that occur in several splits."""

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

    The split of a row depends only on its own normalised prompt: adding rows moves no other row, and rows with equal
    prompts are in the same split. The prompt is the first user message, so that conversations with the same beginning
    stay together; for a plain text, it is the whole text.
    """

    validation: Share = 0.1  # expected share of rows
    test: Share = 0.0  # expected share of rows
    seed: Annotated[int, Field(ge=0)] = 0  # a different seed gives a different division
    column: Annotated[str, Field(min_length=1)] | None = (
        None  # metadata column; rows with equal values stay together; null: by prompt
    )

    def __post_init__(self) -> None:
        """Refuse shares that leave no rows to train on."""
        if self.validation + self.test >= 1:
            raise Refusal(
                "validation", f"validation and test ({self.validation} + {self.test}) must sum to less than 1"
            )

    def split_of(self, conversation: Conversation) -> SplitName:
        """Return the split of a conversation."""
        digest = hashlib.sha256(f"{self.seed}\n{self._key(conversation)}".encode()).digest()
        position = int.from_bytes(digest[:8], "big") / 2**64
        if position < self.test:
            return "test"
        return "validation" if position < self.test + self.validation else "train"

    def _key(self, conversation: Conversation) -> str:
        if self.column is None:
            return first_prompt(conversation)
        if self.column not in conversation.metadata:
            known = ", ".join(conversation.metadata) or "there are none"
            raise InstructLabError(
                f"Rows are split by the column {self.column!r}, which conversation {conversation.id} does not have",
                where="data.split.column",
                do=f"name a column that is in the metadata (texts of messages are not): {known}",
            )
        return json.dumps(conversation.metadata[self.column], sort_keys=True, default=str)


PromptHash = bytes
"""A hash of the roles and normalised texts of the messages before an answer, without system messages."""
HASH_BYTES = 16


def first_prompt(conversation: Conversation) -> str:
    """Return the normalised first user message, with which every prompt of the conversation begins.

    For a plain text, return the text. The result is empty if the assistant speaks first.
    """
    if is_plain_text(conversation):
        return normalize_text(conversation.messages[0].content)
    first = next((message for message in conversation.messages if message.role != "system"), None)
    return "" if first is None or first.role == "assistant" else normalize_text(first.content)


def is_plain_text(conversation: Conversation) -> bool:
    """Whether the conversation is a text without a prompt: a single assistant message."""
    return len(conversation.messages) == 1 and conversation.messages[0].role == "assistant"


def prompt_hashes(conversation: Conversation) -> list[PromptHash]:
    """Hash the prompt of each assistant turn, in order.

    The prompt of a single-turn conversation is its user message; the prompt of a plain text is the text.
    """
    if is_plain_text(conversation):
        text = f"text\0{normalize_text(conversation.messages[0].content)}"
        return [hashlib.blake2b(text.encode(), digest_size=HASH_BYTES).digest()]
    so_far = hashlib.blake2b(digest_size=HASH_BYTES)
    hashes: list[PromptHash] = []
    last = len(conversation.messages) - 1
    for index, message in enumerate(conversation.messages):
        if message.role == "assistant":
            hashes.append(so_far.digest())
        if message.role != "system" and not (index == last and message.role == "assistant"):
            so_far.update(f"{message.role}\0{normalize_text(message.content)}\0".encode())
    if last < 0 or conversation.messages[-1].role != "assistant":
        hashes.append(so_far.digest())
    return hashes


def select_without_overlap(
    splits: Mapping[SplitName, Sequence[Conversation]],
    overlap: Literal["drop", "error"],
    audit: Audit,
    stage: str = "data/overlap",
) -> dict[SplitName, bytearray]:
    """Select the rows whose prompts occur in no earlier split, in the order test, validation, train.

    Args:
        splits: conversations by split name.
        overlap: whether to drop and count other rows, or to raise an error.
        audit: counts the dropped rows.
        stage: the name of the stage in the audit.

    Returns:
        A flag for each row of each split: 1 if the row stays.

    Raises:
        InstructLabError: with `overlap="error"`, for the first row whose prompt is in another split.
    """
    held: dict[PromptHash, SplitName] = {}
    flags: dict[SplitName, bytearray] = {name: bytearray() for name in SPLIT_NAMES}
    for name in reversed(SPLIT_NAMES):
        new: set[PromptHash] = set()
        for row, hashes in enumerate(map_conversations(prompt_hashes, splits[name])):
            other = next((held[prompt] for prompt in hashes if prompt in held), None)
            flags[name].append(other is None)
            if other is None:
                if name != "train":
                    new.add(hashes[-1])
                continue
            conversation = splits[name][row]
            text = conversation.prompt[-1].content if conversation.prompt else ""
            if overlap == "error":
                raise InstructLabError(
                    f"A prompt of {name} is also in {other}: {text[:120]!r}",
                    where=f"conversation {conversation.id}",
                    do="Remove it from one of them, or set the data's overlap=drop",
                )
            audit.record(stage, "dropped", f"{name} prompt also in {other}", text)
        held |= dict.fromkeys(new - held.keys(), name)
    audit.rows(stage, sum(map(len, flags.values())), sum(map(sum, flags.values())))
    return flags

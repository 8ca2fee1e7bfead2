"""Splitting rows by a hash, and removal of rows whose prompt also occurs in another split.

The prompts include system messages. They are compared by all their characters, but the amount of white space does not
count; with `same_prompt: words`, they are compared only by their words.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.data.audit import Audit
from instruct_lab.data.conversation import Conversation, Message, canonical_text, normalize_text
from instruct_lab.data.table import RowText, map_conversations
from instruct_lab.errors import InstructLabError, Refusal

SplitName = Literal["train", "validation", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "validation", "test")
SamePrompt = Literal["characters", "words"]
Share = Annotated[float, Field(ge=0, lt=1)]


@component
class HashSplit(Component):
    """Splits the training rows by a seeded hash of each row's prompt.

    The split of a row depends only on the row itself: if rows are added, every other row stays in its split.

    - `by: opening` hashes the messages up to and including the first question. Conversations that share these
      messages are then in the same split, however they continue. So no row has to be dropped because a row of another
      split continues it.
    - `by: prompt` hashes all messages before the final answer. Rows with equal prompts are then in the same split.
    - `column` names a metadata column whose value is hashed instead of the prompt.

    With `by`, a row without a question, such as a plain text, is hashed as a whole.
    """

    validation: Share = 0.1  # expected share of rows
    test: Share = 0.0  # expected share of rows
    seed: Annotated[int, Field(ge=0)] = 0  # a different seed gives a different division
    by: Literal["opening", "prompt"] = "opening"  # which rows stay together: same opening, or same whole prompt
    column: Annotated[str, Field(min_length=1)] | None = (
        None  # metadata column; rows with equal values stay together; null: use `by`
    )

    def __post_init__(self) -> None:
        """Refuse `validation` and `test` fractions that sum to 1 or more and so leave no rows to train on."""
        if self.validation + self.test >= 1:
            raise Refusal(
                "validation", f"validation and test ({self.validation} + {self.test}) must sum to less than 1"
            )

    def split_of(self, conversation: Conversation) -> SplitName:
        """Return the split of a conversation."""
        return self.split_of_key(self.key(conversation))

    def split_of_key(self, key: str) -> SplitName:
        """Return the split of all conversations for which the method `key` returns this text."""
        digest = hashlib.sha256(f"{self.seed}\n{key}".encode("utf-8", "surrogatepass")).digest()
        position = int.from_bytes(digest[:8], "big") / 2**64
        if position < self.test:
            return "test"
        return "validation" if position < self.test + self.validation else "train"

    @property
    def key_is_opening(self) -> bool:
        """Whether rows are split by their messages up to the first question.

        If false, they are split by their whole prompts or by the values of a metadata column.
        """
        return self.by == "opening" and self.column is None

    def key(self, conversation: Conversation) -> str:
        """Return the text that determines the split of a conversation."""
        if self.column is None:
            return _joined(_opening(conversation) if self.key_is_opening else _whole_prompt(conversation))
        value = metadata_value(conversation, self.column, "data.split.column", "Rows are split by")
        return json.dumps(value, sort_keys=True, default=str)


def metadata_value(conversation: Conversation, column: str, setting: str, use: str) -> Any:
    """Return a row's value in a metadata column.

    Args:
        conversation: the conversation of the row.
        column: name of the column.
        setting: the full config key whose value is the column's name, for the error message.
        use: the first words of the error message, such as "Rows are split by"; the name of the column follows them.

    Raises:
        InstructLabError: the row does not have the column.
    """
    if column not in conversation.metadata:
        known = ", ".join(conversation.metadata) or "there are none"
        raise InstructLabError(
            f"{use} the column {column!r}, which a row does not have",
            where=f"{setting} and {conversation.where}",
            do=f"name a column that is in the metadata (texts of messages are not): {known}",
        )
    return conversation.metadata[column]


def is_plain_text(conversation: Conversation) -> bool:
    """Whether the conversation is a text without a prompt: a single assistant message."""
    return len(conversation.messages) == 1 and conversation.messages[0].role == "assistant"


def _is_question(message: Message) -> bool:
    """Whether the assistant answers this message: true for the messages of users and the results of tools."""
    return message.role not in ("system", "assistant")


def _opening(conversation: Conversation) -> Sequence[Message]:
    """Return the messages up to and including the first question (of a user or from a tool); all if there is none."""
    messages = conversation.messages
    first = next((index for index, message in enumerate(messages) if _is_question(message)), len(messages))
    return messages[: first + 1]


def _whole_prompt(conversation: Conversation) -> Sequence[Message]:
    """Return the messages before the final answer; all messages if none of them is a question."""
    prompt = conversation.prompt
    return prompt if any(map(_is_question, prompt)) else conversation.messages


def _joined(messages: Iterable[Message]) -> str:
    return "".join(_keyed(message, canonical_text) for message in messages)


def _keyed(message: Message, normal_form: Callable[[str], str]) -> str:
    return f"{message.role}\0{normal_form(message.content)}\0"


PromptHash = bytes
"""A hash of the roles and texts of the messages before an answer."""
HASH_BYTES = 16


def prompt_hashes(conversation: Conversation, normal_form: Callable[[str], str] = canonical_text) -> list[PromptHash]:
    """Hash the prompt of each assistant message after the first question, in the order of the messages.

    The prompt of an assistant message is all messages before it. The last hash is of all messages if the conversation
    does not end with an assistant message, or if it has no question, such as a plain text.

    Args:
        conversation: the conversation.
        normal_form: function that normalizes a text for comparison.
    """
    messages = conversation.messages
    so_far = hashlib.blake2b(digest_size=HASH_BYTES)
    hashes: list[PromptHash] = []
    is_asked = False
    for message in messages:
        if message.role == "assistant" and is_asked:
            hashes.append(so_far.digest())
        so_far.update(_keyed(message, normal_form).encode("utf-8", "surrogatepass"))
        is_asked = is_asked or _is_question(message)
    if not is_asked or messages[-1].role != "assistant":
        hashes.append(so_far.digest())
    return hashes


def _hashes(conversation: Conversation, same_prompt: SamePrompt, adds_words: bool) -> tuple[list[PromptHash], ...]:
    """Return two lists of hashes of a conversation's prompts.

    The first list is used to compare prompts as `same_prompt` says: by their characters or by their words. The second
    list holds hashes of only the words of each prompt, if prompts are compared by characters and `adds_words` is true.
    Otherwise it is empty.
    """
    if same_prompt == "words":
        return prompt_hashes(conversation, normalize_text), []
    return prompt_hashes(conversation), prompt_hashes(conversation, normalize_text) if adds_words else []


def held_out_hashes(rows: Iterable[Conversation], same_prompt: SamePrompt) -> Iterator[list[PromptHash]]:
    """Yield for each conversation a list with a hash of each of its prompts.

    Prompts with equal hashes count as equal: by their characters or by their words, as `same_prompt` says.
    """
    for conversation in rows:
        yield _hashes(conversation, same_prompt, adds_words=False)[0]


def select_without_overlap(
    splits: Mapping[SplitName, Sequence[Conversation]],
    overlap: Literal["drop", "error"],
    audit: Audit,
    stage: str = "data/overlap",
    same_prompt: SamePrompt = "characters",
) -> dict[SplitName, bytearray]:
    """Select the rows whose prompts occur in no earlier split; the order of the splits is test, validation, train.

    With `same_prompt="characters"`, a row is selected although its prompt has the same words as a prompt of an earlier
    split, if case, punctuation or symbols differ. The audit counts such a row as reported.

    Args:
        splits: conversations by split name.
        overlap: whether a row whose prompt is in an earlier split is dropped and counted, or is an error.
        audit: audit that counts the dropped and the reported rows.
        stage: the name under which the audit counts the rows.
        same_prompt: whether prompts are compared by all their characters, where the amount of white space does not
            count, or only by their words.

    Returns:
        A flag for each row of each split: 1 if the row stays.

    Raises:
        InstructLabError: with `overlap="error"`, for the first row whose prompt is in an earlier split.
    """
    held: dict[PromptHash, SplitName] = {}
    held_words: dict[PromptHash, SplitName] = {}
    # Rows with the same words are reported once: after preprocessing, they would be counted again.
    hashes_of = partial(_hashes, same_prompt=same_prompt, adds_words=stage.startswith("data/"))
    flags: dict[SplitName, bytearray] = {name: bytearray() for name in SPLIT_NAMES}
    for name in reversed(SPLIT_NAMES):
        new: set[PromptHash] = set()
        new_words: set[PromptHash] = set()
        for row, (hashes, words) in enumerate(map_conversations(hashes_of, splits[name])):
            other = _first_of(hashes, held)
            flags[name].append(other is None)
            if other is None:
                alike = _first_of(words, held_words)
                if alike is not None:
                    reason = f"{name} prompt with the words of a prompt in {alike}, but other characters"
                    audit.record(stage, "reported", reason, RowText(splits[name], row))
                if name != "train":
                    new.add(hashes[-1])
                    new_words.update(words[-1:])
                continue
            conversation = splits[name][row]
            text = conversation.prompt[-1].content if conversation.prompt else ""
            if overlap == "error":
                raise InstructLabError(
                    f"A prompt of {name} is also in {other}: {text[:120]!r}",
                    where=conversation.where,
                    do="Remove it from one of them, or set the data's overlap=drop",
                )
            audit.record(stage, "dropped", f"{name} prompt also in {other}", conversation)
        held |= dict.fromkeys(new - held.keys(), name)
        held_words |= dict.fromkeys(new_words - held_words.keys(), name)
    audit.rows(stage, sum(map(len, flags.values())), sum(map(sum, flags.values())))
    return flags


def _first_of(hashes: Iterable[PromptHash], held: Mapping[PromptHash, SplitName]) -> SplitName | None:
    return next((held[prompt] for prompt in hashes if prompt in held), None)

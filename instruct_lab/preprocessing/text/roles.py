"""Check and repair the order of roles in a conversation (system, then user and assistant in turn)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from instruct_lab.data import Message

FOLLOWS = {
    "": {"system", "user"},
    "system": {"user"},
    "user": {"assistant"},
    "assistant": {"user", "tool"},
    "tool": {"tool", "assistant"},
}
"""The roles that may follow each role; `""` stands for the beginning of the conversation."""


def is_in_order(messages: Sequence[Message]) -> bool:
    """Whether an optional system message comes first, then user and assistant alternate, and the assistant is last.

    One or more tool results may stand between two messages of the assistant. Other consecutive messages of one role are
    allowed only if their `trained` or `weight` differs, because such messages cannot be joined.
    """
    last: Message | None = None
    for message in messages:
        split = last is not None and last.role == message.role and _training(last) != _training(message)
        if not split and message.role not in FOLLOWS.get(last.role if last else "", ()):
            return False
        last = message
    return last is not None and last.role == "assistant"


def repair_order(messages: Sequence[Message], open_end: bool = False) -> tuple[Message, ...] | None:
    """Put messages in order by moving, joining and removing some of them; return `None` if this does not suffice.

    System messages are moved to the front, and consecutive messages of one role are joined. Other messages before the
    first user message or after the last assistant message are removed.

    Args:
        messages: the messages of a conversation.
        open_end: whether the messages may end with a question, because the conversation's references answer it. If
            true, messages after the last assistant message are kept.
    """
    system = [message for message in messages if message.role == "system"]
    turns = [message for message in messages if message.role != "system"]
    while turns and not open_end and turns[-1].role != "assistant":
        turns.pop()
    asked = itertools.dropwhile(lambda message: message.role != "user", turns)
    merged = merge_consecutive([*system, *asked])
    complete = merged if merged and merged[-1].role == "assistant" else (*merged, Message("assistant", ""))
    return merged if is_in_order(complete) and any(message.role == "user" for message in merged) else None


def remove_unanswered_end(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Remove the messages after the last assistant message.

    If no message follows it, or if the assistant has no message, return `messages` itself.
    """
    last = next((index for index in reversed(range(len(messages))) if messages[index].role == "assistant"), None)
    return messages if last is None or last == len(messages) - 1 else messages[: last + 1]


def merge_consecutive(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Join consecutive messages of the same role into one message, with an empty line between their texts.

    Tool results are not joined, and neither are messages that differ in `trained` or `weight`.
    """
    merged: list[Message] = []
    for _, group in itertools.groupby(messages, key=lambda message: (message.role, *_training(message))):
        together = list(group)
        if len(together) == 1 or together[0].role == "tool":
            merged += together
        else:
            content = "\n\n".join(message.content for message in together)
            merged.append(dataclasses.replace(together[0], content=content))
    return tuple(merged)


def _training(message: Message) -> tuple[bool | None, float]:
    """Return the two fields of a message that affect training: `trained` and `weight`."""
    return message.trained, message.weight


def remove_repeats(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Remove each message that equals the message directly before it, except tool results."""
    if not any(first == second and first.role != "tool" for first, second in itertools.pairwise(messages)):
        return messages
    pairs = zip((None, *messages), messages, strict=False)
    return tuple(message for before, message in pairs if message != before or message.role == "tool")

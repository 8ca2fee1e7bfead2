"""Who speaks after whom."""

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
"""The roles that may come after a role; the first one comes after none."""


def in_order(messages: Sequence[Message]) -> bool:
    """Whether system, user and assistant take turns as they should, the last one an assistant.

    Tool results follow an assistant, and an assistant follows them. Messages of one role in a row are in order where
    they are trained differently: they cannot be one message.
    """
    last: Message | None = None
    for message in messages:
        split = last is not None and last.role == message.role and _training(last) != _training(message)
        if not split and message.role not in FOLLOWS.get(last.role if last else "", ()):
            return False
        last = message
    return last is not None and last.role == "assistant"


def repaired(messages: Sequence[Message], open_end: bool = False) -> tuple[Message, ...] | None:
    """The messages in order; None where that would take more than moving, joining and leaving out.

    System messages come first, messages of one role in a row are joined, what comes before the first user or after
    the last assistant is left out.

    Args:
        messages: the messages of a conversation.
        open_end: whether the conversation may end with what its references answer.
    """
    system = [message for message in messages if message.role == "system"]
    turns = [message for message in messages if message.role != "system"]
    while turns and not open_end and turns[-1].role != "assistant":
        turns.pop()
    asked = itertools.dropwhile(lambda message: message.role != "user", turns)
    found = merged([*system, *asked])
    ended = found if found and found[-1].role == "assistant" else (*found, Message("assistant", ""))
    return found if in_order(ended) and any(message.role == "user" for message in found) else None


def merged(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Messages of one role in a row joined by an empty line; not tool results, nor what is trained differently."""
    found: list[Message] = []
    for _, group in itertools.groupby(messages, key=lambda message: (message.role, *_training(message))):
        together = list(group)
        if len(together) == 1 or together[0].role == "tool":
            found += together
        else:
            content = "\n\n".join(message.content for message in together)
            found.append(dataclasses.replace(together[0], content=content))
    return tuple(found)


def _training(message: Message) -> tuple[bool | None, float]:
    """Whether a message is trained, and how much its tokens count."""
    return message.trained, message.weight


def without_repeats(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages without those that say again what the same role said just before; tool results may."""
    if not any(first == second and first.role != "tool" for first, second in itertools.pairwise(messages)):
        return messages
    pairs = zip((None, *messages), messages, strict=False)
    return tuple(message for before, message in pairs if message != before or message.role == "tool")

"""Reading and checking of a request for an answer, which the page of `chat --web` sends as JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from instruct_lab.chat.decoding import Decoding
from instruct_lab.data import Message

NUMBERS = {"max_new_tokens": int, "temperature": float, "top_p": float, "seed": int}
"""The type of each decoding setting."""


class RefusedRequest(Exception):
    """Raised for a request that the server refuses to answer.

    Args:
        status: the HTTP status of the response.
        reason: why the request is refused, as a text for the user.
    """

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        super().__init__(reason)


@dataclasses.dataclass(frozen=True)
class AnswerRequest:
    """A request for an answer.

    Args:
        column: index of the model that answers; the page has a column for each model.
        system: the system message; `None` if there is none.
        messages: the messages of the user and the model in turn, which begin and end with the user's.
        decoding: decoding settings that replace those of the model's run.
    """

    column: int
    system: str | None
    messages: tuple[Message, ...]
    decoding: Decoding


def read_request(content: bytes, num_columns: int) -> AnswerRequest:
    """Parse a request for an answer, and check it.

    Args:
        content: the body of the HTTP request.
        num_columns: number of models, each of which has a column on the page.

    Raises:
        RefusedRequest: the body is not a valid request for an answer.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RefusedRequest(400, "the request is not JSON") from error
    if not isinstance(value, dict):
        raise RefusedRequest(400, "the request is not a JSON object")
    column = value.get("column")
    if type(column) is not int or not 0 <= column < num_columns:
        raise RefusedRequest(400, f"column has to be a whole number below {num_columns}")
    system = value.get("system")
    if system is not None and not _is_text(system):
        raise RefusedRequest(400, "system has to be a text or null")
    return AnswerRequest(column, system, _messages(value.get("messages")), _decoding(value.get("decoding", {})))


def _messages(values: Any) -> tuple[Message, ...]:
    if not isinstance(values, list) or len(values) % 2 == 0:
        raise RefusedRequest(400, "messages have to be a list that begins and ends with a message of the user")
    messages = []
    for index, one in enumerate(values):
        role = "assistant" if index % 2 else "user"
        if not isinstance(one, dict) or one.get("role") != role or not _is_text(one.get("content")):
            raise RefusedRequest(400, f"message {index + 1} has to have the role {role} and a text as content")
        messages.append(Message(role, one["content"]))
    return tuple(messages)


def _decoding(values: Any) -> Decoding:
    if not isinstance(values, dict) or not values.keys() <= NUMBERS.keys():
        raise RefusedRequest(400, f"decoding has to be an object with any of {', '.join(NUMBERS)}")
    for name, value in values.items():
        is_number = type(value) is NUMBERS[name] or (NUMBERS[name] is float and type(value) is int)
        if value is not None and not is_number:
            kind = "whole number" if NUMBERS[name] is int else "number"
            raise RefusedRequest(400, f"decoding.{name} has to be a {kind} or null")
    return Decoding(**values)


def _is_text(value: Any) -> bool:
    """Whether a value is a text that UTF-8 can encode; a text with unpaired surrogates is not."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)

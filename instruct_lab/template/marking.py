"""Segments of a rendered conversation, marked as trained or not."""

from __future__ import annotations

from collections.abc import Sequence

from instruct_lab.data import Message
from instruct_lab.errors import InstructLabError
from instruct_lab.template.base import Segment, TrainOn
from instruct_lab.template.special_tokens import SpecialTokens

ALTERNATIVES = "choose template=chatml, template=alpaca or template=plain"
"""The hint of errors about a template that does not fit."""


def mark(
    messages: Sequence[Message], glue: Sequence[str], train_on: TrainOn, special: SpecialTokens, where: str
) -> list[Segment]:
    """Contents and the template's own text between them as segments.

    Args:
        messages: in order, with their contents as rendered.
        glue: the template's text before, between and after the contents: one more than messages.
        train_on: what is trained, unless a message says so itself.
        special: the tokenizer's special tokens.
        where: named in errors.

    Returns:
        Segments whose text is the whole rendered text. The special token after an assistant's content is a separate
        segment, trained like that content. Of other messages, only the content can be trained, unless `train_on` is
        `all`.

    Raises:
        InstructLabError: the text after an assistant's content does not start with a special token.
    """
    whole = train_on == "all"
    answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
    by_policy = set(range(len(messages)) if whole else answers[-1:] if train_on == "last_assistant" else answers)
    segments = [Segment(glue[0], whole)]
    for index, message in enumerate(messages):
        trained = index in by_policy if message.trained is None else message.trained
        is_answer = message.role == "assistant"
        segments.append(Segment(message.content, trained, message.role, starts_answer=is_answer))
        after = glue[index + 1]
        if is_answer:
            end_of_turn = special.opening(after)
            if end_of_turn is None:
                raise InstructLabError(
                    f"The template does not end an assistant's turn with a special token of the tokenizer: "
                    f"{_quote(after)} follows the answer, so a tuned model would not learn to stop",
                    where=where,
                    do=ALTERNATIVES,
                )
            segments.append(Segment(end_of_turn, trained))
            after = after.removeprefix(end_of_turn)
        segments.append(Segment(after, whole))
    return [segment for segment in segments if segment.text or segment.role is not None]


def before_last_answer(segments: list[Segment]) -> list[Segment]:
    """The segments up to the content of the last answer."""
    last = max(index for index, segment in enumerate(segments) if segment.starts_answer)
    return segments[:last]


def _quote(text: str) -> str:
    return repr(text[:40]) if text else "nothing"

"""Dividing a rendered conversation into segments, each marked as trained (its tokens count in the loss) or not."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from instruct_lab.data import Message
from instruct_lab.errors import InstructLabError
from instruct_lab.template.base import Segment, TrainOn
from instruct_lab.template.locating import Located
from instruct_lab.template.special_tokens import SpecialTokens


def alternatives(special: SpecialTokens) -> str:
    """Return the advice, for error messages, to choose another template that fits the tokenizer."""
    chatml = "template=chatml, " if "<|im_end|>" in special.ids else ""
    return f"choose {chatml}template=alpaca or template=plain"


def rename_role(role: str) -> str:
    """Return the advice, for error messages, to rename a role that a template does not support."""
    return (
        f"set preprocessing.steps.normalize.roles={{{role}:user}} and preprocessing.steps.normalize."
        "merge_consecutive=true to make such messages part of the user's"
    )


@dataclasses.dataclass(frozen=True)
class Marker:
    """Divides one conversation into segments and marks each as trained (its tokens count in the loss) or not.

    Args:
        train_on: the contents to train on; a message's own `trained`, if it is set, takes precedence.
        special: the tokenizer's special tokens.
        where: description of the conversation, for error messages.
        opening: text that the template writes at the start of every answer and that the model has to generate.
    """

    train_on: TrainOn
    special: SpecialTokens
    where: str
    opening: str = ""

    def mark(self, messages: Sequence[Message], glue: Sequence[str], located: Located | None = None) -> list[Segment]:
        """Build segments, each marked as trained or not, from contents and the template's own text.

        Args:
            messages: the messages in order, with their contents as rendered.
            glue: the template's own text before, between and after the contents; one more item than `messages`.
            located: where the contents are in the rendered text, if the template changes contents; otherwise `None`.

        Returns:
            Segments that together are the whole rendered text. The special token after an assistant's content, with the
            white space before it, is a separate segment; it is marked as trained if the content is. All other text of
            the template is marked as trained only if `train_on` is `all`.

        Raises:
            InstructLabError: the text after an assistant's content does not start with a special token.
        """
        whole = self.train_on == "all"
        answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
        last_only = self.train_on == "last_assistant"
        by_policy = set(range(len(messages)) if whole else answers[-1:] if last_only else answers)
        segments, before = [], glue[0]
        for index, message in enumerate(messages):
            trained = index in by_policy if message.trained is None else message.trained
            is_answer = message.role == "assistant"
            opening = self.opening if is_answer and before.endswith(self.opening) else ""
            segments.append(Segment(before.removesuffix(opening), whole))
            segments.append(Segment(opening, trained, starts_answer=bool(opening)))
            has_tokens = is_answer and located is not None and self._writes_tokens(located, index)
            segments.append(
                Segment(message.content, trained, message.role, is_answer and not opening, has_tokens=has_tokens)
            )
            before = glue[index + 1]
            if is_answer:
                closing = self._closing(before)
                segments.append(Segment(closing, trained))
                before = before.removeprefix(closing)
        segments.append(Segment(before, whole))
        return [segment for segment in segments if segment.text or segment.role is not None]

    def _closing(self, after: str) -> str:
        """Return the white space and the special token with which the text after an answer starts."""
        stripped = after.lstrip()
        end_of_turn = self.special.opening(stripped)
        if end_of_turn is None:
            raise InstructLabError(
                f"The template does not end an assistant's turn with a special token of the tokenizer: "
                f"{_quote(after)} follows the answer, so a tuned model would not learn to stop",
                where=self.where,
                do=f"{_make_special(after)}{alternatives(self.special)}",
            )
        return after[: len(after) - len(stripped)] + end_of_turn

    def _writes_tokens(self, located: Located, index: int) -> bool:
        """Whether the template wrote special tokens (such as `<think>`) into a content that has no special tokens."""
        search = self.special.pattern.search
        return bool(search(located.markup[index])) and not search(located.parts[index])


def before_last_answer(segments: list[Segment]) -> list[Segment]:
    """Return the segments before the last answer."""
    last = max(index for index, segment in enumerate(segments) if segment.starts_answer)
    return segments[:last]


def _make_special(after: str) -> str:
    """Return the advice to turn the line that follows an answer into a special token; empty if no line follows."""
    line = next(iter(after.strip().splitlines()), "").strip()
    return (
        f"set model.tokenizer.extra_special_tokens=[{line!r}], which the model learns as the end, or " if line else ""
    )


def _quote(text: str) -> str:
    return repr(text[:40]) if text else "nothing"

"""Characters and rows that say nothing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Literal

from instruct_lab.config import component
from instruct_lab.data import Audit, Conversation
from instruct_lab.preprocessing.base import Step, shown

LINE_ENDS = re.compile("\r\n?|\x0b|\x0c|\x85|\u2028|\u2029")
CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")  # Unicode category Cc, tab and line ends excepted


@component
class Clean(Step):
    """Strips white space around messages, removes control characters, drops conversations that ask or answer nothing.

    Line ends of every kind become a newline. Invisible format characters (zero-width joiner, direction marks) stay:
    scripts need them.
    """

    strip: bool = True  # white space around each message and reference
    control_characters: Literal["remove", "keep"] = "remove"  # and line ends other than a newline
    empty_prompt: Literal["drop", "keep"] = "drop"  # a conversation without any text before the answer
    empty_answer: Literal["drop", "keep"] = "drop"  # a conversation whose answer is missing or empty

    def apply(self, conversations: Iterable[Conversation], stage: str, audit: Audit) -> Iterator[Conversation]:
        """Yield cleaned conversations; counts those changed and those dropped."""
        for conversation in conversations:
            cleaned = self._cleaned(conversation)
            reason = self._empty(cleaned)
            if reason:
                audit.record(stage, "dropped", reason, shown(conversation))
                continue
            if cleaned != conversation:
                audit.record(stage, "changed", "white space or control characters", shown(conversation), shown(cleaned))
            yield cleaned

    def _cleaned(self, conversation: Conversation) -> Conversation:
        messages = tuple(
            dataclasses.replace(message, content=self._text(message.content)) for message in conversation.messages
        )
        references = tuple(self._text(reference) for reference in conversation.references)
        return dataclasses.replace(conversation, messages=messages, references=references)

    def _text(self, text: str) -> str:
        if self.control_characters == "remove":
            text = CONTROL.sub("", LINE_ENDS.sub("\n", text))
        return text.strip() if self.strip else text

    def _empty(self, conversation: Conversation) -> str | None:
        said = any(message.content.strip() for message in conversation.prompt if message.role != "system")
        if self.empty_prompt == "drop" and not said:
            return "empty prompt"
        if self.empty_answer == "drop" and not any(answer.strip() for answer in conversation.answers):
            return "empty answer"
        return None

"""A format of answers with a label: one answer to a prompt, marked as desirable or undesirable."""

from __future__ import annotations

import math
import re
from typing import Any, ClassVar, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data.conversation import Conversation, Message
from instruct_lab.data.formats.columns import Column, value_of
from instruct_lab.data.formats.preference import begins_with_prompt, cut_prompt
from instruct_lab.data.formats.turns import TurnFormat
from instruct_lab.data.formats.unused import CONTENT_COLUMNS
from instruct_lab.data.sources.base import Row
from instruct_lab.errors import Refusal

SPELLINGS = {
    True: "true 1 +1 yes y good desirable chosen accept accepted positive up upvote thumbsup like liked 👍",
    False: "false 0 -1 no n bad undesirable rejected reject negative down downvote thumbsdown dislike disliked 👎",
}
LABELS = {spelling: meaning for meaning, spellings in SPELLINGS.items() for spelling in spellings.split()}
"""For each usual label, whether it means a good answer.

The labels are in lower case, without spaces, hyphens and underscores.
"""
WHOLE_NUMBER = re.compile(r"(?<=\d)\.0+$")
"""Matches the zeros after the decimal point of a whole number."""


@component
class UnpairedPreference(TurnFormat):
    """A prompt, one answer, and a label that says whether the answer is desirable, for KTO.

    Prompt and completion are texts or lists of messages. Without a column of completions (`completion: null`), the
    column of the prompt holds a conversation that ends with the answer. The label applies to the final answer. It is a
    boolean, 1 or 0, 1 or -1, or one of the usual words (true, good, desirable, chosen, thumbs_up, and their opposites);
    `labels` adds other words. With `threshold`, labels are numbers, such as ratings, and an answer is desirable if its
    label is at least the threshold. A row without a label is broken. The column layout is TRL's for unpaired preference
    data. Source: Ethayarajh et al., KTO, 2024.
    """

    gives: ClassVar = frozenset({"labels"})
    content_columns: ClassVar = CONTENT_COLUMNS | {"input": "", "context": ""}

    prompt: Column = "prompt"  # column of the question
    completion: Column | None = "completion"  # column of the answer; null: the prompt's conversation ends with it
    label: Column = "label"  # column of the label
    labels: dict[str, bool | None] = Field(
        default_factory=dict
    )  # additional labels, for example {helpful: true, harmful: false}
    threshold: float | None = None  # labels are numbers; an answer is desirable if its label is at least this
    repeated_prompt: Literal["cut", "keep"] | None = (
        None  # if the answer begins with the prompt: cut or keep it; null: the row is broken
    )

    def __post_init__(self) -> None:
        """Refuse a config that sets both `labels` and `threshold`."""
        if self.threshold is not None and self.labels:
            raise Refusal("labels", "has no effect with threshold, which reads labels as numbers", "null")

    def required(self) -> dict[str, list[str]]:
        """Return the columns of prompt, completion and label, and the system column if its name is not the default."""
        columns = {"prompt": self.prompt, "completion": self.completion, "label": self.label}
        named = {field: [column] for field, column in columns.items() if column is not None}
        return named | self.required_if_named("system")

    def consumed_columns(self) -> set[str | None]:
        """Return the columns of the prompt, the completion and the tools.

        The column of the label is not one of them, so its value is also kept in the conversation's metadata.
        """
        return {self.prompt, self.completion, self.tools}

    def used_columns(self) -> set[str | None]:
        """Return the columns of the prompt, the completion, the tools, the system message and the label."""
        return {*self.consumed_columns(), self.system, self.label}

    def turns(self, row: Row) -> list[Message]:
        """Return the messages of the prompt, followed by the answer."""
        tools = self.tool_use(row)
        messages = self.read_column(row, self.prompt, "user", tools)
        if self.completion is not None:
            messages += self.read_column(row, self.completion, "assistant", tools)
        return self.with_system(row, messages, tools)

    def conversation(self, row: Row) -> Conversation:
        """Return the prompt with the answer and its label, which affects the `id`.

        Raises:
            InstructLabError: the row has no prompt, no answer, or no label.
        """
        messages = self.turns(row)
        prompt, answer = messages[:-1], messages[-1]
        where = f"column {self.completion or self.prompt!r}"
        if answer.role != "assistant" or not answer.content.strip():
            raise row.error("The row does not end with an answer to which the label applies", where, "Remove the row")
        if not any(message.role != "system" and message.content.strip() for message in prompt):
            raise row.error("The answer has no prompt before it", where, "Remove the row")
        if self.repeated_prompt != "keep" and prompt[-1].role == "user":
            answer = self._without_prompt(row, prompt[-1].content, answer, where)
        return self.make_conversation(row, [*prompt, answer], desirable=self._is_desirable(row))

    def _without_prompt(self, row: Row, prompt: str, answer: Message, where: str) -> Message:
        if not begins_with_prompt(prompt, answer.content):
            return answer
        if self.repeated_prompt is None:
            do = "Set data.format.repeated_prompt to cut, or to keep if the model shall repeat the prompt too"
            raise row.error("The answer begins with the prompt", where, do)
        cut = cut_prompt(prompt, answer)
        if not cut.content:
            raise row.error("The answer only repeats the prompt", where, "Remove the row")
        return cut

    def _is_desirable(self, row: Row) -> bool:
        value, where = value_of(row, self.label), f"column {self.label!r}"
        if value is None or (isinstance(value, str) and not value.strip()):
            raise row.error("The row has no label", where, "Remove the row")
        if self.threshold is not None:
            return _number(row, value, where) >= self.threshold
        added = {_normalize(key): meaning for key, meaning in self.labels.items() if meaning is not None}
        label = (LABELS | added).get(_normalize(value))
        if label is None:
            do = (
                "Set data.format.threshold if labels are ratings"
                if isinstance(value, int | float)
                else f"Say what it means with data.format.labels={{{value}: true}} (or false)"
            )
            raise row.error(f"{value!r} is not a known label, such as true or false, 1 or 0, good or bad", where, do)
        return label


def _normalize(value: Any) -> str:
    """Return a label in lower case and without spaces, hyphens and underscores.

    A minus sign at its beginning is kept. A whole number has no decimal places: 1.0 becomes 1.
    """
    text = WHOLE_NUMBER.sub("", str(value).strip().casefold())
    return text[:1] + text[1:].replace("_", "").replace("-", "").replace(" ", "")


def _number(row: Row, value: Any, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, int | float | str) else float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if math.isnan(number):
        do = "Correct the row, or leave data.format.threshold out"
        raise row.error(f"A number was expected as label and {value!r} found", where, do)
    return number

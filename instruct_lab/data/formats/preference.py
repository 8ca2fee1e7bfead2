"""A format of preference pairs: a prompt with a chosen and a rejected answer."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any, ClassVar

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data.conversation import Conversation, Message, Role
from instruct_lab.data.formats.base import Column, Format, has_column, optional_text, value_of
from instruct_lab.data.formats.chat import (
    SHAREGPT_ROLES,
    custom_names,
    locate_turns,
    openai_messages,
    sharegpt_messages,
    with_system,
)
from instruct_lab.data.formats.tool_calls import ToolConvention, ToolUse
from instruct_lab.data.sources.base import Row

TRANSCRIPT = re.compile(r"\n\n(Human|Assistant):")
SPEAKERS = {"Human": "user", "Assistant": "assistant"}


@component
class Preference(Format):
    """A prompt with a chosen and a rejected answer, for objectives such as DPO and reward modelling.

    Each row may have one of three layouts:

    - prompt, chosen and rejected are texts (Orca pairs);
    - chosen and rejected are lists of messages with the same beginning (UltraFeedback, LMSYS), or lists with only the
      answer, if the prompt is in another column (a text or a list of messages);
    - chosen and rejected are transcripts with the same beginning, with `\\n\\nHuman:` and `\\n\\nAssistant:` before the
      turns. Source: Bai et al., HH-RLHF, 2022.

    Messages have `role` and `content`, or `from` and `value`. The prompt is everything before the last answer of the
    chosen side; the rejected side must begin with the same prompt. A pair is a broken row if its prompts differ, if an
    answer is missing, or if the answers differ only in surrounding white space.
    """

    gives: ClassVar = frozenset({"pairs", "answers"})  # supervised objectives train on the chosen answer

    prompt: Column | None = "prompt"  # column of the prompt, unless chosen and rejected contain it
    chosen: Column = "chosen"  # column of the chosen answer, or of the conversation that ends with it
    rejected: Column = "rejected"  # column of the rejected answer, or of the conversation that ends with it
    system: Column | None = None  # column of a system message outside the prompt
    chosen_score: Column | None = None  # column of the chosen answer's score, a number
    rejected_score: Column | None = None  # column of the rejected answer's score; the margin is the difference
    margin: Column | None = None  # column of the margin; stored as `margin` in the metadata
    tools: Column | None = "tools"  # column of the tools' JSON schemas: a list or JSON text; may be missing
    tool_convention: ToolConvention = "hermes"  # format of calls and tools: hermes (Qwen, Hermes), or json
    roles: dict[str, Role | None] = Field(
        default_factory=dict
    )  # additional names of roles, for example {bot: assistant}

    def required(self) -> dict[str, list[str]]:
        """Return the columns of both answers, and the columns of scores and system message that are set."""
        optional = ("system", "chosen_score", "rejected_score", "margin")
        named = {field: [name] for field in optional if (name := getattr(self, field))}
        return {"chosen": [self.chosen], "rejected": [self.rejected]} | named

    def consumed_columns(self) -> set[str | None]:
        """Return the columns of prompt, answers, system message and tools; scores stay in the metadata."""
        return {self.prompt, self.chosen, self.rejected, self.system, self.tools}

    def turns(self, row: Row) -> list[Message]:
        """Return the prompt and the chosen answer."""
        return self._side(row, self.chosen)

    def conversation(self, row: Row) -> Conversation:
        """Return the prompt with the chosen and the rejected answer; both answers affect the `id`.

        Raises:
            InstructLabError: the row is not a pair of different answers to one prompt.
        """
        chosen, rejected = self._side(row, self.chosen), self._side(row, self.rejected)
        prompt = chosen[:-1]
        if not any(message.role != "system" and message.content.strip() for message in prompt):
            raise row.error("The pair has no prompt before its answers", f"column {self.chosen!r}", "Remove the row")
        if [(m.role, m.content) for m in rejected[: len(prompt)]] != [(m.role, m.content) for m in prompt]:
            raise row.error("The prompts of the chosen and the rejected answer differ", do="Remove the row")
        answer, other = chosen[len(prompt) :], rejected[len(prompt) :]
        if not other or other[0].role != "assistant":
            raise row.error("The rejected side has no answer of its own", f"column {self.rejected!r}", "Remove the row")
        if [message.content.strip() for message in answer] == [message.content.strip() for message in other]:
            raise row.error("The chosen and the rejected answer are the same", do="Remove the row")
        other = [dataclasses.replace(message, trained=None) for message in other]
        return self.make_conversation(row, chosen, (), other, self._margin(row))

    def _side(self, row: Row, column: str) -> list[Message]:
        """Return the prompt and the answer of one column; the last message is a non-empty answer."""
        value = value_of(row, column)
        value = [value] if isinstance(value, dict) else value  # a single message
        tools = ToolUse(row, self.tools, self.tool_convention)
        if isinstance(value, list):
            prompt = self._prompt(row, tools) if has_column(row, self.prompt) and self._is_answer(value) else []
            messages = [*prompt, *self._turns(row, value, column, tools)]
        elif not has_column(row, self.prompt) and row.check_text(value, f"column {column!r}").startswith("\n\n"):
            messages = _transcript(row, value, column)
        else:
            messages = [*self._prompt(row, tools), Message("assistant", row.check_text(value, f"column {column!r}"))]
        if messages[-1].role != "assistant" or not messages[-1].content.strip():
            raise row.error("The pair lacks an answer", f"column {column!r}", "Remove the row")
        system = optional_text(row, self.system)
        return with_system([Message("system", system), *messages] if system.strip() else messages, tools)

    def _prompt(self, row: Row, tools: ToolUse) -> list[Message]:
        if self.prompt is None:
            raise row.error("The answers are texts, and the format has no column of the prompt", do="Set its prompt")
        value = value_of(row, self.prompt)
        if isinstance(value, list):
            return self._turns(row, value, self.prompt, tools)
        return [Message("user", row.check_text(value, f"column {self.prompt!r}"))]

    def _is_answer(self, turns: list[Any]) -> bool:
        """Whether a list of messages begins with an answer, so that the prompt is in another column."""
        first = turns[0] if turns and isinstance(turns[0], dict) else {}
        name = str(first.get("role", first.get("from"))).strip().casefold()
        return (SHAREGPT_ROLES | custom_names(self.roles)).get(name) == "assistant"

    def _turns(self, row: Row, value: list[Any], column: str, tools: ToolUse) -> list[Message]:
        is_sharegpt = bool(value) and isinstance(value[0], dict) and "role" not in value[0] and "from" in value[0]
        read = sharegpt_messages if is_sharegpt else openai_messages
        return read(row, locate_turns(row, value, column), self.roles, tools)

    def _margin(self, row: Row) -> dict[str, float]:
        """Return the margin by which the chosen answer is better, if the format names its columns."""
        if self.margin:
            return {"margin": _number(row, self.margin)}
        if self.chosen_score and self.rejected_score:
            return {"margin": _number(row, self.chosen_score) - _number(row, self.rejected_score)}
        return {}


def _number(row: Row, column: str) -> float:
    value = value_of(row, column)
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise row.error(
            f"A number was expected and {type(value).__name__} found", f"column {column!r}", "Correct the row"
        )
    return number


def _transcript(row: Row, text: str, column: str) -> list[Message]:
    """Split a transcript into turns, each preceded by its speaker."""
    before, *parts = TRANSCRIPT.split(text)
    if before.strip() or not parts:
        what = "The transcript does not begin with a speaker (Human: or Assistant:)"
        raise row.error(what, f"column {column!r}", "Correct the row, or name the column of the prompt")
    turns = zip(parts[::2], parts[1::2], strict=True)
    return [Message(SPEAKERS[speaker], content.strip()) for speaker, content in turns]

"""A format of preference pairs: a prompt with a chosen and a rejected answer."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any, ClassVar, Literal

from instruct_lab.config import component
from instruct_lab.data.conversation import Conversation, Message
from instruct_lab.data.formats.columns import Column, has_column, value_of
from instruct_lab.data.formats.tool_calls import ToolUse
from instruct_lab.data.formats.turns import SHAREGPT_ROLES, TurnFormat, custom_names, decode_turns
from instruct_lab.data.sources.base import Row

TRANSCRIPT = re.compile(r"\n\n(Human|Assistant):")
PROMPT_COLUMNS = ("prompt", "question", "instruction", "conversations", "messages", "conversation", "input", "query")
"""Usual names of prompt columns."""
MIN_REPEATED = 8
"""Minimum number of characters for a one-word prompt to count as repeated; answers often begin with a shorter word."""
SPEAKERS = {"Human": "user", "Assistant": "assistant"}


@component
class Preference(TurnFormat):
    """A prompt with a chosen and a rejected answer, for objectives such as DPO and reward modelling.

    Each row may have one of three layouts:

    - prompt, chosen and rejected are texts (Orca pairs);
    - chosen and rejected are lists of messages that begin with the same prompt (UltraFeedback, LMSYS), or lists that
      hold only the answer, if the prompt is in another column (a text or a list of messages);
    - chosen and rejected are transcripts that begin with the same prompt, and each turn begins with `\\n\\nHuman:` or
      `\\n\\nAssistant:`. Source: Bai et al., HH-RLHF, 2022.

    Messages have `role` and `content`, or `from` and `value`. The prompt is everything before the last answer of the
    chosen conversation; the rejected conversation must begin with the same prompt. A row is broken if its prompts
    differ, if an answer is missing, or if the answers differ only in surrounding white space. If both answers repeat
    the prompt at their beginning, it is cut from both. The row is broken if only one answer repeats it, or if both
    answers begin with the same longer text that contains the prompt.
    """

    gives: ClassVar = frozenset({"pairs", "answers"})  # supervised objectives train on the chosen answer

    prompt: Column | None = "prompt"  # column of the prompt, unless chosen and rejected contain it
    chosen: Column = "chosen"  # column of the chosen answer, or of the conversation that ends with it
    rejected: Column = "rejected"  # column of the rejected answer, or of the conversation that ends with it
    chosen_score: Column | None = None  # column of the chosen answer's score, a number
    rejected_score: Column | None = None  # column of the rejected answer's score; the margin is the difference
    margin: Column | None = None  # column of the margin; stored as `margin` in the metadata
    repeated_prompt: Literal["cut", "keep"] = "cut"  # if both answers begin with the prompt: cut or keep it

    def required(self) -> dict[str, list[str]]:
        """Return the columns of both answers and, if not the default names, of scores, margin and system message."""
        named = self.required_if_named("system", "chosen_score", "rejected_score", "margin")
        return {"chosen": [self.chosen], "rejected": [self.rejected]} | named

    def consumed_columns(self) -> set[str | None]:
        """Return the columns of the prompt, the answers, the system message and the tools; scores stay metadata."""
        return {self.prompt, self.chosen, self.rejected, self.system, self.tools}

    def turns(self, row: Row) -> list[Message]:
        """Return the messages of the prompt, followed by the chosen answer."""
        return self._side(row, self.chosen)

    def used_columns(self) -> set[str | None]:
        """Return the columns that become messages, and the columns of the scores and the margin."""
        return {*self.consumed_columns(), self.chosen_score, self.rejected_score, self.margin}

    def conversation(self, row: Row) -> Conversation:
        """Return the prompt with the chosen and the rejected answer; both answers affect the `id`.

        Raises:
            InstructLabError: the row is not a pair of different answers to one prompt.
        """
        chosen, rejected = self._side(row, self.chosen), self._side(row, self.rejected)
        prompt = chosen[:-1]
        if not any(message.role != "system" and message.content.strip() for message in prompt):
            raise row.error(
                "The pair has no prompt before its answers",
                f"column {self.chosen!r}",
                _suggest_prompt(row, self.prompt),
            )
        if [(m.role, m.content) for m in rejected[: len(prompt)]] != [(m.role, m.content) for m in prompt]:
            raise row.error("The prompts of the chosen and the rejected answer differ", do="Remove the row")
        answer, other = chosen[len(prompt) :], rejected[len(prompt) :]
        if not other or other[0].role != "assistant":
            raise row.error("The rejected side has no answer of its own", f"column {self.rejected!r}", "Remove the row")
        if self.repeated_prompt == "cut" and prompt[-1].role == "user":
            answer, other = _without_prompt(row, prompt[-1].content, answer, other)
        if [message.content.strip() for message in answer] == [message.content.strip() for message in other]:
            raise row.error("The chosen and the rejected answer are the same", do="Remove the row")
        if any(message.trained is False or message.weight != 1 for message in other):
            raise row.error(
                "A flag or weight says how to train the rejected answer, and no objective uses it",
                f"column {self.rejected!r}",
                "Leave such keys out of the row, or name them in data.format.ignore_keys",
            )
        other = [dataclasses.replace(message, trained=None) for message in other]
        return self.make_conversation(row, [*prompt, *answer], (), other, self._margin(row))

    def _side(self, row: Row, column: str) -> list[Message]:
        """Return the messages of the prompt, followed by the answer in `column` (the column `chosen` or `rejected`).

        Raises:
            InstructLabError: the row has none of the layouts of `Preference`, or the answer is empty.
        """
        value = decode_turns(row, value_of(row, column), f"column {column!r}")
        tools, has_prompt = self.tool_use(row), has_column(row, self.prompt)
        if isinstance(value, list):
            prompt = self._prompt(row, tools) if has_prompt and self._is_answer(value) else []
            messages = [*prompt, *self.read_turns(row, value, column, tools)]
        elif row.check_text(value, f"column {column!r}").startswith("\n\n") and (
            not has_prompt or TRANSCRIPT.match(value)
        ):
            messages = _transcript(row, value, column)
            if has_prompt:
                _check_prompt(row, self._prompt(row, self.tool_use(row)), messages[:-1], column)
        else:
            messages = [*self._prompt(row, tools), Message("assistant", value)]
        if messages[-1].role != "assistant" or not messages[-1].content.strip():
            raise row.error("The pair lacks an answer", f"column {column!r}", "Remove the row")
        return self.with_system(row, messages, tools)

    def _prompt(self, row: Row, tools: ToolUse) -> list[Message]:
        if self.prompt is None:
            raise row.error("The answers are texts, and the format has no column of the prompt", do="Set its prompt")
        if not has_column(row, self.prompt):
            raise row.error(f"The row has no column {self.prompt!r}", do=_suggest_prompt(row, self.prompt))
        location = f"column {self.prompt!r}"
        value = decode_turns(row, value_of(row, self.prompt), location)
        if isinstance(value, list):
            return self.read_turns(row, value, self.prompt, tools)
        if TRANSCRIPT.match(row.check_text(value, location)):
            messages = _transcript(row, value, self.prompt)
            return messages[:-1] if messages[-1] == Message("assistant", "") else messages
        return [Message("user", value)]

    def _is_answer(self, turns: list[Any]) -> bool:
        """Whether a list of messages begins with an answer, which means that the prompt is in another column."""
        first = turns[0] if turns and isinstance(turns[0], dict) else {}
        name = str(first.get("role", first.get("from"))).strip().casefold()
        return (SHAREGPT_ROLES | custom_names(self.roles)).get(name) == "assistant"

    def _margin(self, row: Row) -> dict[str, float]:
        """Return `{"margin": value}`, where the value says how much better the chosen answer is than the rejected one.

        It is the value in the column of the margin, or the difference of the two answers' scores. The result is empty
        if the config names neither a column of the margin nor columns of both scores.
        """
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


def _suggest_prompt(row: Row, prompt: str | None) -> str:
    """Return advice for a row without a prompt: name a column that may hold it or, if none may, list all columns."""
    found = next((name for name in PROMPT_COLUMNS if name in row.columns and name != prompt), None)
    if found is not None:
        return f"Set data.format.prompt={found} if that column holds the prompt"
    return (
        f"Remove the row, or name the column of the prompt with data.format.prompt (columns: {', '.join(row.columns)})"
    )


def _check_prompt(row: Row, prompt: list[Message], repeated: list[Message], column: str) -> None:
    """Check that the messages before a transcript's answer end with the prompt in the row's prompt column.

    Args:
        row: the row, for the error message.
        prompt: the messages in the column of the prompt.
        repeated: the messages of the transcript before its answer; they must end with `prompt`.
        column: the column of the transcript.

    Raises:
        InstructLabError: the messages before the answer do not end with the prompt.
    """
    texts = [[message.content.strip() for message in messages] for messages in (prompt, repeated)]
    if texts[0] != texts[1][-len(texts[0]) :]:
        what = "The transcript does not begin with the prompt of its own column"
        raise row.error(
            what, f"column {column!r}", "Correct the row, or leave the column out with data.format.prompt=null"
        )


def _without_prompt(
    row: Row, prompt: str, chosen: list[Message], rejected: list[Message]
) -> tuple[list[Message], list[Message]]:
    """Cut the prompt from both answers if both begin with it; return both unchanged if neither does.

    A prompt that is too short to count as repeated is never cut.

    Raises:
        InstructLabError: only one answer begins with the prompt, an answer consists of only the prompt, or both begin
            with the same longer text that contains the prompt.
    """
    do = "Correct the row, or keep the prompt with data.format.repeated_prompt=keep"
    if not _is_long_enough(prompt := prompt.strip()):
        return chosen, rejected
    repeats = [begins_with_prompt(prompt, answer[0].content) for answer in (chosen, rejected)]
    if all(repeats):
        cut = [[cut_prompt(prompt, answer[0]), *answer[1:]] for answer in (chosen, rejected)]
        if not all(answer[0].content for answer in cut):
            raise row.error("An answer only repeats the prompt", do=do)
        return cut[0], cut[1]
    if any(repeats):
        side = "chosen" if repeats[0] else "rejected"
        raise row.error(f"Only the {side} answer begins with the prompt", do=do)
    start = chosen[0].content.find(prompt)
    if start > 0 and rejected[0].content.startswith(chosen[0].content[: start + len(prompt)]):
        raise row.error("Both answers begin with a text that repeats the prompt", do=do)
    return chosen, rejected


def begins_with_prompt(prompt: str, answer: str) -> bool:
    """Whether an answer repeats the prompt at its start; false for a prompt so short that the match may be chance."""
    prompt, answer = prompt.strip(), answer.lstrip()
    if not _is_long_enough(prompt) or not answer.startswith(prompt):
        return False
    end = len(prompt)
    return end == len(answer) or answer[end].isspace() or not prompt[-1].isalnum()


def cut_prompt(prompt: str, answer: Message) -> Message:
    """Remove the prompt from the beginning of an answer."""
    return dataclasses.replace(answer, content=answer.content.lstrip()[len(prompt.strip()) :].lstrip())


def _is_long_enough(prompt: str) -> bool:
    return len(prompt) >= MIN_REPEATED or len(prompt.split()) >= 2  # an answer to "Hi" may begin with it


def _transcript(row: Row, text: str, column: str) -> list[Message]:
    """Split a transcript into messages at the names of the speakers (`Human:`, `Assistant:`)."""
    before, *parts = TRANSCRIPT.split(text)
    if before.strip() or not parts:
        what = "The transcript does not begin with a speaker (Human: or Assistant:)"
        raise row.error(what, f"column {column!r}", "Correct the row, or name the column of the prompt")
    turns = zip(parts[::2], parts[1::2], strict=True)
    return [Message(SPEAKERS[speaker], content.strip()) for speaker, content in turns]

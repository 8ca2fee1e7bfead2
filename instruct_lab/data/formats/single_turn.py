"""Formats of one question and one answer: Alpaca, prompt and completion, and text patterns with column names."""

from __future__ import annotations

import dataclasses
import functools
import json
import string
from collections.abc import Iterable
from typing import ClassVar

from instruct_lab.config import component
from instruct_lab.data.conversation import Message
from instruct_lab.data.formats.base import Format
from instruct_lab.data.formats.columns import Column, has_column, optional_text, text_of, value_of
from instruct_lab.data.formats.turns import TurnFormat
from instruct_lab.data.formats.unused import CONTENT_COLUMNS, is_empty
from instruct_lab.data.sources.base import Row
from instruct_lab.errors import Refusal


@component
class Alpaca(Format):
    """An instruction, an optional input, and an output. Source: Taori et al., Stanford Alpaca, 2023.

    The input, if there is one, follows the instruction after an empty line. Earlier questions and answers, such as the
    `history` in LLaMA-Factory's files, precede the instruction. The template's setting `train_on` decides whether these
    earlier answers are trained on.
    """

    content_columns: ClassVar = CONTENT_COLUMNS | {"context": "input"}

    instruction: Column = "instruction"  # column of the task
    input: Column | None = "input"  # column of the task's input; may be missing or empty
    output: Column = "output"  # column of the answer
    system: Column | None = "system"  # column of a system message; may be missing or empty
    history: Column | None = "history"  # column of earlier exchanges, a list of pairs of texts; may be missing or empty

    def required(self) -> dict[str, list[str]]:
        """Return the columns of instruction and output and, if not the default names, of system message and history."""
        columns = {"instruction": [self.instruction], "output": [self.output]}
        return columns | self.required_if_named("system", "history")

    def consumed_columns(self) -> set[str | None]:
        """Return the columns of the output and the history; a conversation keeps all other columns as metadata."""
        return {self.output, self.history}

    def used_columns(self) -> set[str | None]:
        """Return every column that a field of this format names."""
        return {self.instruction, self.input, self.output, self.system, self.history}

    def turns(self, row: Row) -> list[Message]:
        """Return the system message (if any), the earlier exchanges, the instruction with its input, and the output."""
        prompt, given = text_of(row, self.instruction), optional_text(row, self.named(self.input))
        if given.strip():
            prompt = f"{prompt}\n\n{given}"
        return single_turn(self.system_text(row), prompt, text_of(row, self.output), self._history(row))

    def _history(self, row: Row) -> list[Message]:
        name = self.named(self.history)
        if name is None or not has_column(row, name) or is_empty(value := value_of(row, name)):
            return []
        location = f"column {name!r}"
        if isinstance(value, str):  # a cell of CSV
            try:
                value = json.loads(value)
            except ValueError as error:
                raise row.error(f"The history is not JSON ({error})", location, "Correct the row") from error
        messages = []
        for number, pair in enumerate(value if isinstance(value, list) else [value], start=1):
            if not isinstance(pair, list) or len(pair) != 2:
                what = f"A list of two texts was expected and {type(pair).__name__} found"
                raise row.error(what, f"{location}, exchange {number}", "Write it as [question, answer]")
            question, answer = (row.check_text(text, f"{location}, exchange {number}") for text in pair)
            messages += [Message("user", question), Message("assistant", answer)]
        return messages


@component
class PromptCompletion(TurnFormat):
    """A prompt column and a completion column: texts, or lists of messages (TRL's conversational layout).

    The model is trained on the completion, and on those assistant messages of the prompt that are marked as trained.
    """

    content_columns: ClassVar = CONTENT_COLUMNS | {"input": "", "context": ""}

    prompt: Column = "prompt"  # column of the question
    completion: Column = "completion"  # column of the answer

    def required(self) -> dict[str, list[str]]:
        """Return the prompt column and the completion column, and the system column if its name is not the default."""
        return {"prompt": [self.prompt], "completion": [self.completion]} | self.required_if_named("system")

    def consumed_columns(self) -> set[str | None]:
        """Return the columns of the prompt, the completion and the tools."""
        return {self.prompt, self.completion, self.tools}

    def used_columns(self) -> set[str | None]:
        """Return the columns of the prompt, the completion, the tools and the system message."""
        return {*self.consumed_columns(), self.system}

    def turns(self, row: Row) -> list[Message]:
        """Return the system message (if any), the messages of the prompt, and the messages of the completion."""
        tools = self.tool_use(row)
        prompt = self.read_column(row, self.prompt, "user", tools)
        prompt = [
            dataclasses.replace(message, trained=bool(message.trained)) if message.role == "assistant" else message
            for message in prompt
        ]
        completion = self.read_column(row, self.completion, "assistant", tools)
        if all(message.role != "assistant" for message in completion):
            raise row.error(
                "The completion has no assistant's message", f"column {self.completion!r}", "Remove the row"
            )
        return self.with_system(row, [*prompt, *completion], tools)


@component
class Columns(Format):
    """Columns that are inserted into text patterns such as `Translate to French: {translation.en}`.

    Write the name of a column in braces. A name such as `translation.en` refers to a value inside the column's object
    or list (see `Format`). A literal brace is written twice. A row with an empty list of references, such as an
    unanswerable question of SQuAD 2.0, cannot be read, and is dropped as a broken row.
    """

    prompt: str  # pattern of the question
    completion: str  # pattern of the answer
    system: str | None = None  # pattern of a system message
    references: Column | None = None  # column of the acceptable answers: a text or a list of texts

    def __post_init__(self) -> None:
        """Refuse a pattern with unbalanced braces or an empty column name, and a prompt pattern without a column."""
        for field in ("prompt", "completion", "system"):
            pattern = getattr(self, field)
            if pattern is not None:
                column_names(pattern, field)
        if not column_names(self.prompt, "prompt"):
            raise Refusal("prompt", "names no column, so every row would have the same prompt", "{column}")

    def required(self) -> dict[str, list[str]]:
        """Return every column that a pattern names, and the column of the references if one is set."""
        patterns = {"prompt": self.prompt, "completion": self.completion, "system": self.system}
        columns = {field: column_names(pattern, field) for field, pattern in patterns.items() if pattern is not None}
        return columns | ({"references": [self.references]} if self.references else {})

    def consumed_columns(self) -> set[str | None]:
        """Return the columns of the answer and the references, except those that the prompt inserts too.

        A conversation keeps all other columns as metadata.
        """
        answer = {self.references, *column_names(self.completion, "completion")}
        return answer - {*column_names(self.prompt, "prompt")}

    def turns(self, row: Row) -> list[Message]:
        """Return the system message (only if a pattern for it is set), the prompt and the completion."""
        system = fill(self.system, row) if self.system else ""
        return single_turn(system, fill(self.prompt, row), fill(self.completion, row))

    def reference_texts(self, row: Row) -> tuple[str, ...]:
        """Return the acceptable answers from the column of the references; empty if no such column is set.

        Raises:
            InstructLabError: the value in the column is an empty list, or is or contains something other than text.
        """
        if self.references is None:
            return ()
        value, location = value_of(row, self.references), f"column {self.references!r}"
        if isinstance(value, list) and not value:
            raise row.error("The row has no acceptable answer", location, "Remove the row")
        return tuple(row.check_text(text, location) for text in (value if isinstance(value, list) else [value]))


def single_turn(system: str, prompt: str, answer: str, history: Iterable[Message] = ()) -> list[Message]:
    """Return, in this order, the system message, the earlier messages, the prompt and the answer.

    A blank system message is left out.
    """
    opening = [Message("system", system)] if system.strip() else []
    return [*opening, *history, Message("user", prompt), Message("assistant", answer)]


@functools.lru_cache(maxsize=4096)
def _parse_pattern(pattern: str) -> tuple[tuple[str, str | None, str | None, str | None], ...]:
    return tuple(string.Formatter().parse(pattern))


def column_names(pattern: str, field: str) -> list[str]:
    """Return the columns that a pattern names, in order, each once.

    Raises:
        Refusal: the pattern is not valid.
    """
    try:
        parts = _parse_pattern(pattern)
    except ValueError as error:
        raise Refusal(field, f"is not a pattern ({error}); double literal braces: {{{{ }}}}") from error
    names = []
    for _, name, specification, conversion in parts:
        if name is None:
            continue
        if not name.strip() or specification or conversion:
            raise Refusal(field, "must have only column names in braces", "{column}")
        names.append(name)
    return list(dict.fromkeys(names))


def fill(pattern: str, row: Row) -> str:
    """Replace each column name in the braces of a pattern by the row's text in this column.

    Raises:
        InstructLabError: a column is missing or is not text.
    """
    return "".join(
        text + (text_of(row, name) if name is not None else "") for text, name, _, _ in _parse_pattern(pattern)
    )

"""Formats of one question and one answer: alpaca, prompt and completion, named columns with text patterns."""

from __future__ import annotations

import string
from typing import Annotated

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data.conversation import Message
from instruct_lab.data.format import Format
from instruct_lab.data.source import Row
from instruct_lab.errors import Refusal

Column = Annotated[str, Field(min_length=1)]


@component
class Alpaca(Format):
    """Instruction, optional input, output. Source: Taori et al., Stanford Alpaca, 2023.

    The input, where there is one, follows the instruction after an empty line.
    """

    instruction: Column = "instruction"  # column of the task
    input: Column | None = "input"  # column of what the task is about; empty, absent or none: there is none
    output: Column = "output"  # column of the answer
    system: Column | None = None  # column of a system message, where the rows have one

    def required(self) -> dict[str, list[str]]:
        """Instruction and output, and the system column where one is named."""
        columns = {"instruction": [self.instruction], "output": [self.output]}
        return columns | ({"system": [self.system]} if self.system else {})

    def told_columns(self) -> set[str | None]:
        """The output; instruction and input stay, to be referred to."""
        return {self.output}

    def turns(self, row: Row) -> list[Message]:
        """System message (where there is one), instruction with input, output."""
        prompt = row.text(self.instruction)
        if self.input and row.columns.get(self.input) is not None and row.text(self.input).strip():
            prompt = f"{prompt}\n\n{row.text(self.input)}"
        system = row.text(self.system) if self.system and row.columns.get(self.system) is not None else ""
        return _single_turn(system, prompt, row.text(self.output))


@component
class PromptCompletion(Format):
    """A prompt column and a completion column."""

    prompt: Column = "prompt"  # column of the question
    completion: Column = "completion"  # column of the answer

    def required(self) -> dict[str, list[str]]:
        """Both columns."""
        return {"prompt": [self.prompt], "completion": [self.completion]}

    def told_columns(self) -> set[str | None]:
        """Both columns."""
        return {self.prompt, self.completion}

    def turns(self, row: Row) -> list[Message]:
        """The prompt, then the completion."""
        return _single_turn("", row.text(self.prompt), row.text(self.completion))


@component
class Columns(Format):
    """Any named columns, put into text patterns such as `Translate to French: {source}`.

    A column's name stands in braces; a brace of the text itself is doubled.
    """

    prompt: str  # pattern of the question
    completion: str  # pattern of the answer
    system: str | None = None  # pattern of a system message
    references: Column | None = None  # column of the acceptable answers: a text, or a list of texts

    def __post_init__(self) -> None:
        """Refuse a pattern with unbalanced braces or an empty name, and a question that is the same for every row."""
        for field in ("prompt", "completion", "system"):
            pattern = getattr(self, field)
            if pattern is not None:
                _names(pattern, field)
        if not _names(self.prompt, "prompt"):
            raise Refusal("prompt", "names no column, so every row would ask the same", "{column}")

    def required(self) -> dict[str, list[str]]:
        """Every column that a pattern names."""
        patterns = {"prompt": self.prompt, "completion": self.completion, "system": self.system}
        columns = {field: _names(pattern, field) for field, pattern in patterns.items() if pattern is not None}
        return columns | ({"references": [self.references]} if self.references else {})

    def told_columns(self) -> set[str | None]:
        """Those of the answer; those of the question stay, to be referred to."""
        return {self.references, *_names(self.completion, "completion")} - {*_names(self.prompt, "prompt")}

    def turns(self, row: Row) -> list[Message]:
        """System message (where there is a pattern), prompt, completion."""
        system = _filled(self.system, row) if self.system else ""
        return _single_turn(system, _filled(self.prompt, row), _filled(self.completion, row))

    def reference_texts(self, row: Row) -> tuple[str, ...]:
        """The texts of the references column."""
        if self.references is None:
            return ()
        value = row.columns.get(self.references)
        values = value if isinstance(value, list) else [value]
        return tuple(row.checked_text(text, f"column {self.references!r}") for text in values)


def _single_turn(system: str, prompt: str, answer: str) -> list[Message]:
    opening = [Message("system", system)] if system.strip() else []
    return [*opening, Message("user", prompt), Message("assistant", answer)]


def _names(pattern: str, field: str) -> list[str]:
    """The columns that a pattern names, in order, each once."""
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise Refusal(field, f"is not a pattern ({error}); double a brace that is text: {{{{ }}}}") from error
    names = []
    for _, name, specification, conversion in parts:
        if name is None:
            continue
        if not name.strip() or specification or conversion:
            raise Refusal(field, "a pattern holds column names in braces and nothing else in them", "{column}")
        names.append(name)
    return list(dict.fromkeys(names))


def _filled(pattern: str, row: Row) -> str:
    parts = string.Formatter().parse(pattern)
    return "".join(text + (row.text(name) if name is not None else "") for text, name, _, _ in parts)

"""A format for the instances of Super-NaturalInstructions. Source: Wang et al., Super-NaturalInstructions, 2022."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from instruct_lab.config import component
from instruct_lab.data.conversation import Message
from instruct_lab.data.formats.base import Format
from instruct_lab.data.formats.columns import Column, has_column, text_of, value_of
from instruct_lab.data.formats.single_turn import single_turn
from instruct_lab.data.sources.base import Row


@component
class TaskFile(Format):
    """An instance of a Super-NaturalInstructions task.

    The prompt consists of the task's definition, its examples and the instance's input. The outputs of the instance are
    the acceptable answers, and the model is trained on the first one. The prompt has the wording of Tk-Instruct,
    including a full stop after each text that does not end in punctuation.
    """

    definition: Column = "definition"  # column of the task's definition: a text, or a list of texts (first used)
    positive_examples: Column | None = "positive_examples"  # column of examples: objects with input and output
    input: Column = "input"  # column of the instance's input
    output: Column = "output"  # column of the acceptable answers: a list of texts or one text
    explanations: bool = False  # include the explanations of examples

    def required(self) -> dict[str, list[str]]:
        """Return the columns of the task's definition (its instruction), the input and the output.

        They are keyed by the config field that names the column.
        """
        return {"definition": [self.definition], "input": [self.input], "output": [self.output]}

    def consumed_columns(self) -> set[str | None]:
        """Return the columns of the definition, the examples and the output.

        The column of the input is left out, so that a conversation also keeps the input in its metadata.
        """
        return {self.definition, self.positive_examples, self.output}

    def used_columns(self) -> set[str | None]:
        """Return every column that a field of this format names."""
        return {self.definition, self.positive_examples, self.input, self.output}

    def turns(self, row: Row) -> list[Message]:
        """Return the prompt, then the first output."""
        definition, location = value_of(row, self.definition), f"column {self.definition!r}"
        first = definition[0] if isinstance(definition, list) and definition else definition
        parts = [f"Definition: {_end_sentence(row.check_text(first, location))}", *self._format_examples(row)]
        question = _end_sentence(text_of(row, self.input))
        parts.append(f"Now complete the following example -\nInput: {question}\nOutput:")
        return single_turn("", "\n\n".join(parts), self.reference_texts(row)[0])

    def reference_texts(self, row: Row) -> tuple[str, ...]:
        """Return the acceptable answers, which are the outputs of the instance without repetitions.

        Raises:
            InstructLabError: the instance has no output.
        """
        outputs, location = value_of(row, self.output), f"column {self.output!r}"
        outputs = outputs if isinstance(outputs, list) else [outputs]
        if not outputs:
            raise row.error("The instance has no output", location, "Remove the instance")
        return tuple(dict.fromkeys(row.check_text(output, location) for output in outputs))

    def _format_examples(self, row: Row) -> Iterator[str]:
        if self.positive_examples is None or not has_column(row, self.positive_examples):
            return
        examples, column = value_of(row, self.positive_examples), f"column {self.positive_examples!r}"
        if not isinstance(examples, list):
            raise row.error(f"A list of examples was expected and {type(examples).__name__} found", column)
        for number, example in enumerate(examples, start=1):
            location = f"{column}, example {number}"
            if not isinstance(example, dict):
                found = type(example).__name__
                raise row.error(f"An example was expected and {found} found", location, "Correct the file")
            lines = [f"Positive Example {number} -"]
            for key in ("input", "output", "explanation") if self.explanations else ("input", "output"):
                if key != "explanation" or example.get(key):
                    text = row.check_text(example.get(key), f"{location}, {key!r}")
                    lines.append(f"{key.capitalize()}: {_end_sentence(text)}")
            yield "\n".join(lines)


def _end_sentence(text: str) -> str:
    """Strip white space around a text, and add a full stop if it does not end in punctuation."""
    text = text.strip()
    return text if not text or unicodedata.category(text[-1])[0] in "PS" else f"{text}."

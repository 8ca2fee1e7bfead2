"""Super-NaturalInstructions: task files of many instances, and how an instance becomes a conversation.

Source: Wang et al., Super-NaturalInstructions, 2022; the prompt is Tk-Instruct's.
"""

from __future__ import annotations

import glob
import hashlib
import heapq
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from instruct_lab.assets import Input
from instruct_lab.config import component
from instruct_lab.data.audit import Audit
from instruct_lab.data.conversation import Message
from instruct_lab.data.formats.base import Format, has_column, text_of, value_of
from instruct_lab.data.formats.single_turn import Column, single_turn
from instruct_lab.data.sources import file_formats
from instruct_lab.data.sources.base import BrokenRow, Row, Source
from instruct_lab.data.sources.files import Files, file_input
from instruct_lab.errors import InstructLabError, Problem

COLUMNS = ("task", "id", "definition", "input", "output", "positive_examples")
TOLD = {"Categories": "categories", "Domains": "domains", "Source": "source", "Reasoning": "reasoning"}
TOLD |= {f"{side}_language": f"{side.lower()}_language" for side in ("Input", "Output", "Instruction")}
"""What a task file says of its task that its rows repeat, so that rows can be chosen by it."""


@component
class NaturalInstructions(Source):
    """Task files of Super-NaturalInstructions: one JSON object a file, with a definition, examples and many instances.

    A row is an instance: columns task (the file's name without its ending), id, definition, input, output (a list of
    texts), positive_examples (objects with input, output, explanation), and the task's categories, domains, source,
    reasoning and languages, where the file has them. One file is in memory at a time.
    """

    path: Annotated[str, Field(min_length=1)] | Annotated[list[str], Field(min_length=1)]  # folder, files or patterns
    max_instances: Annotated[int, Field(ge=1)] | None = None  # of a task at most, chosen by content hash; null: all
    num_positive_examples: Annotated[int, Field(ge=0)] = 2  # worked examples of the task in each row: k-shot

    def inputs(self, cache_path: Path) -> list[Input]:
        """Every file, with the SHA-256 of its bytes.

        Raises:
            InstructLabError: no file is there, or one cannot be read.
        """
        return [file_input(file) for file in self._files().files()]

    def rows(self, cache_path: Path, audit: Audit, stage: str) -> Iterator[Row | BrokenRow]:
        """The instances of every task, file after file.

        Raises:
            InstructLabError: no file is there, or one cannot be read or is no task file.
        """
        for file in self._files().files():
            task = _task(file)
            shared = {key: task[name] for name, key in TOLD.items() if name in task}
            shared |= {"task": file.stem, "definition": _definition(task, file)}
            shared["positive_examples"] = _examples(task, file)[: self.num_positive_examples]
            instances = task["Instances"]
            if not instances:
                audit.record(stage, "dropped", "task file without instances", file.name)
            for index in self._chosen(instances, audit, stage):
                where, instance = f"{file}, instance {index + 1}", instances[index]
                if isinstance(instance, dict):
                    yield Row({**instance, **shared}, where)
                else:
                    told = f"An instance with input and output was expected and {type(instance).__name__} found"
                    yield BrokenRow(InstructLabError(told, where=where, do="Mend the file"))

    def location_fields(self) -> set[str]:
        """The path: a file is known by its bytes."""
        return {"path"}

    def known_columns(self) -> list[str]:
        """The columns that every instance has."""
        return list(COLUMNS)

    def problems(self) -> Iterator[Problem]:
        """A path that names no file, or a file that cannot be opened."""
        yield from self._files().problems()

    def _files(self) -> Files:
        return Files(path=in_folders(self.path, "json"), file_format="json")

    def _chosen(self, instances: list[Any], audit: Audit, stage: str) -> list[int]:
        """The instances that are read: those of lowest content hash, in the order of the file."""
        if self.max_instances is None or len(instances) <= self.max_instances:
            return list(range(len(instances)))
        lowest = heapq.nsmallest(self.max_instances, range(len(instances)), key=lambda index: _digest(instances[index]))
        for index in set(range(len(instances))) - set(lowest):
            audit.record(stage, "dropped", "more than max_instances of the task", instances[index])
        return sorted(lowest)


@component
class TaskFile(Format):
    """Definition, worked examples and input as the prompt; the first output is the answer, all are references.

    Worded as Tk-Instruct does, of which a text without punctuation at its end is given a full stop.
    """

    definition: Column = "definition"  # column of what is to be done: a text, or a list whose first is taken
    positive_examples: Column | None = "positive_examples"  # column of worked examples, objects with input and output
    input: Column = "input"  # column of what it is to be done to
    output: Column = "output"  # column of the acceptable answers: a list of texts, or one text
    explanations: bool = False  # shows each example's explanation too, where it has one

    def required(self) -> dict[str, list[str]]:
        """Definition, input and output."""
        return {"definition": [self.definition], "input": [self.input], "output": [self.output]}

    def told_columns(self) -> set[str | None]:
        """Definition, examples and output; the input stays, to be referred to."""
        return {self.definition, self.positive_examples, self.output}

    def turns(self, row: Row) -> list[Message]:
        """The prompt, then the first output."""
        definition, place = value_of(row, self.definition), f"column {self.definition!r}"
        first = definition[0] if isinstance(definition, list) and definition else definition
        parts = [f"Definition: {_closed(row.checked_text(first, place))}", *self._shown_examples(row)]
        parts.append(f"Now complete the following example -\nInput: {_closed(text_of(row, self.input))}\nOutput:")
        return single_turn("", "\n\n".join(parts), self.reference_texts(row)[0])

    def reference_texts(self, row: Row) -> tuple[str, ...]:
        """All outputs, each once.

        Raises:
            InstructLabError: there is none.
        """
        outputs, place = value_of(row, self.output), f"column {self.output!r}"
        outputs = outputs if isinstance(outputs, list) else [outputs]
        if not outputs:
            raise row.error("The instance has no output", place, "Remove the instance")
        return tuple(dict.fromkeys(row.checked_text(output, place) for output in outputs))

    def _shown_examples(self, row: Row) -> Iterator[str]:
        if self.positive_examples is None or not has_column(row, self.positive_examples):
            return
        examples, column = value_of(row, self.positive_examples), f"column {self.positive_examples!r}"
        if not isinstance(examples, list):
            raise row.error(f"A list of examples was expected and {type(examples).__name__} found", column)
        for number, example in enumerate(examples, start=1):
            place = f"{column}, example {number}"
            if not isinstance(example, dict):
                raise row.error(f"An example was expected and {type(example).__name__} found", place, "Mend the file")
            lines = [f"Positive Example {number} -"]
            for key in ("input", "output", "explanation") if self.explanations else ("input", "output"):
                if key != "explanation" or example.get(key):
                    text = row.checked_text(example.get(key), f"{place}, {key!r}")
                    lines.append(f"{key.capitalize()}: {_closed(text)}")
            yield "\n".join(lines)


def in_folders(path: str | list[str], ending: str) -> list[str]:
    """Paths and patterns, a folder as the pattern of the files in it (and below) that have an ending."""
    patterns = [path] if isinstance(path, str) else path
    return [
        str(Path(glob.escape(str(Path(pattern).expanduser()))) / "**" / f"*.{ending}")
        if Path(pattern).expanduser().is_dir()
        else pattern
        for pattern in patterns
    ]


def _task(file: Path) -> dict[str, Any]:
    with file_formats.told(file):
        text = file.read_text(encoding="utf-8-sig")
    do = "Take it out of the path, or mend it"
    try:
        task = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{file}, line {error.lineno}"
        raise InstructLabError(f"This is not JSON ({error.msg})", where=where, do=do) from error
    except (RecursionError, ValueError) as error:
        raise InstructLabError(f"The JSON cannot be read ({error})", where=str(file), do=do) from error
    if not isinstance(task, dict) or not isinstance(task.get("Instances"), list):
        found = f"an object with {', '.join(task)[:200]}" if isinstance(task, dict) else type(task).__name__
        raise InstructLabError(
            f"A task with a list of Instances was expected and {found} found", where=str(file), do=do
        )
    return task


def _definition(task: dict[str, Any], file: Path) -> str:
    definition = task.get("Definition")
    first = definition[0] if isinstance(definition, list) and definition else definition
    if not isinstance(first, str) or not first.strip():
        raise InstructLabError("The task has no Definition that is text", where=str(file), do="Mend the file")
    return first


def _examples(task: dict[str, Any], file: Path) -> list[Any]:
    examples = task.get("Positive Examples") or []
    if not isinstance(examples, list):
        told = f"A list of Positive Examples was expected and {type(examples).__name__} found"
        raise InstructLabError(told, where=str(file), do="Mend the file")
    return examples


def _digest(instance: Any) -> bytes:
    encoded = json.dumps(instance, sort_keys=True).encode()
    return hashlib.sha256(encoded).digest()


def _closed(text: str) -> str:
    """The text without white space around it, and with a full stop where it ends in no punctuation."""
    text = text.strip()
    return text if not text or unicodedata.category(text[-1])[0] in "PS" else f"{text}."

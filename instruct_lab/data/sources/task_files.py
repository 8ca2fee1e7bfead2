"""A source of rows from task files of Super-NaturalInstructions (Wang et al., 2022): a JSON file for each task."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from instruct_lab.assets import Input, file_input
from instruct_lab.config import component
from instruct_lab.data.audit import Audit
from instruct_lab.data.sources.base import BrokenRow, Row, Source
from instruct_lab.data.sources.file_formats import wrap_read_errors
from instruct_lab.data.sources.files import Files, expand_folders
from instruct_lab.errors import InstructLabError, Problem
from instruct_lab.files import read_regular

COLUMNS = ("task", "id", "definition", "input", "output", "positive_examples")
TASK_COLUMNS = {"Categories": "categories", "Domains": "domains", "Source": "source", "Reasoning": "reasoning"}
TASK_COLUMNS |= {f"{side}_language": f"{side.lower()}_language" for side in ("Input", "Output", "Instruction")}
"""Keys of a task file, and the columns that hold their values so that rows can be selected by them."""


@component
class NaturalInstructions(Source):
    """The rows of Super-NaturalInstructions, read from task files.

    A task file is a JSON object with the definition of a task, solved examples and many instances. Each instance
    becomes a row. Its columns are task (the name of the file without its extension), id, definition, input, output (a
    list of texts) and positive_examples (objects with input, output, explanation). If the file states the task's
    categories, domains, source, reasoning or languages, these are columns too. One file is in memory at a time.
    """

    path: Annotated[str, Field(min_length=1)] | Annotated[list[str], Field(min_length=1)]  # folder, files or patterns
    max_instances: Annotated[int, Field(ge=1)] | None = None  # maximum per task, selected by content hash; null: all
    num_positive_examples: Annotated[int, Field(ge=0)] = 2  # number of examples of the task in each row (k-shot)

    def inputs(self, cache_path: Path) -> list[Input]:
        """Return every file, with the SHA-256 of its bytes.

        Raises:
            InstructLabError: no file matches, or a file cannot be read.
        """
        return [file_input(file) for file in self._files().files()]

    def rows(self, cache_path: Path, audit: Audit, stage: str) -> Iterator[Row | BrokenRow]:
        """Yield the selected instances of every task as rows, one file after the other.

        Raises:
            InstructLabError: no file matches, or a file cannot be read or is not a task file.
        """
        for file in self._files().files():
            task = _read_task(file)
            shared = {column: task[key] for key, column in TASK_COLUMNS.items() if key in task}
            shared |= {"task": file.stem, "definition": _definition(task, file)}
            shared["positive_examples"] = _examples(task, file)[: self.num_positive_examples]
            instances = task["Instances"]
            if not instances:
                audit.record(stage, "dropped", "task file without instances", file.name)
            for index in self._select(instances, audit, stage):
                where, instance = f"{file}, instance {index + 1}", instances[index]
                if isinstance(instance, dict):
                    yield Row({**instance, **shared}, where)
                else:
                    what = f"An instance with input and output was expected and {type(instance).__name__} found"
                    yield BrokenRow(InstructLabError(what, where=where, do="Correct the file"))

    def location_fields(self) -> set[str]:
        """Return `path`, the field that says where the files are.

        Keys of the data cache leave it out, and depend on the content of the files instead.
        """
        return {"path"}

    def known_columns(self) -> list[str]:
        """Return the names of the columns that every instance has."""
        return list(COLUMNS)

    def problems(self) -> Iterator[Problem]:
        """Report each path that matches no file, and each file that cannot be opened."""
        yield from self._files().problems()

    def _files(self) -> Files:
        return Files(path=expand_folders(self.path, "json"), file_format="json")

    def _select(self, instances: list[Any], audit: Audit, stage: str) -> list[int]:
        """Select the instances of a task that become rows, and return their indices in file order.

        If there are more than `max_instances`, those whose content has the lowest hashes are selected.
        """
        if self.max_instances is None or len(instances) <= self.max_instances:
            return list(range(len(instances)))
        lowest = heapq.nsmallest(self.max_instances, range(len(instances)), key=lambda index: _digest(instances[index]))
        for index in set(range(len(instances))) - set(lowest):
            audit.record(stage, "dropped", "more than max_instances of the task", instances[index])
        return sorted(lowest)


def _read_task(file: Path) -> dict[str, Any]:
    with wrap_read_errors(file):
        text = read_regular(file).decode("utf-8-sig")
    do = "Correct it, or exclude it from the path"
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
        raise InstructLabError("The task has no Definition that is text", where=str(file), do="Correct the file")
    return first


def _examples(task: dict[str, Any], file: Path) -> list[Any]:
    examples = task.get("Positive Examples") or []
    if not isinstance(examples, list):
        what = f"A list of Positive Examples was expected and {type(examples).__name__} found"
        raise InstructLabError(what, where=str(file), do="Correct the file")
    return examples


def _digest(instance: Any) -> bytes:
    encoded = json.dumps(instance, sort_keys=True).encode()
    return hashlib.sha256(encoded).digest()

"""Whether answers follow instructions that a program can verify."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from instruct_lab.config import component
from instruct_lab.errors import InstructLabError
from instruct_lab.metrics.base import RowMetric, Statistics, is_empty

if TYPE_CHECKING:
    from instruct_lab.generation import Prediction

logger = logging.getLogger(__name__)


@component
class InstructionFollowing(RowMetric):
    """Instruction following: the percentage of prompts, or of instructions, that answers follow, as programs verify it.

    The instructions are in the row's columns `instruction_id_list` and `kwargs`, as in IFEval (Zhou et al., 2023) and
    IFBench (Pyatkin et al., 2025). A prompt is followed if all of its instructions are. `loose` also tries the answer
    without its first line, its last line, both, and without asterisks, and takes the best for each instruction.

    Sentences are split by IFEval's rules, not by a downloaded model. Instructions without a check here are not counted
    (at the level of prompts neither are their prompts); the log has their names and the signature their number. They
    are `ratio:stop_words` and `words:start_verb` of IFBench, and those about languages, emoji and syllables if the
    packages langdetect, emoji and syllapy are not installed.
    """

    level: Literal["prompt", "instruction"] = "prompt"  # what is counted
    loose: bool = False  # also accept an answer that follows without its first or last line, or without asterisks

    def of_prediction(self, prediction: Prediction) -> Statistics:
        """Followed; counted; instructions that could not be checked; and whether the answer is empty.

        Raises:
            InstructLabError: the row has no instructions, or not as many groups of arguments.
        """
        instructions = list(_instructions(prediction))
        tried = variants(prediction.text) if self.loose else [prediction.text]
        followed = [_is_followed(tried, instruction, arguments) for instruction, arguments in instructions]
        checked = [result for result in followed if result is not None]
        unchecked = float(len(followed) - len(checked))
        if self.level == "instruction":
            return [float(sum(checked)), float(len(checked)), unchecked, is_empty(prediction.text)]
        counted = not unchecked
        return [float(counted and all(checked)), float(counted), unchecked, is_empty(prediction.text)]

    def value(self, total: Statistics) -> float:
        """The share, 0 to 100; not a number if nothing could be checked."""
        return 100 * total[0] / total[1] if total[1] else math.nan

    def signature(self) -> str:
        """The settings, and the versions of the packages that some checks need."""
        strictness = "loose" if self.loose else "strict"
        return f"instruction_following|level:{self.level}|{strictness}|sentences:rules{_packages()}"

    def signature_of(self, rows: list[Statistics]) -> str:
        """The same, with the number of instructions that could not be checked, and of empty answers, if any."""
        unchecked = sum(int(row[2]) for row in rows)
        return self.signature() + (f"|unchecked:{unchecked}" if unchecked else "") + self.empty_count(rows)


def variants(answer: str) -> list[str]:
    """What the loose measure tries: the answer, less its first line, its last, both; each also without asterisks."""
    lines = answer.split("\n")
    cut = [answer, *("\n".join(some).strip() for some in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*cut, *(text.replace("*", "") for text in cut)]


def _instructions(prediction: Prediction) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each instruction's id with the arguments it has."""
    names = prediction.metadata.get("instruction_id_list")
    arguments = prediction.metadata.get("kwargs")
    if not names or not isinstance(arguments, list) or len(names) != len(arguments):
        raise InstructLabError(
            "A row has no instructions to verify: columns instruction_id_list and kwargs, of the same length",
            where=prediction.id,
            do="Choose data with them (data=ifbench), or leave instruction following out",
        )
    for name, given in zip(names, arguments, strict=True):
        yield name, {key: value for key, value in (given or {}).items() if value is not None}


def _is_followed(tried: list[str], instruction: str, arguments: Mapping[str, Any]) -> bool | None:
    from instruct_lab.metrics.verifiers import is_followed, is_verifiable

    if not is_verifiable(instruction, arguments):
        _log_unchecked(instruction)
        return None
    return any(is_followed(instruction, text, arguments) for text in tried)


@functools.cache
def _log_unchecked(instruction: str) -> None:
    from instruct_lab.metrics.verifiers import missing_package

    package = missing_package(instruction)
    reason = f"needs the package {package}, which is not installed" if package else "has no check, or other arguments"
    logger.warning("The instruction %s is not counted: it %s", instruction, reason)


@functools.cache
def _packages() -> str:
    import importlib.metadata
    from contextlib import suppress

    from instruct_lab.metrics.verifiers.registry import PACKAGES

    found = ""
    for package in sorted(set(PACKAGES.values())):
        with suppress(importlib.metadata.PackageNotFoundError):
            found += f"|{package}:{importlib.metadata.version(package)}"
    return found

"""A metric that checks whether answers follow instructions that a program can verify."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from instruct_lab.config import component
from instruct_lab.errors import InstructLabError
from instruct_lab.metrics.base import RowMetric, Statistics, is_empty
from instruct_lab.optional_packages import missing_reason

if TYPE_CHECKING:
    from instruct_lab.generation import Prediction

logger = logging.getLogger(__name__)


@component
class InstructionFollowing(RowMetric):
    """Instruction following: the percentage of prompts, or of instructions, that answers follow, verified by programs.

    The instructions are in the columns `instruction_id_list` and `kwargs` of the data row, as in IFEval (Zhou et al.,
    2023) and IFBench (Pyatkin et al., 2025). A prompt is followed if all its instructions are followed. With `loose`,
    variants of the answer are also checked: without the first line, the last line or both, and without asterisks. An
    instruction is followed if any variant follows it.

    Texts are split into sentences by IFEval's rules, not by a downloaded model. Instructions that this package cannot
    check are not counted; with `level: prompt`, their prompts are not counted either. The log names these instructions,
    and the metric's signature contains their number. IFBench's `ratio:stop_words` and `words:start_verb` cannot be
    checked; checks of languages, emoji and syllables need the packages langdetect, emoji and syllapy.
    """

    level: Literal["prompt", "instruction"] = "prompt"  # whether to count prompts or instructions
    loose: bool = False  # also check the answer without its first or last line, and without asterisks

    def of_prediction(self, prediction: Prediction) -> Statistics:
        """Check the instructions of one prompt.

        Returns:
            Four numbers: the followed prompts or instructions (depending on `level`), the prompts or instructions that
            count, the instructions that cannot be checked, and 1 if the answer is empty (else 0).

        Raises:
            InstructLabError: the data row has no instructions, the number of its sets of arguments differs from the
                number of instructions, or an argument is a regular expression that is invalid or takes too long.
        """
        instructions = list(_instructions(prediction))
        tried = variants(prediction.text) if self.loose else [prediction.text]
        try:
            followed = [_is_followed(tried, instruction, arguments) for instruction, arguments in instructions]
        except InstructLabError as error:
            raise error.at(f"row {prediction.id}") from error
        checked = [result for result in followed if result is not None]
        unchecked = float(len(followed) - len(checked))
        if self.level == "instruction":
            return [float(sum(checked)), float(len(checked)), unchecked, is_empty(prediction.text)]
        counted = not unchecked
        return [float(counted and all(checked)), float(counted), unchecked, is_empty(prediction.text)]

    def value(self, total: Statistics) -> float:
        """Compute the percentage of followed prompts or instructions; NaN if nothing could be checked."""
        return 100 * total[0] / total[1] if total[1] else math.nan

    def signature(self) -> str:
        """Describe the settings and the versions of the packages that some checks need."""
        strictness = "loose" if self.loose else "strict"
        return f"instruction_following|level:{self.level}|{strictness}|sentences:rules{_packages()}"

    def signature_of(self, rows: list[Statistics]) -> str:
        """Return `signature()`, extended by the numbers of unchecked instructions and of empty answers, if any."""
        unchecked = sum(int(row[2]) for row in rows)
        return self.signature() + (f"|unchecked:{unchecked}" if unchecked else "") + self.empty_count(rows)


def variants(answer: str) -> list[str]:
    """Return the variants of an answer that are checked with `loose`.

    They are the whole answer, and the answer without its first line, without its last line and without both. Each is
    returned with and without its asterisks.
    """
    lines = answer.split("\n")
    cut = [answer, *("\n".join(some).strip() for some in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*cut, *(text.replace("*", "") for text in cut)]


def _instructions(prediction: Prediction) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the id and the arguments of each instruction in the columns of the data row."""
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
    reason = (package and missing_reason(package)) or "has no check, or other arguments"
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

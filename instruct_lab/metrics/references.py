"""Functions that check and collect the references (acceptable answers) of examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from instruct_lab.errors import InstructLabError

if TYPE_CHECKING:
    from instruct_lab.generation import Prediction


def require_references(references: Sequence[str]) -> list[str]:
    """Return the references as a list, or raise an error if there is none.

    Raises:
        InstructLabError: there is no reference.
        TypeError: the references are a single text instead of a sequence of texts.
    """
    if isinstance(references, str):
        raise TypeError(f"references are a group of texts, not one text: {references[:40]!r}")
    if not references:
        raise InstructLabError(
            "An example to be measured has no reference answer",
            do="Give every held-out row an answer, or choose metrics=none",
        )
    return list(references)


def all_references(predictions: Sequence[Prediction]) -> list[str]:
    """Return the references of all predictions in one list."""
    return [reference for prediction in predictions for reference in prediction.references]

"""Rules about streams: data that is read block by block while the model trains.

Components that need all rows at once cannot be used with a stream.
"""

from __future__ import annotations

from collections.abc import Iterator

from instruct_lab.data import Data
from instruct_lab.data.mixture import leaves
from instruct_lab.errors import Problem
from instruct_lab.objective import Objective
from instruct_lab.preprocessing import Preprocessing


def check_streamed_steps(data: Data, preprocessing: Preprocessing) -> Iterator[Problem]:
    """Report preprocessing steps that need all training rows at once if the data is a stream.

    A stream holds only one block of rows at a time.
    """
    if not data.is_stream:
        return
    for name, step in preprocessing.active_steps.items():
        if "train" in step.splits and not step.row_by_row:
            reason = (
                f"{type(step).__name__} needs all rows of the training split, and data.stream holds one block of them: "
                f"leave the step out with preprocessing.steps.{name}=null"
            )
            yield Problem(key=f"preprocessing.steps.{name}", value=type(step).__name__, reason=reason)


def check_streamed_objective(data: Data, objective: Objective) -> Iterator[Problem]:
    """Report an objective that cannot be used with a stream, which holds only one block of rows at a time.

    Such an objective needs the base model's log-probabilities of all rows before training.
    """
    if data.is_stream and objective.takes_reference_from_batch:
        reason = (
            f"{type(objective).__name__} computes the base model's log-probabilities of all rows before training, and "
            "data.stream holds one block of them: type objective.reference=adapters_off, with an adapter, to compute "
            "them at each step"
        )
        yield Problem(key="objective.reference", value="precomputed", reason=reason, suggestion="adapters_off")


def check_streamed_parts(data: Data) -> Iterator[Problem]:
    """Report a stream among the data sets of a mixture, since a mixture needs all rows of each data set."""
    for key, part in leaves(data):
        if part is not data and part.is_stream:
            reason = "a mixture draws from all rows of its parts, so that none of them can be a stream"
            yield Problem(key=f"{key}.stream", value=True, reason=reason, suggestion="false")

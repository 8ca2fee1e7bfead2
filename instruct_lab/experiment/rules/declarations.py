"""What components declare of themselves, compared with what the others are or give."""

from __future__ import annotations

from collections.abc import Iterator

from instruct_lab.data import Data, DataSet
from instruct_lab.errors import Problem
from instruct_lab.model import Model
from instruct_lab.objective import Objective
from instruct_lab.optimizer import Optimizer
from instruct_lab.tuning import Tuning

FAR_OFF = 10
"""Ratio of two learning rates, one set and one suitable, from which a warning is printed."""


def check_supervision(data: Data, objective: Objective) -> Iterator[Problem]:
    """The data has to give something that the objective can learn from."""
    if not data.gives_any(objective.needs):
        goal, source = type(objective).__name__, type(data).__name__
        if isinstance(data, DataSet):
            source = f"{source} with format {type(data.format).__name__}"
        given = " and ".join(sorted(data.gives)) or "nothing that all its parts share"
        reason = f"{goal} needs {' or '.join(sorted(objective.needs))}; data is a {source}, which gives {given}"
        yield Problem(key="objective", value=goal, reason=f"{reason}: choose other data, or another objective")


def check_new_tokens(model: Model, tuning: Tuning) -> Iterator[Problem]:
    """Embeddings of new tokens have to be trained."""
    if not tuning.trains or tuning.trains_new_tokens:
        return
    for field, tokens in (
        ("extra_tokens", model.tokenizer.extra_tokens),
        ("extra_special_tokens", model.tokenizer.extra_special_tokens),
    ):
        if tokens:
            reason = f"{type(tuning).__name__} would leave new tokens untrained: choose tuning=lora or tuning=full"
            yield Problem(key=f"model.tokenizer.{field}", value=", ".join(tokens), reason=reason)


def suitable_learning_rate(tuning: Tuning, objective: Objective, optimizer: Optimizer) -> float | None:
    """The peak learning rate that suits the tuning method, the objective and the optimizer.

    `None` if nothing is trained, or if the method declares no rate.
    """
    rate = tuning.learning_rate_for(None)
    if rate is None:
        return None
    return float(f"{rate * optimizer.learning_rate_scale * objective.learning_rate_scale:.4g}")


def check_learning_rate(tuning: Tuning, objective: Objective, optimizer: Optimizer) -> Iterator[Problem]:
    """A rate is set if the method declares none; one that is far from the declared one is reported."""
    suitable = suitable_learning_rate(tuning, objective, optimizer)
    method, rate = type(tuning).__name__, optimizer.lr
    if suitable is None:
        if tuning.trains and rate is None:
            yield Problem(key="optimizer.lr", reason=f"{method} declares no learning rate: set optimizer.lr=...")
    elif rate is not None and not suitable / FAR_OFF < rate < suitable * FAR_OFF:
        ratio = max(rate / suitable, suitable / rate)
        compared = "above" if rate > suitable else "below"
        reason = f"this is {ratio:.3g} times {compared} {suitable:g}, which suits {method} here: null takes that rate"
        yield Problem(key="optimizer.lr", value=rate, reason=reason, kind="warning")

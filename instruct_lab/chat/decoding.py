"""Decoding settings, such as the temperature, that replace the settings of a recorded run."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from instruct_lab.errors import InstructLabError

if TYPE_CHECKING:
    from instruct_lab.experiment import Experiment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoding:
    """Decoding settings that replace those of a run; a setting that is `None` keeps the run's value.

    Args:
        max_new_tokens: maximum number of tokens in an answer.
        temperature: temperature of sampling; 0 always takes the most likely token.
        top_p: total probability that the most likely tokens must reach; one of these is sampled (nucleus sampling).
        seed: random seed of sampled answers.
    """

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None


def with_decoding(experiment: Experiment, decoding: Decoding) -> Experiment:
    """Return a copy of a run's configuration with the given decoding settings and seed.

    Raises:
        InstructLabError: a value is not allowed, or would have no effect, such as a seed when no token is sampled.
    """
    import pydantic

    from instruct_lab.config.field_problems import component_problems
    from instruct_lab.generation import Generation
    from instruct_lab.generation.generation import SAMPLING_FIELDS

    if decoding.temperature == 0 and decoding.top_p is not None:
        raise _refused("top_p", decoding.top_p, "with --temperature 0 no token is sampled, so it has no effect")
    given = {name: getattr(decoding, name) for name in ("max_new_tokens", "temperature", "top_p")}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if decoding.temperature == 0:
        changes |= {"do_sample": False, "num_samples": 1, **dict.fromkeys(SAMPLING_FIELDS)}
    elif "temperature" in changes or "top_p" in changes:
        changes["do_sample"] = True
    try:
        generation = dataclasses.replace(experiment.generation, **changes)
    except pydantic.ValidationError as error:
        problem = next(component_problems(error, Generation, changes, set(), ""))
        raise _refused(problem.key, problem.value, problem.reason) from error
    seed = experiment.seed
    if decoding.seed is not None:
        if not 0 <= decoding.seed < 2**32:
            raise _refused("seed", decoding.seed, f"expected a whole number from 0 to {2**32 - 1}")
        if not generation.do_sample:
            reason = "no token is sampled, so it has no effect without --temperature or --top-p"
            raise _refused("seed", decoding.seed, reason)
        seed = decoding.seed
    return dataclasses.replace(experiment, generation=generation, seed=seed)


def _refused(name: str, value: Any, reason: str) -> InstructLabError:
    """Return the error for a value that is not allowed; `name` is the field of `Decoding` that has this value."""
    option = f"--{name.replace('_', '-')}"
    return InstructLabError(
        f"{option} {value}: {reason}",
        where="the settings of decoding",
        do=f"give {option} another value, or leave it out to answer as the run did",
    )

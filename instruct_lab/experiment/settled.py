"""Set values of a run's config that follow from its other choices, from the machine or from the training answers."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from instruct_lab.batching.answer_lengths import AnswerLengths
from instruct_lab.config import ExternalClass
from instruct_lab.experiment.experiment import Experiment
from instruct_lab.experiment.rules.declarations import longest_example, suitable_learning_rate
from instruct_lab.experiment.rules.trainer import TRAINER

NEW_TOKENS = "generation.max_new_tokens"
FROM_ANSWERS = "the training answers, once the run has tokenised them"
"""The text that says what the maximum length of answers follows from, while it is not known yet."""
MULTIPLE = 8
"""The maximum length of answers is rounded up to a multiple of this number of tokens."""
WITHOUT_ANSWERS = 64
"""The maximum length of answers, in tokens, if there are no training answers."""
GPUS = ("auto", "gpu", "cuda")
"""Accelerators of the trainer that use an NVIDIA or AMD GPU if there is one."""


class Derived(NamedTuple):
    """A config value that the program computes, and a text that says what it follows from."""

    value: Any
    origin: str


def settle(experiment: Experiment) -> tuple[Experiment, dict[str, Derived]]:
    """Compute the config values that follow from other choices or from the machine.

    A learning rate or a precision of null is replaced by a suitable one. `batching.max_tokens` is set to the length of
    the longest example that the model can read, if it is null or larger. The maximum length of answers
    (`generation.max_new_tokens`), if it is null, is set later by `settle_answers`, after the training answers are
    tokenised.

    Returns:
        The experiment with these values, and a dictionary with each computed value and what it follows from, keyed by
        full key. The dictionary contains the maximum length of answers too, with the value `None`, if it is set later.
    """
    model, tuning, cache_path = experiment.model, experiment.tuning, experiment.cache_path
    batching, optimizer, trainer = experiment.batching, experiment.optimizer, experiment.trainer
    values: dict[str, Derived] = {}
    rate = suitable_learning_rate(tuning, experiment.objective, optimizer, model, cache_path)
    if optimizer.lr is None and rate is not None:
        values["optimizer.lr"] = Derived(rate, f"the rate that suits {type(tuning).__name__}")
        optimizer = dataclasses.replace(optimizer, lr=rate)
    longest = longest_example(model, tuning, cache_path)
    if longest is not None and (batching.max_tokens is None or batching.max_tokens > longest):
        values["batching.max_tokens"] = Derived(longest, "the positions of the model")
        batching = dataclasses.replace(batching, max_tokens=longest)
    if (precision := suitable_precision(trainer)) is not None:
        values["trainer.precision"] = precision
        trainer = dataclasses.replace(trainer, arguments={**trainer.arguments, "precision": precision.value})
    if experiment.generation.max_new_tokens is None and experiment.cannot_answer is None:
        values[NEW_TOKENS] = Derived(None, FROM_ANSWERS)
    return dataclasses.replace(experiment, optimizer=optimizer, batching=batching, trainer=trainer), values


def suitable_precision(trainer: ExternalClass) -> Derived | None:
    """Return the precision that suits the machine, and a text that says what it follows from.

    The result is `None` if the config sets a precision or plugins, or if the trainer is not Lightning's.
    """
    from instruct_lab.model.hardware import computes_bfloat16

    arguments = trainer.arguments
    if trainer.target != TRAINER or arguments.get("precision") is not None or arguments.get("plugins"):
        return None
    if arguments.get("accelerator", "auto") in GPUS and computes_bfloat16():
        return Derived("bf16-mixed", "the GPU, which computes bfloat16")
    return Derived("32-true", "the device: no GPU that computes bfloat16")


def settle_answers(
    experiment: Experiment, lengths: AnswerLengths, context: int | None
) -> tuple[Experiment, Derived | None]:
    """Set the maximum length of generated answers from the training answers, if it is null and the model can answer.

    Args:
        experiment: the run's configuration.
        lengths: lengths of the training answers and of the held-out prompts, in tokens.
        context: number of tokens that fit the model's context; `None`: no limit.

    Returns:
        The experiment with the maximum set, and the maximum with a text that says what it follows from. If nothing is
        set, the experiment as given and `None`.
    """
    generation = experiment.generation
    if generation.max_new_tokens is not None or experiment.cannot_answer is not None:
        return experiment, None
    found = usual_answer(lengths.usual)
    for bound, reason in _bounds(experiment, lengths.longest_prompt, context):
        if bound < found.value:
            found = Derived(bound, f"{found.origin}; {reason}")
    generation = dataclasses.replace(generation, max_new_tokens=found.value)
    return dataclasses.replace(experiment, generation=generation), found


def usual_answer(usual: int | None) -> Derived:
    """Return the maximum length of generated answers that follows from the training answers: `usual`, rounded up.

    It is a multiple of 8 tokens, and 64 if there are no training answers.

    Args:
        usual: the length, in tokens, that 99% of the training answers do not exceed; `None`: there are no answers.
    """
    if usual is None:
        return Derived(WITHOUT_ANSWERS, "there is no training answer with a prompt")
    return Derived(-(-usual // MULTIPLE) * MULTIPLE, f"99% of the training answers have at most {usual}")


def _bounds(experiment: Experiment, prompt: int | None, context: int | None) -> list[tuple[int, str]]:
    """List the upper limits on the length of answers, each with its reason.

    One limit is `batching.max_tokens`. The other is the number of tokens that fit the model's context; for a decoder,
    the tokens of the longest prompt and the virtual tokens of the tuning method are subtracted from it.

    Args:
        experiment: the run's configuration.
        prompt: number of tokens of the longest held-out prompt; `None` if there are no held-out prompts.
        context: number of tokens that fit the model's context; `None`: no limit.
    """
    bounds = []
    if experiment.batching.max_tokens is not None:
        bounds.append((experiment.batching.max_tokens, "batching.max_tokens allows no more"))
    if context is not None and experiment.model.family == "encoder-decoder":
        bounds.append((context, f"the model's context has {context}"))
    elif context is not None and prompt is not None:
        room = max(1, context - prompt - experiment.tuning.num_added_positions)
        bounds.append((room, f"the longest prompt leaves {room} of the model's {context} positions"))
    return bounds

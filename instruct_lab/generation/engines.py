"""The programs that decode answers: the package's own decoding, and the engines of other libraries.

An engine changes how fast answers are computed. It may also change the last bits of logits, and thereby a token.
Therefore, results of different engines are not compared example by example; the signature of a metric (the text that
says how its value is computed) names the engine.
"""

from __future__ import annotations

from typing import Literal

from instruct_lab.errors import InstructLabError

Engine = Literal["native", "transformers_cb", "vllm"]
NATIVE: Engine = "native"
"""The engine of this package, which supports every model, tuning method and setting."""


def unsupported_setting(engine: Engine, do_sample: bool, num_beams: int, repetition_penalty: float) -> str | None:
    """Return the name of the first setting of decoding that an engine does not support; `None` if it supports all."""
    if engine == NATIVE:
        return None
    if num_beams > 1:
        return "num_beams"
    if engine == "transformers_cb":
        if do_sample:  # it has one random state for all prompts, so that an answer would depend on the others
            return "do_sample"
        if repetition_penalty != 1:  # it drops this processor with a warning
            return "repetition_penalty"
    return None


def engine_failed(engine: Engine, reason: str) -> InstructLabError:
    """Return the error for an engine that has not answered all prompts."""
    return InstructLabError(
        f"The engine {engine} cannot answer the prompts ({reason})",
        where="generation.engine",
        do="type generation.engine=native, which runs every model",
    )

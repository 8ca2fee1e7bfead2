"""Decode all prompts with another library's engine, such as vLLM, and keep the answers in a journal file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from instruct_lab.generation.engines import Engine
from instruct_lab.progress import Stage

if TYPE_CHECKING:
    from instruct_lab.generation.decoding import Settings
    from instruct_lab.generation.journal import AnswerJournal

JOURNAL_PROMPTS = 512
"""Number of prompts that vLLM answers at once; their answers are then written to the journal."""


def decode_by_engine(
    engine: Engine,
    model: Any,
    prompts: Sequence[Sequence[int]],
    settings: Settings,
    seeds: Sequence[int],
    *,
    batch_tokens: int | None = None,
    journal: AnswerJournal | None = None,
    report: Stage | None = None,
) -> list[list[int]]:
    """Decode all prompts with the engine of another library; return token ids without the stop token.

    Call this function only in a `with evaluation_mode(model)` block.

    Args:
        engine: name of the engine, which is not `native`.
        model: a decoder, with or without adapters.
        prompts: the token ids of each prompt.
        settings: limits, stop tokens and sampling of the decoding.
        seeds: random seed for each prompt; used only for sampling.
        batch_tokens: maximum number of tokens in the key-value cache; `None`: it is estimated from the total memory.
        journal: file that keeps the answers; prompts whose answers it already holds are not decoded again.
        report: the stage of the progress report that shows how many prompts are answered.

    Raises:
        InstructLabError: the engine cannot run the model.
    """
    from instruct_lab.generation.decoding import before_stop

    known = {} if journal is None else {index: journal.read([index]) for index in range(len(prompts))}
    answers: dict[int, list[int]] = {index: found[0] for index, found in known.items() if found is not None}
    remaining = [index for index in range(len(prompts)) if index not in answers]

    def keep(index: int, ids: Sequence[int]) -> None:
        answers[index] = before_stop(ids, settings.stop_token_ids)
        if journal is not None:
            journal.write([index], [answers[index]])
        if report is not None:
            report.update(len(answers))

    if engine == "transformers_cb":
        from instruct_lab.generation.continuous_batching import decode_continuously

        decode_continuously(model, {index: prompts[index] for index in remaining}, settings, batch_tokens, keep)
    else:
        from instruct_lab.generation.vllm_engine import decode_with_vllm

        size = JOURNAL_PROMPTS if journal is not None else len(remaining) or 1
        parts = [remaining[start : start + size] for start in range(0, len(remaining), size)]
        decode_with_vllm(model, [{index: prompts[index] for index in part} for part in parts], settings, seeds, keep)
    return [answers[index] for index in range(len(prompts))]

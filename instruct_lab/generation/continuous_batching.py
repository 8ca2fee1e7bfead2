"""Decoding by transformers' continuous batching: as soon as an answer ends, decoding of the next prompt starts.

The keys and values of all prompts lie in pages of one cache, and each forward pass computes the next tokens of all
unfinished answers, without padding. Transformers runs the model in a separate thread and may replace the model's
attention implementation while it decodes. Afterwards, the original one is restored, so that decoding does not change
the results of the training that follows.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig

from instruct_lab.errors import one_line, wrap_errors
from instruct_lab.generation.decoding import Settings
from instruct_lab.generation.engines import engine_failed
from instruct_lab.model.family import without_adapters
from instruct_lab.model.packed_attention import NAME as PACKED
from instruct_lab.model.token_budget import decoded_tokens

PAGE_TOKENS, CPU_PAGE_TOKENS = 256, 16
"""Number of tokens in a page of the cache, on a GPU and on a CPU; flash attention needs multiples of 256 tokens."""
MAX_ROWS, CPU_MAX_ROWS = 256, 64
"""Maximum number of answers that are decoded at the same time, on a GPU and on a CPU."""
PASS_TOKENS, CPU_PASS_TOKENS = 8192, 256
"""Maximum number of tokens of a forward pass, on a GPU and on a CPU; longer prompts are read in parts."""
SECONDS = 1.0
"""Time in seconds to wait for an answer before checking whether transformers' thread is still running."""


def decode_continuously(
    model: Any,
    prompts: Mapping[int, Sequence[int]],
    settings: Settings,
    batch_tokens: int | None,
    keep: Callable[[int, Sequence[int]], None],
) -> None:
    """Decode prompts greedily with transformers' continuous batching.

    Call this function only in a `with evaluation_mode(model)` block.

    Args:
        model: a decoder, with or without adapters in its layers (virtual tokens before the prompts are not supported).
        prompts: the token ids of each prompt, keyed by the index of the prompt.
        settings: limits and stop tokens of the decoding, which must be greedy.
        batch_tokens: maximum number of tokens in the key-value cache; `None`: it is estimated from the total memory.
        keep: function that is called with the index of a prompt and the tokens of its answer when the answer has ended.

    Raises:
        InstructLabError: transformers cannot run the model with continuous batching.
    """
    if not prompts:
        return
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)  # its errors are raised here
    base = without_adapters(model)
    if base.device.type == "cuda":
        torch.cuda.synchronize(base.device)  # the library computes on a stream of its own
    config = GenerationConfig(
        max_new_tokens=settings.max_new_tokens,
        do_sample=False,
        eos_token_id=list(settings.stop_token_ids) or -1,  # -1 means no stop token
        pad_token_id=settings.pad_token_id,
    )
    with _replaceable_attention(base), wrap_errors(ValueError, AttributeError, NotImplementedError, **FAILURE):
        manager = base.init_continuous_batching(
            generation_config=config,
            continuous_batching_config=_cache_config(base, list(prompts.values()), settings, batch_tokens),
        )
        try:
            manager.warmup()
            names = manager.add_requests([list(ids) for ids in prompts.values()])  # before the start: equal batches
            manager.start()
            _receive(manager, dict(zip(names, prompts, strict=True)), keep)
        finally:
            manager.stop(block=True, hard_stop=True)
            manager.destroy()


FAILURE = {
    "what": "The engine transformers_cb cannot run this model",
    "where": "generation.engine",
    "do": "type generation.engine=native, which runs every model",
}


def _receive(manager: Any, indices: dict[str, int], keep: Callable[[int, Sequence[int]], None]) -> None:
    """Pass each answer to `keep` as soon as the answer has ended, until all prompts are answered.

    Args:
        manager: the running manager of transformers' continuous batching.
        indices: index of each prompt, keyed by the name of the request that decodes it.
        keep: function that is called with the index of a prompt and the tokens of its answer.

    Raises:
        InstructLabError: decoding failed.
    """
    while indices:
        result = manager.get_result(timeout=SECONDS)
        if result is None:
            if not manager.is_running():
                raise engine_failed("transformers_cb", one_line(str(manager.background_thread_status.fatal_error)))
        elif result.error is not None:
            raise engine_failed("transformers_cb", one_line(result.error))
        elif result.is_finished():
            keep(indices.pop(result.request_id), result.generated_tokens)


@contextlib.contextmanager
def _replaceable_attention(base: Any) -> Iterator[None]:
    """Let transformers replace the model's attention implementation within the block, and restore it afterwards."""
    before = base.config._attn_implementation
    if before == PACKED:  # for rows of several texts, and the same as sdpa for others
        base.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        if base.config._attn_implementation != before:
            base.set_attn_implementation(before)


def _cache_config(
    base: Any, prompts: Sequence[Sequence[int]], settings: Settings, batch_tokens: int | None
) -> ContinuousBatchingConfig:
    """Return the settings of continuous batching; the size of the key-value cache suits the prompts and the memory."""
    is_cpu = base.device.type == "cpu"
    page = CPU_PAGE_TOKENS if is_cpu else PAGE_TOKENS
    max_rows = CPU_MAX_ROWS if is_cpu else MAX_ROWS
    pages = sorted((math.ceil((len(ids) + settings.max_new_tokens) / page) + 1 for ids in prompts), reverse=True)
    budget = decoded_tokens(base) if batch_tokens is None else batch_tokens
    needed = sum(pages[:max_rows])
    return ContinuousBatchingConfig(
        page_size=page,
        num_blocks=needed if budget is None else max(pages[0], min(needed, budget // page)),
        max_batch_tokens=CPU_PASS_TOKENS if is_cpu else PASS_TOKENS,
        max_requests_per_batch=max_rows,
        auto_switch_to_flash=False,  # the attention is chosen in model.attention
        use_async_batching=None if not is_cpu else False,
    )

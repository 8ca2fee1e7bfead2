"""Decoding with vLLM on a GPU.

vLLM has its own copy of the weights, which it reads from a folder. In a run that trains a LoRA adapter, the base model
is written and loaded once; at each evaluation, only the adapter is written and loaded, and between evaluations vLLM
keeps no GPU memory (its sleep mode). If other weights are trained, the whole model is written and loaded at each
evaluation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from instruct_lab.errors import wrap_errors
from instruct_lab.generation.decoding import Settings
from instruct_lab.generation.engines import engine_failed
from instruct_lab.model.family import without_adapters
from instruct_lab.tuning.engine_files import adapter_rank, has_frozen_base, write_adapter, write_base

MEMORY_SHARE = 0.9
"""Fraction of the GPU's free memory that vLLM may use."""
RANKS = (8, 16, 32, 64, 128, 256, 512)
"""Ranks of LoRA adapters for which vLLM reserves memory; an adapter may have a lower rank."""


def decode_with_vllm(
    model: Any,
    parts: Sequence[Mapping[int, Sequence[int]]],
    settings: Settings,
    seeds: Sequence[int],
    keep: Callable[[int, Sequence[int]], None],
) -> None:
    """Decode prompts with vLLM; call this function only in an `evaluation_mode` block.

    Args:
        model: a decoder-only language model, with or without a LoRA adapter.
        parts: groups of prompts that are decoded together; each group has the token ids of its prompts, keyed by the
            index of the prompt.
        settings: limits, stop tokens and sampling of the decoding.
        seeds: random seed of each prompt, in the order of the prompts' indices; used only for sampling.
        keep: function that is called with the index of a prompt and the tokens of its answer, once all prompts of the
            group are answered.

    Raises:
        InstructLabError: the run uses several devices, or vLLM cannot run the model.
    """
    lengths = [len(ids) for part in parts for ids in part.values()]
    if not lengths:
        return
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        raise engine_failed("vllm", "the run uses several devices, and vllm is started on one")
    import vllm

    with _running(model, max(lengths) + settings.max_new_tokens) as engine:
        for part in parts:
            requests = [{"prompt_token_ids": list(ids)} for ids in part.values()]
            parameters = [vllm.SamplingParams(**_arguments(settings, seeds, index)) for index in part]
            with wrap_errors(**FAILURE):
                outputs = engine.llm.generate(requests, parameters, lora_request=engine.adapter, use_tqdm=False)
            for index, output in zip(part, outputs, strict=True):
                keep(index, output.outputs[0].token_ids)


FAILURE = {
    "what": "vllm cannot run this model",
    "where": "generation.engine",
    "do": "type generation.engine=native, which runs every model",
}


def _arguments(settings: Settings, seeds: Sequence[int], index: int) -> dict[str, Any]:
    """Return the arguments of vLLM's `SamplingParams` for a prompt."""
    arguments = {
        "max_tokens": settings.max_new_tokens,
        "stop_token_ids": list(settings.stop_token_ids),
        "ignore_eos": True,  # only the stop tokens of the settings end an answer
        "repetition_penalty": settings.repetition_penalty,
        "temperature": 0.0,
        "detokenize": False,
    }
    if settings.sampling is not None:
        arguments |= {**settings.sampling.arguments, "seed": seeds[index]}
    return arguments


@dataclasses.dataclass
class _Engine:
    """A vLLM engine with the folder of its weights.

    Args:
        llm: vLLM's own engine object.
        folder: folder with the weights, which is deleted with this object.
        max_tokens: number of tokens of the longest prompt with its answer.
        rank: highest LoRA rank that the engine can load; `None` if it cannot load adapters.
        num_adapters: number of adapters that the engine has loaded so far.
        adapter: vLLM's `LoRARequest` for the adapter that was loaded last; `None` if the model has no adapter.
    """

    llm: Any
    folder: tempfile.TemporaryDirectory[str]
    max_tokens: int
    rank: int | None
    num_adapters: int = 0
    adapter: Any = None


_kept: weakref.WeakKeyDictionary[Any, _Engine] = weakref.WeakKeyDictionary()
"""The engines that are kept between evaluations, keyed by the frozen base model whose weights they have."""


@contextlib.contextmanager
def _running(model: Any, max_tokens: int) -> Iterator[_Engine]:
    """Yield a vLLM engine with the model's current weights, and free the engine's GPU memory afterwards."""
    base, rank = without_adapters(model), adapter_rank(model)
    is_kept = has_frozen_base(model)
    engine = _kept.pop(base, None) if is_kept else None
    if engine is not None and (engine.max_tokens < max_tokens or (engine.rank or 0) < (rank or 0)):
        _stop(engine)
        engine = None
    torch.cuda.empty_cache()
    with wrap_errors(**FAILURE):
        if engine is None:
            engine = _start(model, max_tokens, rank, is_kept)
        else:
            engine.llm.wake_up()
    try:
        with tempfile.TemporaryDirectory(prefix="instruct-lab-adapter-") as folder:
            if rank is not None:
                from vllm.lora.request import LoRARequest

                write_adapter(model, Path(folder))
                engine.num_adapters += 1  # vLLM knows an adapter by its number
                engine.adapter = LoRARequest(f"adapter-{engine.num_adapters}", engine.num_adapters, folder)
            yield engine
    except BaseException:
        _stop(engine)
        raise
    if is_kept:
        engine.llm.sleep(level=1)
        _kept[base] = engine
    else:
        _stop(engine)


def _start(model: Any, max_tokens: int, rank: int | None, is_kept: bool) -> _Engine:
    """Write the weights of the base model to a folder, and load them with vLLM.

    Args:
        model: the model that is trained.
        max_tokens: maximum number of tokens of a prompt with its answer.
        rank: rank of the model's LoRA adapter; `None` if it has no adapter.
        is_kept: whether the engine is kept for later evaluations, and frees its GPU memory between them.
    """
    import vllm

    folder = tempfile.TemporaryDirectory(prefix="instruct-lab-weights-")
    write_base(model, Path(folder.name))
    free, total = torch.cuda.mem_get_info()
    reserved = None if rank is None else next((one for one in RANKS if one >= rank), rank)
    lora = {} if reserved is None else {"enable_lora": True, "max_loras": 1, "max_lora_rank": reserved}
    llm = vllm.LLM(
        model=folder.name,
        skip_tokenizer_init=True,
        dtype=str(without_adapters(model).dtype).removeprefix("torch."),
        max_model_len=max_tokens,
        gpu_memory_utilization=round(MEMORY_SHARE * free / total, 3),
        generation_config="vllm",  # not the checkpoint's own settings
        enable_sleep_mode=is_kept,
        **lora,
    )
    return _Engine(llm, folder, max_tokens, reserved)


def _stop(engine: _Engine) -> None:
    """End an engine and delete its weights."""
    import gc

    engine.llm = None
    engine.folder.cleanup()
    gc.collect()
    torch.cuda.empty_cache()

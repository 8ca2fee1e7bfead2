"""Batched decoding with padding on the left: token by token here, or by `generate` of transformers.

Token by token, rows leave the batch when their answer is complete; `generate` computes all rows until the last one is.
The seconds of both are compared by tests/benchmarks/decoding_against_generate.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList

from instruct_lab.generation.library_names import cache_argument, can_remove_rows
from instruct_lab.generation.next_token import OnlyDrawnToken, RepetitionPenalty, Sampler, Sampling

MAX_RUNNING_SHARE = 0.75
"""Finished rows are removed once at most this share of the batch is running: removing copies the cache."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a batch is decoded; the fields are those of `Generation`, except for these.

    Args:
        sampling: the distribution that tokens are drawn from; None: the most likely token is chosen.
        stop_token_ids: an answer ends before the first of these.
        pad_token_id: fills up shorter prompts.
        decoder_start: arguments of a generation config; see `library_names.decoder_start`.
    """

    max_new_tokens: int
    sampling: Sampling | None
    num_beams: int
    length_penalty: float
    repetition_penalty: float
    stop_token_ids: tuple[int, ...]
    pad_token_id: int
    decoder_start: dict[str, Any] = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Evaluation mode, no gradients, and none of the model's own generation defaults; all are restored afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    own = [
        (module, module.generation_config)
        for module in model.modules()
        if isinstance(getattr(module, "generation_config", None), GenerationConfig)
    ]
    model.eval()
    for module, _ in own:
        module.generation_config = GenerationConfig()  # transformers fills in missing values from here
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for module, config in own:
            module.generation_config = config


def has_prefix_before_padding(model: Any) -> bool:
    """Whether virtual tokens come before the text, so that padding would separate them and count as distance."""
    has_virtual_tokens = getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False)
    return bool(has_virtual_tokens) and not model.config.is_encoder_decoder


def decode(
    model: Any, prompts: Sequence[Sequence[int]], settings: Settings, seeds: Sequence[int] = ()
) -> list[list[int]]:
    """Answers of one batch, as token ids before the first stop token.

    Args:
        model: inside `evaluation_mode`.
        prompts: token ids.
        settings: how answers are decoded.
        seeds: of sampling, one for each prompt.
    """
    device = next(model.parameters()).device
    width = max(map(len, prompts))
    input_ids = torch.full((len(prompts), width), settings.pad_token_id)  # [batch, seq]
    mask = torch.zeros_like(input_ids)
    for row, prompt in enumerate(prompts):
        start = 0 if model.config.is_encoder_decoder else width - len(prompt)  # an encoder is padded on the right
        input_ids[row, start : start + len(prompt)] = torch.tensor(prompt)
        mask[row, start : start + len(prompt)] = 1
    input_ids, mask = input_ids.to(device), mask.to(device)
    if settings.num_beams == 1 and can_remove_rows(model):
        rows = _decode_by_token(model, input_ids, mask, settings, seeds)
    else:
        rows = _decode_by_transformers(model, input_ids, mask, settings, seeds)
    return [_before_stop(row, settings.stop_token_ids) for row in rows]


def _decode_by_token(
    model: Any, input_ids: torch.Tensor, mask: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> list[list[int]]:
    """One forward pass per token, in which only unfinished rows remain."""
    sampler = None if settings.sampling is None else Sampler(settings.sampling, seeds)
    stops = torch.tensor(settings.stop_token_ids, device=input_ids.device, dtype=torch.long)
    answers: list[list[int]] = [[] for _ in range(len(input_ids))]
    rows = list(range(len(input_ids)))  # which answer each row of the batch belongs to
    seen = input_ids  # [batch, seq], prompt and answer so far
    cache_name = cache_argument(model)
    assert cache_name is not None
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    new, running = input_ids, torch.ones(len(input_ids), dtype=torch.bool, device=input_ids.device)
    for step in range(settings.max_new_tokens):
        positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)[:, -new.shape[1] :]  # [batch, new]
        outputs = model(
            input_ids=new,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{cache_name: cache},
        )
        scores = outputs.logits[:, -1].float()  # [batch, vocab]
        if settings.repetition_penalty != 1:
            scores = RepetitionPenalty(settings.repetition_penalty, mask)(seen, scores)
        chosen = scores.argmax(dim=-1) if sampler is None else sampler.draw(seen, scores, rows)  # [batch]
        for row, token, runs in zip(rows, chosen.tolist(), running.tolist(), strict=True):
            if runs:
                answers[row].append(token)
        running = running & ~torch.isin(chosen, stops)
        num_running = int(running.sum())
        if num_running == 0 or step == settings.max_new_tokens - 1:
            break
        new = chosen[:, None]  # [batch, 1]
        mask = torch.cat([mask, torch.ones_like(new)], dim=1)
        seen = torch.cat([seen, new], dim=1)
        if num_running <= MAX_RUNNING_SHARE * len(rows):
            kept = running.nonzero()[:, 0]
            cache.batch_select_indices(kept)
            new, mask, seen, running = new[kept], mask[kept], seen[kept], running[kept]
            rows = [rows[index] for index in kept.tolist()]
    return answers


def _decode_by_transformers(
    model: Any, input_ids: torch.Tensor, mask: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> list[list[int]]:
    """Beam search, encoder-decoders, and models that `can_remove_rows` excludes."""
    samples_beams = settings.sampling is not None and settings.num_beams > 1
    if samples_beams and len(input_ids) > 1:  # transformers draws all rows of a batch from one random state
        one_by_one = zip(input_ids[:, None], mask[:, None], seeds, strict=True)
        return [_decode_by_transformers(model, ids, row, settings, [seed])[0] for ids, row, seed in one_by_one]
    config = GenerationConfig(
        **settings.decoder_start,
        max_new_tokens=settings.max_new_tokens,
        do_sample=samples_beams,
        num_beams=settings.num_beams,
        eos_token_id=list(settings.stop_token_ids) or None,
        pad_token_id=settings.pad_token_id,
        use_cache=True,
        **(settings.sampling.arguments if settings.sampling is not None and samples_beams else {}),
        **({"length_penalty": settings.length_penalty} if settings.num_beams > 1 else {}),
    )
    processors = LogitsProcessorList()
    if settings.repetition_penalty != 1:
        seen = mask[:, :1] if model.config.is_encoder_decoder else mask  # a decoder's own text starts without padding
        seen = seen.repeat_interleave(settings.num_beams, dim=0)
        processors.append(RepetitionPenalty(settings.repetition_penalty, seen))
    if settings.sampling is not None and not samples_beams:
        processors.append(OnlyDrawnToken(Sampler(settings.sampling, seeds)))
    with torch.random.fork_rng(enabled=samples_beams):
        if samples_beams:
            torch.manual_seed(seeds[0])
        output = model.generate(
            input_ids=input_ids, attention_mask=mask, generation_config=config, logits_processor=processors
        )
    start = 1 if model.config.is_encoder_decoder else input_ids.shape[1]  # after the decoder's start token
    rows: list[list[int]] = output[:, start:].tolist()
    return rows


def _before_stop(row: list[int], stop_token_ids: Sequence[int]) -> list[int]:
    stops = set(stop_token_ids)
    end = next((index for index, token in enumerate(row) if token in stops), len(row))
    return row[:end]

"""Batched decoding with left padding: token by token here, beam search in transformers."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

STEP_ARGUMENTS = {"input_ids", "attention_mask", "position_ids", "use_cache", "logits_to_keep"}
CACHE_NAMES = ("cache", "past_key_values")
"""What transformers calls the cache of a model's forward pass, the newest name first."""
SELECTABLE_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}
DECODER_START = ("forced_bos_token_id", "bad_words_ids")
"""What else than its start token decides what an encoder-decoder writes first, or never."""
KEPT_SHARE = 0.75
"""Finished rows leave the batch once no more than this share of it still runs: leaving copies the cache."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """One way of decoding; `sampling` is temperature, top_p and top_k, or none for the most likely token."""

    max_new_tokens: int
    sampling: tuple[float | None, float | None, int | None] | None
    num_beams: int
    length_penalty: float
    repetition_penalty: float
    stop_token_ids: tuple[int, ...]
    pad_token_id: int
    decoder_start: dict[str, Any] = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def prepared(model: Any) -> Iterator[None]:
    """The model in evaluation mode, without gradients, without its own generation defaults; all restored."""
    modes = [(module, module.training) for module in model.modules()]
    own = [
        (module, module.generation_config)
        for module in model.modules()
        if isinstance(getattr(module, "generation_config", None), GenerationConfig)
    ]
    model.eval()
    for module, _ in own:
        module.generation_config = GenerationConfig()  # transformers fills what is not set from here
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for module, config in own:
            module.generation_config = config


def decode(
    model: Any, prompts: Sequence[Sequence[int]], settings: Settings, seeds: Sequence[int] = ()
) -> list[list[int]]:
    """Answers of one batch, as token ids before the first stop token.

    Args:
        model: in the state that `prepared` brings it into.
        prompts: token ids.
        settings: how answers are decoded.
        seeds: of sampling, one for each prompt.
    """
    device = next(model.parameters()).device
    width = max(map(len, prompts))
    input_ids = torch.full((len(prompts), width), settings.pad_token_id)  # [batch, seq]
    mask = torch.zeros_like(input_ids)
    reads_whole = model.config.is_encoder_decoder
    for row, prompt in enumerate(prompts):
        place = slice(0, len(prompt)) if reads_whole else slice(width - len(prompt), width)
        input_ids[row, place] = torch.tensor(prompt)
        mask[row, place] = 1
    input_ids, mask = input_ids.to(device), mask.to(device)
    if settings.num_beams == 1 and steps_alone(model):
        rows = _decode_by_token(model, input_ids, mask, settings, seeds)
    else:
        rows = _decode_by_transformers(model, input_ids, mask, settings, seeds)
    return [_before_stop(row, settings.stop_token_ids) for row in rows]


def pads_apart(model: Any) -> bool:
    """Whether padding would stand between a text and the virtual tokens before it, and count as distance."""
    prompted = getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False)
    return bool(prompted) and not model.config.is_encoder_decoder


def steps_alone(model: Any) -> bool:
    """Whether rows can leave this model's batch: it takes positions and a cache of attention alone.

    Where it seems not to, transformers decodes: slower, with the same answers.
    """
    prompted = getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False)
    config = model.config.get_text_config(decoder=True)
    layers = set(getattr(config, "layer_types", None) or ())
    by_name = _arguments(model) >= STEP_ARGUMENTS and _cache_name(model) is not None
    return not prompted and by_name and layers <= SELECTABLE_LAYERS and not config.is_encoder_decoder


def _arguments(model: Any) -> set[str]:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return set(inspect.signature(base.forward).parameters)


def _cache_name(model: Any) -> str | None:
    taken = _arguments(model)
    return next((name for name in CACHE_NAMES if name in taken), None)


def _decode_by_token(
    model: Any, input_ids: torch.Tensor, mask: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> list[list[int]]:
    """One forward pass a token; rows leave the batch when they are done, which `generate` of transformers cannot."""
    choose = _Choice(settings, seeds)
    stops = torch.tensor(settings.stop_token_ids, device=input_ids.device, dtype=torch.long)
    answers: list[list[int]] = [[] for _ in range(len(input_ids))]
    rows = list(range(len(input_ids)))  # whose answer each row of the batch is
    seen = input_ids  # [batch, seq], prompt and answer so far
    cache_name = _cache_name(model) or CACHE_NAMES[0]
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    new, running = input_ids, torch.ones(len(input_ids), dtype=torch.bool, device=input_ids.device)
    for step in range(settings.max_new_tokens):
        positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)[:, -new.shape[1] :]  # [batch, new]
        logits = model(
            input_ids=new,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{cache_name: cache},
        ).logits[:, -1]  # [batch, vocab]
        chosen = choose(logits.float(), seen, mask, rows)  # [batch]
        for row, token, runs in zip(rows, chosen.tolist(), running.tolist(), strict=True):
            if runs:
                answers[row].append(token)
        running = running & ~torch.isin(chosen, stops)
        left = int(running.sum())
        if left == 0 or step == settings.max_new_tokens - 1:
            break
        new = chosen[:, None]  # [batch, 1]
        mask = torch.cat([mask, torch.ones_like(new)], dim=1)
        seen = torch.cat([seen, new], dim=1)
        if left <= KEPT_SHARE * len(rows):
            kept = running.nonzero()[:, 0]
            cache.batch_select_indices(kept)
            new, mask, seen, running = new[kept], mask[kept], seen[kept], running[kept]
            rows = [rows[index] for index in kept.tolist()]
    return answers


def _decode_by_transformers(
    model: Any, input_ids: torch.Tensor, mask: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> list[list[int]]:
    if settings.sampling is not None and settings.num_beams > 1 and len(input_ids) > 1:  # its draws cannot be seeded
        one_by_one = zip(input_ids[:, None], mask[:, None], seeds, strict=True)
        return [_decode_by_transformers(model, ids, row, settings, [seed])[0] for ids, row, seed in one_by_one]
    temperature, top_p, top_k = settings.sampling or (None, None, None)
    samples_beams = settings.sampling is not None and settings.num_beams > 1
    sampling = {"temperature": temperature or 1.0, "top_p": top_p or 1.0, "top_k": top_k or 0}
    beams = {"length_penalty": settings.length_penalty} if settings.num_beams > 1 else {}
    config = GenerationConfig(
        **settings.decoder_start,
        max_new_tokens=settings.max_new_tokens,
        do_sample=samples_beams,
        num_beams=settings.num_beams,
        eos_token_id=list(settings.stop_token_ids) or None,
        pad_token_id=settings.pad_token_id,
        use_cache=True,
        **(sampling if samples_beams else {}),
        **beams,
    )
    seen = mask[:, :1] if model.config.is_encoder_decoder else mask  # the decoder's own text has no padding before it
    processors = LogitsProcessorList()
    if settings.repetition_penalty != 1:
        seen = seen.repeat_interleave(settings.num_beams, dim=0)
        processors.append(_RepetitionPenalty(settings.repetition_penalty, seen))
    if settings.sampling is not None and not samples_beams:
        processors.append(_Draw(_Choice(settings, seeds)))
    with torch.random.fork_rng(enabled=samples_beams):
        if samples_beams:
            torch.manual_seed(seeds[0])
        output = model.generate(
            input_ids=input_ids, attention_mask=mask, generation_config=config, logits_processor=processors
        )
    start = 1 if model.config.is_encoder_decoder else input_ids.shape[1]  # after the decoder's start token
    rows: list[list[int]] = output[:, start:].tolist()
    return rows


def decoder_start(model: Any) -> dict[str, Any]:
    """What an encoder-decoder's text starts with and may not hold, as its makers say; nothing for other models.

    To be asked outside of `prepared`: transformers keeps some of it with the generation defaults.
    """
    if not model.config.is_encoder_decoder:
        return {}
    own = getattr(model, "generation_config", None)
    told = {name: getattr(own, name, None) or getattr(model.config, name, None) for name in DECODER_START}
    start = getattr(own, "decoder_start_token_id", None)
    told["decoder_start_token_id"] = model.config.decoder_start_token_id if start is None else start
    return {name: value for name, value in told.items() if value is not None}


class _Choice:
    """The next token of every row; a sampled one depends on the seed of its row, not on the other rows."""

    def __init__(self, settings: Settings, seeds: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.samples = settings.sampling is not None
        self.penalty = settings.repetition_penalty
        temperature, top_p, top_k = settings.sampling or (None, None, None)
        self.warpers = LogitsProcessorList()
        if temperature is not None and temperature != 1:
            self.warpers.append(TemperatureLogitsWarper(float(temperature)))
        if top_k is not None:
            self.warpers.append(TopKLogitsWarper(top_k))
        if top_p is not None and top_p < 1:
            self.warpers.append(TopPLogitsWarper(float(top_p)))

    def __call__(
        self, scores: torch.Tensor, seen: torch.Tensor, mask: torch.Tensor, rows: Sequence[int]
    ) -> torch.Tensor:
        if self.penalty != 1:
            scores = _RepetitionPenalty(self.penalty, mask)(seen, scores)
        if not self.samples:
            return scores.argmax(dim=-1)
        return self.draw(seen, scores, rows)

    def draw(self, seen: torch.Tensor, scores: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Draw a token for each of some rows of the first batch, by inverting the cumulative distribution."""
        wide = torch.float32 if scores.device.type == "mps" else torch.float64
        cumulative = self.warpers(seen, scores).softmax(dim=-1).to(wide).cumsum(dim=-1)  # [batch, vocab]
        uniform = torch.tensor([torch.rand((), generator=self.generators[row], dtype=wide) for row in rows])
        thresholds = uniform.to(cumulative)[:, None] * cumulative[:, -1:]
        tokens = torch.searchsorted(cumulative, thresholds, right=True)[:, 0]  # [batch]
        return tokens.clamp(max=scores.shape[-1] - 1)


class _Draw(LogitsProcessor):
    """Leaves only the drawn token, so that `generate` of transformers takes it where it would take the likeliest."""

    def __init__(self, choice: _Choice) -> None:
        self.choice = choice

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        drawn = self.choice.draw(input_ids, scores.float(), range(len(scores)))
        return torch.full_like(scores, -torch.inf).scatter(1, drawn[:, None], 0.0)


class _RepetitionPenalty(LogitsProcessor):
    """Keskar et al., 2019 (CTRL), over the prompt and the answer, but not over the padding.

    transformers' own counts the padding as seen: where the pad token ends a turn, answers to shorter prompts would run
    on, and depend on the batch.
    """

    def __init__(self, penalty: float, mask: torch.Tensor) -> None:
        self.penalty = penalty
        self.padding = (mask == 0).sum(dim=-1, keepdim=True)  # [batch, 1]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        place = torch.arange(input_ids.shape[1], device=input_ids.device)
        first = input_ids[:, -1:]  # stands in for padding: seen anyway
        tokens = torch.where(place < self.padding, first, input_ids)
        found = scores.gather(1, tokens)
        found = torch.where(found < 0, found * self.penalty, found / self.penalty)
        return scores.scatter(1, tokens, found)


def _before_stop(row: list[int], stop_token_ids: Sequence[int]) -> list[int]:
    stops = set(stop_token_ids)
    end = next((place for place, token in enumerate(row) if token in stops), len(row))
    return row[:end]

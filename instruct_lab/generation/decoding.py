"""Batched decoding with the `generate` method of transformers, to which every setting is passed explicitly."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from instruct_lab.generation.finished_rows import EnoughEnded, Rows
from instruct_lab.generation.next_token import DrawnToken, RepetitionPenalty, RowProcessor, Sampling
from instruct_lab.generation.shared_prefix import prompt_cache, shared_length
from instruct_lab.objective.shared_prefix import obstacle
from instruct_lab.progress import Stage

FIRST_AND_FORBIDDEN_TOKENS = ("forced_bos_token_id", "bad_words_ids")
"""Fields of an encoder-decoder's generation config that force the first token or forbid tokens."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Decoding settings of a batch.

    Args:
        max_new_tokens: maximum number of tokens in an answer.
        sampling: the distribution from which tokens are drawn; `None` means decoding without sampling.
        num_beams: number of beams; 1 means no beam search.
        length_penalty: in beam search, a value above 0 favours longer answers.
        repetition_penalty: above 1, tokens that occur in the prompt or the answer become less likely.
        stop_token_ids: tokens that end an answer and are not part of it.
        pad_token_id: token that pads shorter prompts.
        decoder_start: arguments of transformers' `GenerationConfig` for an encoder-decoder: the decoder's start token,
            the token that it must write first, and tokens that it must not write. Empty for a decoder.
    """

    max_new_tokens: int
    sampling: Sampling | None
    num_beams: int
    length_penalty: float
    repetition_penalty: float
    stop_token_ids: tuple[int, ...]
    pad_token_id: int
    decoder_start: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def samples_beams(self) -> bool:
        """Whether tokens are sampled within beam search.

        If so, transformers draws them. Without beam search, `DrawnToken` draws the tokens that are sampled.
        """
        return self.sampling is not None and self.num_beams > 1


class TokenReport(StoppingCriteria):
    """A stopping criterion that shows each new token of a batch in the progress report and never stops the decoding.

    Args:
        report: the stage of the progress report that shows how many prompts are answered.
        num_prompts: number of prompts in the batch.
        max_new_tokens: maximum number of tokens in an answer.
    """

    def __init__(self, report: Stage, num_prompts: int, max_new_tokens: int) -> None:
        self._report, self._num_prompts, self._max_new_tokens = report, num_prompts, max_new_tokens
        self._num_tokens = 0

    def __call__(self, input_ids: torch.Tensor, scores: Any, **arguments: Any) -> torch.Tensor:
        """Show the new token in the progress report.

        Returns:
            `False` for each answer, bool `[batch]`: none of them is to stop.
        """
        self._num_tokens += 1
        ahead = self._num_prompts * self._num_tokens / self._max_new_tokens
        note = f"token {self._num_tokens} of at most {self._max_new_tokens}"
        self._report.update(self._report.done, ahead=ahead, note=note)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@contextlib.contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Run the block with the model in evaluation mode, without gradients and without the model's generation config.

    At the end of the block, each module's mode (training or evaluation) and the generation config are restored.
    """
    modes = [(module, module.training) for module in model.modules()]
    own = [
        (module, module.generation_config)
        for module in model.modules()
        if isinstance(getattr(module, "generation_config", None), GenerationConfig)
    ]
    model.eval()
    for module, _ in own:
        module.generation_config = GenerationConfig()  # transformers takes missing values from here
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for module, config in own:
            module.generation_config = config


def has_prefix_before_padding(model: Any) -> bool:
    """Whether virtual tokens (of prefix or prompt tuning) precede the text of a decoder.

    Padding between these tokens and the text would change the positions of the text.
    """
    has_virtual_tokens = getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False)
    return bool(has_virtual_tokens) and not model.config.is_encoder_decoder


def decoder_start(model: Any) -> dict[str, Any]:
    """Return the arguments of transformers' `GenerationConfig` that an encoder-decoder needs.

    They are the decoder's start token, the token that it must write first, and tokens that it must not write. Call this
    function before `evaluation_mode`: it reads the model's own generation config, which `evaluation_mode` removes.

    Returns:
        The arguments, keyed by name; an empty dictionary for a model that is not an encoder-decoder.
    """
    if not model.config.is_encoder_decoder:
        return {}
    own = getattr(model, "generation_config", None)
    found = {name: getattr(own, name, None) or getattr(model.config, name, None) for name in FIRST_AND_FORBIDDEN_TOKENS}
    start = getattr(own, "decoder_start_token_id", None)
    found["decoder_start_token_id"] = model.config.decoder_start_token_id if start is None else start
    return {name: value for name, value in found.items() if value is not None}


def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    settings: Settings,
    seeds: Sequence[int] = (),
    streamer: Any = None,
    report: Stage | None = None,
) -> list[list[int]]:
    """Generate the answers to one batch of prompts, as token ids up to (not including) the first stop token.

    Args:
        model: the model. Call this function only in a `with evaluation_mode(model)` block.
        prompts: the token ids of each prompt.
        settings: limits, stop tokens, beams and sampling of the decoding.
        seeds: random seed for each prompt; used only for sampling.
        streamer: streamer of transformers for the tokens of a single prompt, without beam search.
        report: the stage of the progress report that shows how many prompts are answered.
    """
    if settings.samples_beams and len(prompts) > 1:  # transformers draws all rows of a batch from one random state
        pairs = zip(prompts, seeds, strict=True)
        return [decode(model, [prompt], settings, [seed], report=report)[0] for prompt, seed in pairs]
    is_encoder_decoder = model.config.is_encoder_decoder
    can_share = obstacle(model, max(map(len, prompts)) + settings.max_new_tokens) is None
    shared = shared_length(prompts) if can_share else 0
    input_ids, mask = _pad(prompts, settings.pad_token_id, shared, on_left=not is_encoder_decoder)
    device = next(model.parameters()).device
    input_ids, mask = input_ids.to(device), mask.to(device)
    rows = Rows(
        input_ids,
        mask,
        _row_processors(settings, mask[:, :1] if is_encoder_decoder else mask, seeds),
        prompt_cache(model, input_ids, mask, shared, settings.num_beams) if can_share else {},
    )
    first = 1 if is_encoder_decoder else input_ids.shape[1]  # after the decoder's start token, or after the prompt
    token_report = [] if report is None else [TokenReport(report, len(prompts), settings.max_new_tokens)]
    answers: list[list[int]] = [[] for _ in prompts]
    with torch.random.fork_rng(enabled=settings.samples_beams):
        if settings.samples_beams:
            torch.manual_seed(seeds[0])
        while rows.indices:
            num_before = rows.input_ids.shape[1] - input_ids.shape[1]
            output = _generate(model, rows, settings, settings.max_new_tokens - num_before, token_report, streamer)
            for index, ids in zip(rows.indices, output[:, first:].tolist(), strict=True):
                answers[index] = before_stop(ids, settings.stop_token_ids)
            num_tokens = output.shape[1] - first
            is_last = num_tokens == settings.max_new_tokens
            rows.keep([] if is_last else [index for index in rows.indices if len(answers[index]) == num_tokens], output)
    if report is not None:
        report.update(report.done + len(prompts), note="")
    return answers


def _generate(
    model: Any, rows: Rows, settings: Settings, max_new_tokens: int, token_report: Sequence[TokenReport], streamer: Any
) -> torch.Tensor:
    """Call `generate` once, and return each row's tokens with the new ones at the end, int64 `[rows, seq]`.

    The tokens before the new ones are the prompt and the tokens of earlier calls; for an encoder-decoder, the decoder's
    start token. The call ends when all answers have ended or have `max_new_tokens` more tokens. It may also end once a
    quarter of them has ended, since it is then faster to call `generate` again for only the unfinished rows.
    """
    criteria = StoppingCriteriaList(token_report)
    if rows.cache and settings.num_beams == 1:
        criteria.append(EnoughEnded(settings.stop_token_ids, len(rows.indices)))
    output: torch.Tensor = model.generate(
        input_ids=rows.input_ids,
        attention_mask=rows.mask,
        generation_config=_generation_config(settings, max_new_tokens),
        logits_processor=LogitsProcessorList(rows.processors),
        streamer=streamer,
        stopping_criteria=criteria,
        **rows.cache,
    )
    return output


def _pad(
    prompts: Sequence[Sequence[int]], pad_token_id: int, shared: int, *, on_left: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad prompts to the same length; return token ids and the attention mask, each int64 `[batch, seq]`.

    Args:
        prompts: the token ids of each prompt.
        pad_token_id: token that pads shorter prompts.
        shared: number of tokens at the start that are the same in all prompts.
        on_left: whether the padding lies between the `shared` tokens and the rest of the prompt; otherwise, it lies
            after the prompt.
    """
    width = max(map(len, prompts))
    input_ids = torch.full((len(prompts), width), pad_token_id)
    mask = torch.zeros_like(input_ids)
    for row, prompt in enumerate(prompts):
        start = width - len(prompt) if on_left else 0
        input_ids[row, :shared], mask[row, :shared] = torch.tensor(prompt[:shared]), 1
        end = start + len(prompt)
        input_ids[row, start + shared : end], mask[row, start + shared : end] = torch.tensor(prompt[shared:]), 1
    return input_ids, mask


def _generation_config(settings: Settings, max_new_tokens: int) -> GenerationConfig:
    sampling = settings.sampling.arguments if settings.sampling is not None and settings.samples_beams else {}
    beams = {"length_penalty": settings.length_penalty} if settings.num_beams > 1 else {}
    return GenerationConfig(
        **settings.decoder_start,
        max_new_tokens=max_new_tokens,
        do_sample=settings.samples_beams,
        num_beams=settings.num_beams,
        eos_token_id=list(settings.stop_token_ids) or None,
        pad_token_id=settings.pad_token_id,
        use_cache=True,
        **sampling,
        **beams,
    )


def _row_processors(settings: Settings, mask: torch.Tensor, seeds: Sequence[int]) -> list[RowProcessor]:
    """Return the logits processors for the repetition penalty and for sampling, if the settings use them.

    Args:
        settings: the decoding settings.
        mask: attention mask of the tokens before the answers, int64 `[batch, seq]`. These are the prompts; for an
            encoder-decoder, they are only the first token of the decoder.
        seeds: random seed for each prompt; used only for sampling.
    """
    processors: list[RowProcessor] = []
    if settings.repetition_penalty != 1:
        beams_mask = mask.repeat_interleave(settings.num_beams, dim=0)
        processors.append(RepetitionPenalty(settings.repetition_penalty, beams_mask))
    if settings.sampling is not None and not settings.samples_beams:
        processors.append(DrawnToken(settings.sampling, seeds))
    return processors


def before_stop(row: Sequence[int], stop_token_ids: Sequence[int]) -> list[int]:
    """Return the tokens of an answer that precede its first stop token."""
    stops = set(stop_token_ids)
    end = next((index for index, token in enumerate(row) if token in stops), len(row))
    return list(row[:end])

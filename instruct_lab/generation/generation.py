"""Batched decoding with left padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.errors import InstructLabError, Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@component
class Generation(Component):
    """How answers are decoded: greedily, by beam search or by sampling.

    The checkpoint's own generation defaults never take part: what stands here is all there is.
    """

    max_new_tokens: Annotated[int, Field(ge=1)] = 64  # longest answer
    do_sample: bool = False  # draw from the distribution instead of taking its maximum
    temperature: Annotated[float, Field(gt=0)] | None = None  # of sampling; null: 1
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None  # sampling: smallest set with this probability; null: all
    top_k: Annotated[int, Field(ge=1)] | None = None  # sampling: the k most likely; null: all
    num_beams: Annotated[int, Field(ge=1)] = 1  # beams of beam search
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0  # above 1 makes repeated tokens less likely
    batch_size: Annotated[int, Field(ge=1)] = 32  # prompts decoded together

    def __post_init__(self) -> None:
        if not self.do_sample:
            for field in ("temperature", "top_p", "top_k"):
                if getattr(self, field) is not None:
                    raise Refusal(field, "it shapes sampling, and do_sample is false", "null")

    def generate(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Sequence[int]],
        stop_token_ids: Sequence[int],
    ) -> list[str]:
        """Answers as text, in the order of the prompts, without special tokens."""
        answers = self.generate_ids(model, prompts, stop_token_ids, tokenizer.pad_token_id)
        return [tokenizer.decode(ids, skip_special_tokens=True) for ids in answers]

    def generate_ids(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        stop_token_ids: Sequence[int],
        pad_token_id: int | None,
    ) -> list[list[int]]:
        """Answers as token ids, the stop token left out.

        Args:
            model: a causal language model; its mode is restored.
            prompts: token ids, of any lengths.
            stop_token_ids: an answer ends before the first of these.
            pad_token_id: stands left of shorter prompts, masked by length; it may equal a stop token.

        Raises:
            InstructLabError: a prompt leaves no room in the model's context.
        """
        import torch
        from transformers import GenerationConfig

        self._check_lengths(model, prompts)
        answers: list[list[int]] = [[] for _ in prompts]
        by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        was_training, own_defaults = model.training, model.generation_config
        model.eval()
        model.generation_config = GenerationConfig()  # the checkpoint's own defaults would fill what is not set
        try:
            with torch.inference_mode():
                for start in range(0, len(by_length), self.batch_size):
                    indices = by_length[start : start + self.batch_size]
                    batch = [prompts[index] for index in indices]
                    for index, ids in zip(
                        indices, self._decode(model, batch, stop_token_ids, pad_token_id), strict=True
                    ):
                        answers[index] = ids
        finally:
            model.train(was_training)
            model.generation_config = own_defaults
        return answers

    def _check_lengths(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> None:
        context = getattr(model.config, "max_position_embeddings", None)
        longest = max(map(len, prompts), default=0)
        if context is not None and longest + self.max_new_tokens > context:
            raise InstructLabError(
                f"A prompt of {longest} tokens and {self.max_new_tokens} new ones do not fit the model's {context}",
                where="generation.max_new_tokens",
                do="lower it, or cut prompts with batching.max_tokens",
            )

    def _decode(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        stop_token_ids: Sequence[int],
        pad_token_id: int | None,
    ) -> list[list[int]]:
        import torch

        width = max(map(len, prompts))
        pad = pad_token_id if pad_token_id is not None else 0
        input_ids = torch.full((len(prompts), width), pad)  # [batch, seq]
        mask = torch.zeros_like(input_ids)
        for row, prompt in enumerate(prompts):
            input_ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        device = next(model.parameters()).device
        output: Any = model.generate(
            input_ids=input_ids.to(device),
            attention_mask=mask.to(device),
            generation_config=self._settings(stop_token_ids, pad),
        )
        stops = set(stop_token_ids)
        answers = []
        for row in output[:, width:].tolist():
            end = next((place for place, token in enumerate(row) if token in stops), len(row))
            answers.append(row[:end])
        return answers

    def _settings(self, stop_token_ids: Sequence[int], pad: int) -> Any:
        from transformers import GenerationConfig

        sampling = {}
        if self.do_sample:
            sampling = {
                "temperature": self.temperature if self.temperature is not None else 1.0,
                "top_p": self.top_p if self.top_p is not None else 1.0,
                "top_k": self.top_k if self.top_k is not None else 0,
            }
        return GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            do_sample=self.do_sample,
            num_beams=self.num_beams,
            repetition_penalty=self.repetition_penalty,
            eos_token_id=list(stop_token_ids),
            pad_token_id=pad,
            use_cache=True,
            **sampling,
        )

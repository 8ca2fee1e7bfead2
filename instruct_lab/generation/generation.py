"""The component `Generation`: how answers to prompts are decoded."""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from instruct_lab.batch_limits import compute_in_parts
from instruct_lab.batching.token_budget import MAX_PADDING, batches_by_length
from instruct_lab.config import Component, component
from instruct_lab.errors import InstructLabError, Problem, Refusal
from instruct_lab.generation.base import Answer
from instruct_lab.generation.by_engine import decode_by_engine
from instruct_lab.generation.engines import NATIVE, Engine, unsupported_setting
from instruct_lab.generation.prompt_lengths import check_lengths
from instruct_lab.model.hardware import no_gpu
from instruct_lab.optional_packages import missing_packages
from instruct_lab.progress import stage

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.generation.streamers import BaseStreamer

    from instruct_lab.generation.journal import AnswerJournal

SAMPLING_FIELDS = ("temperature", "top_p", "top_k")
DECODED_PADDING = {"cpu": MAX_PADDING}
"""How many positions, padding included, a batch may have for each token of its prompts; keyed by type of device.

There is no limit on other devices: on a GPU, a new token costs nearly the same for any number of rows, so it is better
to have few batches than little padding.
"""
MAX_ROWS = 64
"""Maximum number of rows that are decoded together (an answer has a row for each beam) if `batch_tokens` is `None`.

More rows hardly make a token cheaper, and a batch is decoded until its longest answer ends.
"""


@component
class Generation(Component):
    """How answers are decoded: greedily, by beam search or by sampling.

    The generation config that comes with the model's weights is not used. In float32, an answer does not depend on the
    other prompts in its batch, even if it is sampled, because each prompt has its own seed.

    `engine` chooses the program that decodes. `native` runs every model. `transformers_cb` is the continuous batching
    of transformers, for greedy decoding: as soon as an answer ends, decoding of the next prompt starts. It is meant for
    a GPU and answers of unequal length; on a CPU it takes about as long as `native`. `vllm` needs a GPU and the package
    vllm; at each evaluation, it reads the LoRA adapter or, if other weights are trained, the whole model. The signature
    of a metric (the text that says how its value is computed) names an engine other than `native`. A chat always uses
    `native`.
    """

    max_new_tokens: Annotated[int, Field(ge=1)] | None = (
        None  # maximum number of tokens in an answer; null: enough for 99% of the training answers, rounded up
    )
    do_sample: bool = False  # sample tokens instead of choosing the most likely one
    temperature: Annotated[float, Field(gt=0)] | None = None  # sampling: below 1 favours likely tokens; null: 1
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None  # sampling: likeliest tokens up to this sum; null: all
    top_k: Annotated[int, Field(ge=1)] | None = None  # sampling: only the k most likely tokens; null: all
    num_beams: Annotated[int, Field(ge=1)] = 1  # number of beams; 1: no beam search
    length_penalty: float | None = None  # beam search: above 0 favours longer answers; null: 1
    repetition_penalty: Annotated[float, Field(gt=0)] = (
        1.0  # above 1: tokens that occur in the prompt or the answer become less likely
    )
    num_samples: Annotated[int, Field(ge=1)] = 1  # answers to each prompt; more than 1 needs do_sample
    engine: Engine = NATIVE  # program that decodes: native, transformers_cb (continuous batching) or vllm (on a GPU)

    def __post_init__(self) -> None:
        """Raise an error for settings that would have no effect, or that the engine does not support."""
        if not self.do_sample:
            for field in SAMPLING_FIELDS:
                if getattr(self, field) is not None:
                    raise Refusal(field, "only affects sampling, and do_sample is false", "null")
            if self.num_samples > 1:
                raise Refusal("num_samples", "all answers would be the same, since do_sample is false", "1")
        if self.num_beams == 1 and self.length_penalty is not None:
            raise Refusal("length_penalty", "only affects beam search, and num_beams is 1", "null")
        setting = unsupported_setting(self.engine, self.do_sample, self.num_beams, self.repetition_penalty)
        if setting is not None:
            others = "native and vllm do" if self.num_beams == 1 else "native does"
            reason = f"{self.engine} does not follow {setting}={getattr(self, setting)}; {others}"
            raise Refusal("engine", reason, NATIVE)

    def problems(self) -> Iterator[Problem]:
        """Report that the engine vllm cannot run if its package is not installed or this machine has no GPU."""
        if self.engine == "vllm":
            yield from missing_packages("vllm", key="engine", value=self.engine)
            if reason := no_gpu():
                reason = f"vllm decodes on a GPU, and {reason}"
                yield Problem(key="engine", value="vllm", reason=reason, suggestion=NATIVE, kind="unavailable_here")

    @property
    def limit(self) -> int:
        """The maximum number of tokens in an answer.

        Raises:
            InstructLabError: `max_new_tokens` is null, and no run has determined it from the training answers.
        """
        if self.max_new_tokens is None:
            raise InstructLabError(
                "The maximum length of an answer is not known: it follows from the training answers of a run",
                where="generation.max_new_tokens",
                do="set it, or give --max-new-tokens",
            )
        return self.max_new_tokens

    def generate(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Sequence[int]],
        stop_token_ids: Sequence[int],
        seeds: Sequence[int] | None = None,
        journal: AnswerJournal | None = None,
        batch_tokens: int | None = None,
    ) -> list[Answer]:
        """Generate answers as text without special tokens, in the order of the prompts. An answer may be empty.

        Args:
            model: a causal language model or an encoder-decoder, with or without adapters.
            tokenizer: tokenizer that decodes the answers; its pad token pads shorter prompts.
            prompts: the token ids of each prompt; lengths may differ.
            stop_token_ids: tokens that end an answer and are not part of it.
            seeds: random seed for each prompt, for sampling; `None` draws seeds from torch's random state.
            journal: file that keeps the answers of each batch; batches that it holds already are not decoded.
            batch_tokens: maximum number of tokens of a batch: prompts with padding, and answers of the maximum length.
                `None`: it is estimated from the total memory of the device.

        Raises:
            InstructLabError: a prompt is empty, or is too long for the model's context.
        """
        pad = _pad_token_id(tokenizer)
        answers = self.generate_ids(
            model, prompts, stop_token_ids, pad, seeds, journal=journal, batch_tokens=batch_tokens
        )
        return [self._answer(tokenizer, ids) for ids in answers]

    def stream(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompt: Sequence[int],
        stop_token_ids: Sequence[int],
        seed: int,
        on_text: Callable[[str], None],
    ) -> Answer:
        """Generate the answer to one prompt, and pass each new part of its text to `on_text` while it is generated.

        `generate` would give the same answer. With beam search, no token is final before the end of the answer,
        so `on_text` gets the whole text at once.

        Args:
            model: a causal language model or an encoder-decoder, with or without adapters.
            tokenizer: tokenizer that decodes the answer.
            prompt: the token ids of the prompt.
            stop_token_ids: tokens that end an answer and are not part of it.
            seed: random seed for sampling.
            on_text: function that is called with each new part of the answer's text; an exception that it raises ends
                the generation.

        Raises:
            InstructLabError: the prompt is empty, or is too long for the model's context.
        """
        from instruct_lab.generation.streaming import TextStream

        stream = TextStream(tokenizer, stop_token_ids, on_text)
        streamer = stream if self.num_beams == 1 else None
        (ids,) = self.generate_ids(model, [prompt], stop_token_ids, _pad_token_id(tokenizer), [seed], streamer)
        answer = self._answer(tokenizer, ids)
        stream.finish(answer.text)
        return answer

    def _answer(self, tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> Answer:
        """Convert the token ids of an answer, without the stop token, to text.

        An answer of `max_new_tokens` tokens counts as cut. One that ended with a stop token has fewer, because the stop
        token counts towards the maximum.
        """
        text = str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))
        return Answer(text, is_cut=len(ids) >= self.limit)

    def generate_ids(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        stop_token_ids: Sequence[int],
        pad_token_id: int | None = None,
        seeds: Sequence[int] | None = None,
        streamer: BaseStreamer | None = None,
        journal: AnswerJournal | None = None,
        batch_tokens: int | None = None,
    ) -> list[list[int]]:
        """Generate answers as token ids without the stop token, in the order of the prompts.

        Each module's mode (training or evaluation) and the model's own generation config are restored afterwards.

        Args:
            model: a causal language model or an encoder-decoder, with or without adapters.
            prompts: the token ids of each prompt; lengths may differ.
            stop_token_ids: tokens that end an answer and are not part of it.
            pad_token_id: token that pads shorter prompts on the left, or on the right for an encoder-decoder. It may be
                a stop token, because padding is recognised by its position. `None` means 0.
            seeds: random seed for each prompt, for sampling; `None` draws seeds from torch's random state.
            streamer: streamer of transformers for the tokens of a single prompt, without beam search.
            journal: file that keeps the answers of each batch; batches that it holds already are not decoded.
            batch_tokens: maximum number of tokens of a batch: prompts with padding and answers of the maximum length,
                once for each beam. A single prompt that exceeds it is decoded in a batch of its own. `None`: it is
                estimated from the total memory of the device, and a batch has at most 64 rows (prompts times beams).

        Raises:
            InstructLabError: a prompt is empty, or is too long for the model's context.
        """
        import torch

        from instruct_lab.generation.decoding import (
            Settings,
            decode,
            decoder_start,
            evaluation_mode,
            has_prefix_before_padding,
        )
        from instruct_lab.generation.next_token import Sampling

        check_lengths(model, prompts, self.limit)
        sampling = Sampling(self.temperature, self.top_p, self.top_k)
        settings = Settings(
            max_new_tokens=self.limit,
            sampling=sampling if self.do_sample else None,
            num_beams=self.num_beams,
            length_penalty=1.0 if self.length_penalty is None else self.length_penalty,
            repetition_penalty=self.repetition_penalty,
            stop_token_ids=tuple(stop_token_ids),
            pad_token_id=0 if pad_token_id is None else pad_token_id,
            decoder_start=decoder_start(model),
        )
        if seeds is None and self.do_sample:
            seeds = torch.randint(2**63 - 1, (len(prompts),)).tolist()
        answers: list[list[int]] = [[] for _ in prompts]
        reporting = stage("answers", len(prompts)) if streamer is None else contextlib.nullcontext()

        def decode_part(indices: Sequence[int]) -> list[list[int]]:
            batch = [prompts[index] for index in indices]
            of_batch = [seeds[index] for index in indices] if seeds is not None else []
            return decode(model, batch, settings, of_batch, streamer, report)

        def size(indices: Sequence[int]) -> int:
            return len(indices) * (max(len(prompts[index]) for index in indices) + self.limit)

        if self.engine != NATIVE and streamer is None:
            with evaluation_mode(model), reporting as report:
                return decode_by_engine(
                    self.engine,
                    model,
                    prompts,
                    settings,
                    seeds or (),
                    batch_tokens=batch_tokens,
                    journal=journal,
                    report=report,
                )
        with evaluation_mode(model), reporting as report:
            for indices in self._batches(model, prompts, batch_tokens, has_prefix_before_padding(model)):
                decoded = None if journal is None else journal.read(indices)
                if decoded is None:
                    decoded = [*itertools.chain(*compute_in_parts("answers", indices, decode_part, size))]
                    if journal is not None:
                        journal.write(indices, decoded)
                elif report is not None:
                    report.update(report.done + len(indices))
                for index, ids in zip(indices, decoded, strict=True):
                    answers[index] = ids
        return answers

    def _batches(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], batch_tokens: int | None, of_one_length: bool
    ) -> list[list[int]]:
        """Divide prompts into batches, and return the indices of the prompts in each batch.

        With `of_one_length`, all prompts of a batch are equally long.
        """
        import numpy as np

        from instruct_lab.model.token_budget import decoded_tokens

        max_rows = None
        if batch_tokens is None:
            batch_tokens, max_rows = decoded_tokens(model), max(1, MAX_ROWS // self.num_beams)
        batches = batches_by_length(
            np.array([len(prompt) for prompt in prompts], dtype=np.int64),
            sys.maxsize if batch_tokens is None else batch_tokens // self.num_beams,
            added=self.limit,
            max_rows=max_rows,
            max_padding=1.0 if of_one_length else DECODED_PADDING.get(next(model.parameters()).device.type, math.inf),
        )
        return [batch.tolist() for batch in batches]


def _pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    pad = tokenizer.pad_token_id
    return pad if isinstance(pad, int) else None

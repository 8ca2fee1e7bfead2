"""Denoising: an encoder-decoder restores a damaged text."""

from __future__ import annotations

import itertools
import math
import random
from abc import ABC
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.batching import Batch, Example, Reads
from instruct_lab.config import component
from instruct_lab.errors import InstructLabError
from instruct_lab.objective.base import ANY_SUPERVISION, Loss, Objective
from instruct_lab.objective.masked import mask_token_id
from instruct_lab.objective.vocabulary import vocabulary_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Denoising(Objective, ABC):
    """The cross-entropy of the removed text, given the damaged one; the damage is drawn again in every epoch."""

    families: ClassVar = frozenset({"encoder-decoder"})
    reads: ClassVar[Reads] = "text"
    needs: ClassVar = ANY_SUPERVISION

    def loss(self, model: PreTrainedModel, batch: Batch, teacher: Any = None) -> Loss:
        """Sums and counts for each row, each `[rows]`."""
        from instruct_lab.objective.target_logits import summed_cross_entropy

        return summed_cross_entropy(model, batch)


@component
class SpanCorruption(Denoising):
    r"""Span corruption: -sum_t log p(y_t | y_<t, x~), the text x~ with spans replaced by sentinels, y the spans.

    Each span becomes one sentinel `<extra_id_i>`; y is each sentinel with its span, a last sentinel and the end token.
    Source: Raffel et al., 2020 (T5), section 3.1.4: `noise_density` of the tokens in spans of `mean_span_length`.
    Spans never touch, which limits their number. For encoder-decoders with sentinels: the other families have no second
    text to write the spans into.
    """

    noise_density: Annotated[float, Field(gt=0, lt=1)] = 0.15  # share of the tokens in spans
    mean_span_length: Annotated[float, Field(ge=1)] = 3.0  # tokens of a span, on average

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse a tokenizer without sentinels."""
        sentinel_ids(tokenizer)

    def corrupt(self, example: Example, tokenizer: PreTrainedTokenizerBase, source: random.Random) -> Example:
        """Replace spans of the text by sentinels."""
        sentinels = sentinel_ids(tokenizer)
        body, ending = _without_end(example.input_ids, tokenizer)
        if len(body) < 2:
            return example
        num_noise = min(max(1, round(self.noise_density * len(body))), len(body) - 1)
        num_spans = min(max(1, round(num_noise / self.mean_span_length)), num_noise, len(body) - num_noise)
        num_spans = min(num_spans, len(sentinels) - 1)
        noise = _split(num_noise, num_spans, source)
        kept = _split(len(body) - num_noise, num_spans, source)
        read: list[int] = []
        target: list[int] = []
        at = 0
        for number, (before, span) in enumerate(zip(kept, noise, strict=True)):
            read += [*body[at : at + before], sentinels[number]]
            target += [sentinels[number], *body[at + before : at + before + span]]
            at += before + span
        return Example([*read, *ending], [*target, sentinels[num_spans], *ending], example.id, example.source)


@component
class TextInfilling(Denoising):
    r"""Text infilling: -sum_t log p(x_t | x_<t, x~), the text x~ with spans replaced by one mask token each.

    Span lengths are drawn from Poisson(`mean_span_length`), 0 inserts a mask, until `mask_ratio` of the tokens are
    masked; x is the whole text. Source: Lewis et al., 2020 (BART), with its sentence permutation (a sentence ends
    with a token that ends in . ! or ?) by option. For encoder-decoders with a mask token: a decoder has no second text.
    """

    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.3  # share of the tokens that are masked
    mean_span_length: Annotated[float, Field(gt=0)] = 3.0  # lambda of the Poisson distribution
    permute_sentences: bool = False  # shuffle the sentences of the input

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse a tokenizer without a mask token."""
        mask_token_id(tokenizer)

    def corrupt(self, example: Example, tokenizer: PreTrainedTokenizerBase, source: random.Random) -> Example:
        """Mask spans of the text."""
        mask = mask_token_id(tokenizer)
        body, ending = _without_end(example.input_ids, tokenizer)
        if not body:
            return example
        start = [body.pop(0)] if body[0] in (tokenizer.bos_token_id, tokenizer.cls_token_id) else []
        target = [*start, *body, *ending]
        if self.permute_sentences:
            sentences = _sentences(body, tokenizer)
            body = [token for sentence in source.sample(sentences, len(sentences)) for token in sentence]
        read: list[int | None] = list(body)
        left = max(1, round(self.mask_ratio * len(body)))
        while left > 0:
            length = min(_poisson(self.mean_span_length, source), left)
            positions = [p for p in range(len(read) - length + 1) if None not in read[p : p + length]]
            if not positions:
                break
            position = positions[int(source.random() * len(positions))]
            read[position : position + length] = [None]
            left -= max(1, length)
        masked = [mask if token is None else token for token in read]
        return Example([*start, *masked, *ending], target, example.id, example.source)


def sentinel_ids(tokenizer: Any) -> list[int]:
    """Ids of `<extra_id_0>`, `<extra_id_1>`, ... in this order.

    Raises:
        InstructLabError: the tokenizer has none.
    """
    found = vocabulary_of(tokenizer).sentinels
    if len(found) < 2:
        raise InstructLabError(
            "The tokenizer has no sentinels <extra_id_0>, <extra_id_1>, ...",
            where="model.tokenizer",
            do="choose a T5 model, or objective=text_infilling for one with a mask token",
        )
    return found


def _without_end(input_ids: list[int], tokenizer: Any) -> tuple[list[int], list[int]]:
    has_end = bool(input_ids) and input_ids[-1] == tokenizer.eos_token_id
    return (input_ids[:-1], input_ids[-1:]) if has_end else (list(input_ids), [])


def _split(total: int, count: int, source: random.Random) -> list[int]:
    """Split a number into so many parts of at least 1, all splits equally likely."""
    cuts = [0, *sorted(source.sample(range(1, total), count - 1)), total]
    return [end - start for start, end in itertools.pairwise(cuts)]


def _poisson(mean: float, source: random.Random) -> int:
    """A number from a Poisson distribution, by Knuth's method."""
    limit, number, product = math.exp(-mean), 0, source.random()
    while product > limit:
        number += 1
        product *= source.random()
    return number


def _sentences(body: list[int], tokenizer: Any) -> list[list[int]]:
    sentences: list[list[int]] = [[]]
    for token, text in zip(body, tokenizer.convert_ids_to_tokens(body), strict=True):
        sentences[-1].append(token)
        if text.endswith((".", "!", "?")):
            sentences.append([])
    return [sentence for sentence in sentences if sentence]

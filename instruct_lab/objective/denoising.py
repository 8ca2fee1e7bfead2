"""Denoising: an encoder-decoder reconstructs a corrupted text."""

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
    """Base class of denoising objectives: the cross-entropy of a target text, given a corrupted text.

    In training, a text is corrupted differently in each epoch; in evaluation, it is corrupted in the same way in every
    run.
    """

    families: ClassVar = frozenset({"encoder-decoder"})
    reads: ClassVar[Reads] = "text"
    needs: ClassVar = ANY_SUPERVISION

    def loss(self, model: PreTrainedModel, batch: Batch, teacher: Any = None) -> Loss:
        """Compute the summed cross-entropy and the number of target tokens of each example."""
        from instruct_lab.objective.target_logits import summed_cross_entropy

        return summed_cross_entropy(model, batch)


@component
class SpanCorruption(Denoising):
    r"""Span corruption: -sum_t log p(y_t | y_<t, x~), where x~ is the text with spans replaced by sentinel tokens.

    Each span is replaced by one sentinel `<extra_id_i>`. The target y lists each sentinel with its span, then a last
    sentinel and the end token. At least one token separates adjacent spans, which limits the number of spans. This
    objective is only for encoder-decoders whose tokenizer has sentinels; models of other families read a single text
    and cannot be given a separate target. Source: Raffel et al., 2020 (T5), section 3.1.4.
    """

    noise_density: Annotated[float, Field(gt=0, lt=1)] = 0.15  # share of the tokens in spans
    mean_span_length: Annotated[float, Field(ge=1)] = 3.0  # mean number of tokens in a span

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Check that the tokenizer has sentinel tokens."""
        sentinel_ids(tokenizer)

    def corrupt(self, example: Example, tokenizer: PreTrainedTokenizerBase, source: random.Random) -> Example:
        """Replace random spans of the text with sentinels; the target lists the sentinels and their spans."""
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
    r"""Text infilling: -sum_t log p(x_t | x_<t, x~), where x~ is the text x with one mask token for each span.

    Spans are masked until they hold the share `mask_ratio` of the tokens. Their lengths are drawn from
    Poisson(`mean_span_length`); length 0 inserts a mask token and counts as one token. With `permute_sentences`,
    sentences are shuffled first; a sentence ends with a token that ends in . ! or ?. This objective is only for
    encoder-decoders whose tokenizer has a mask token; models of other families read a single text and cannot be given a
    separate target. Source: Lewis et al., 2020 (BART).
    """

    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.3  # share of the tokens that are masked
    mean_span_length: Annotated[float, Field(gt=0)] = 3.0  # mean of the Poisson distribution of span lengths
    permute_sentences: bool = False  # shuffle the sentences of the input

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Check that the tokenizer has a mask token."""
        mask_token_id(tokenizer)

    def corrupt(self, example: Example, tokenizer: PreTrainedTokenizerBase, source: random.Random) -> Example:
        """Mask random spans of the text; the target is the whole original text."""
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
    """Return the ids of the sentinels `<extra_id_0>`, `<extra_id_1>`, ... in this order.

    Raises:
        InstructLabError: the tokenizer has fewer than two sentinels.
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
    """Return `count` random integers of at least 1 whose sum is `total`; all such lists are equally likely."""
    cuts = [0, *sorted(source.sample(range(1, total), count - 1)), total]
    return [end - start for start, end in itertools.pairwise(cuts)]


def _poisson(mean: float, source: random.Random) -> int:
    """Draw a number from a Poisson distribution by Knuth's method."""
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

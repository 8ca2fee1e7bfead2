"""Lengths of the training answers in tokens, from which the default limit on generated tokens is computed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from instruct_lab.batching.example import IGNORED, Layout

if TYPE_CHECKING:
    from numpy import ndarray

    from instruct_lab.batching.table import ExampleTable
    from instruct_lab.data import Conversation

USUAL_SHARE = 0.99
"""Share of the training answers that are not longer than `AnswerLengths.usual`."""
CHUNK = 1000
"""Number of answers that are encoded together."""


@dataclasses.dataclass(frozen=True)
class AnswerLengths:
    """Lengths of training answers and of held-out prompts, in tokens.

    Args:
        usual: the 99th percentile of the lengths of the training answers, including the end token; `None` if there are
            no answers.
        longest_prompt: length of the longest prompt in the held-out splits; `None` if there are no held-out splits, or
            if their examples do not show where prompts end.
    """

    usual: int | None = None
    longest_prompt: int | None = None


def measure_lengths(
    examples: Mapping[str, ExampleTable],
    conversations: Mapping[str, Iterable[Conversation]],
    tokenizer: Any,
    layout: Layout,
) -> AnswerLengths:
    """Measure the lengths of training answers and held-out prompts.

    Args:
        examples: the encoded examples of each split, keyed by the name of the split.
        conversations: the conversations of each split, keyed by the name of the split.
        tokenizer: tokenizer of the model, used only if the objective reads whole texts. In this case, the labels do not
            show where the answers begin.
        layout: the layout of the examples: the model family, and what the objective reads.
    """
    usual = usual_length(answer_lengths(examples["train"], conversations["train"], tokenizer, layout))
    prompts = [longest_prompt(table, layout) for split, table in examples.items() if split != "train"]
    return AnswerLengths(usual, max((length for length in prompts if length is not None), default=None))


def usual_length(lengths: ndarray) -> int | None:
    """Return the 99th percentile of the lengths, rounded up to one of the lengths; `None` if there are no lengths."""
    import numpy

    return int(numpy.quantile(lengths, USUAL_SHARE, method="higher")) if len(lengths) else None


def answer_lengths(
    examples: ExampleTable, conversations: Iterable[Conversation], tokenizer: Any, layout: Layout
) -> ndarray:
    """Return the number of tokens in every answer, including its end token, as integers `[answers]`.

    An answer is a sequence of consecutive target tokens. If the model is trained on whole texts, the labels do not show
    the answers, so the final message of each conversation is encoded and measured instead.

    Args:
        examples: the encoded examples of one split.
        conversations: the conversations of the same split.
        tokenizer: tokenizer of the model, used only if the model is trained on whole texts.
        layout: the layout of the examples: the model family, and what the objective reads.
    """
    import numpy

    lengths = final_answer_lengths(conversations, tokenizer) if layout.reads == "text" else target_lengths(examples)
    return numpy.fromiter(lengths, numpy.int64)


def target_lengths(examples: ExampleTable) -> Iterator[int]:
    """Yield the length of every sequence of consecutive target tokens."""
    for labels, offsets in examples.labels():
        begins, ends = _sequences(labels, offsets)
        yield from (ends - begins).tolist()


def final_answer_lengths(conversations: Iterable[Conversation], tokenizer: Any) -> Iterator[int]:
    """Yield the length in tokens, with the end token, of each conversation's final answer.

    Conversations without a prompt or without a final answer are skipped.
    """
    answers = (c.messages[-1].content for c in conversations if c.prompt and len(c.prompt) < len(c.messages))
    while chunk := list(itertools.islice(answers, CHUNK)):
        yield from (len(ids) + 1 for ids in tokenizer(chunk, add_special_tokens=False, verbose=False)["input_ids"])


def longest_prompt(examples: ExampleTable, layout: Layout) -> int | None:
    """Return the number of tokens in the longest prompt, which is everything before an example's final answer.

    The result is `None` if the objective reads whole texts: then the labels do not show where the answers begin.
    """
    if layout.reads == "text":
        return None
    if layout.family == "encoder-decoder":
        return int(examples.lengths.max(initial=0))
    import numpy

    longest = 0
    for labels, offsets in examples.labels():
        begins, _ = _sequences(labels, offsets)
        rows = offsets.searchsorted(begins, side="right") - 1
        is_final = numpy.diff(rows, append=-1) != 0
        longest = max(longest, int((begins - offsets[rows])[is_final].max(initial=0)))
    return longest


def _sequences(labels: ndarray, offsets: ndarray) -> tuple[ndarray, ndarray]:
    """Find the sequences of consecutive target tokens; no sequence spans two examples.

    Args:
        labels: the labels of several examples, end to end: `[tokens]`.
        offsets: the index at which each example begins, and the end of the last one: `[examples + 1]`.

    Returns:
        The index at which each sequence begins, and the index after its last token.
    """
    import numpy

    is_target = labels != IGNORED
    breaks = numpy.zeros(len(labels) + 1, bool)  # [tokens + 1]: whether an example begins or ends before this token
    breaks[offsets] = True
    before = numpy.concatenate([[False], is_target])
    after = numpy.concatenate([is_target, [False]])
    return numpy.flatnonzero(after & (~before | breaks)), numpy.flatnonzero(before & (~after | breaks))

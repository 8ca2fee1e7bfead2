"""Encoding of whole texts with the special tokens that a tokenizer puts around a text."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from instruct_lab.batching.encoding import SegmentEncoder
from instruct_lab.batching.example import IGNORED
from instruct_lab.batching.text_ids import TextIds, is_fast
from instruct_lab.errors import InstructLabError
from instruct_lab.template import Segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class WrappedTexts:
    """An encoder of whole texts with the special tokens that the tokenizer puts around them.

    Args:
        tokenizer: the tokenizer, which may be fast or slow.
        parses_special: whether a special token that is written out in a message's content is encoded as this token;
            otherwise, it is encoded as ordinary text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, parses_special: bool = False) -> None:
        self._tokenizer: Any = tokenizer
        self._parses_special = parses_special

    @functools.cached_property
    def encoder(self) -> SegmentEncoder:
        """The encoder of segments that uses this tokenizer.

        Raises:
            InstructLabError: the tokenizer is a slow one (written in Python).
        """
        return SegmentEncoder(self._tokenizer, self._parses_special)

    def wrap(self, input_ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
        """Add the tokenizer's special tokens before and after the ids, unless the ids have them already.

        The labels of these special tokens are set to -100, so that the loss ignores them.
        """
        before, after = self._special_ids
        has_start = input_ids[: len(before)] == before
        has_end = bool(after) and input_ids[-len(after) :] == after
        opening, ending = ([] if has_start else before), ([] if has_end else after)
        input_ids = [*opening, *input_ids, *ending]
        labels = [*[IGNORED] * len(opening), *labels, *[IGNORED] * len(ending)]
        labels[: len(before)] = [IGNORED] * len(before)
        if after:
            labels[-len(after) :] = [IGNORED] * len(after)
        return input_ids, labels

    def source_ids(self, rendered: Sequence[Sequence[Segment]]) -> list[list[int]]:
        """Encode rendered conversations, with the tokenizer's special tokens, as inputs of an encoder-decoder."""
        if not is_fast(self._tokenizer):
            return self._call(["".join(segment.text for segment in segments) for segments in rendered], "text")
        return [self.wrap(e.input_ids, e.input_ids)[0] for e in self.encoder.encode(rendered)]

    def target_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode the texts that a decoder has to predict, each with the end token."""
        if not is_fast(self._tokenizer):
            return self._call(texts, "text_target")
        encoded = self.encoder.encode([[Segment(text, True, "assistant")] for text in texts])
        return [self.wrap(e.input_ids, e.input_ids)[0] for e in encoded]

    def content_spans(self, content: str) -> list[tuple[int, int]]:
        """Return the start and end offset, in characters, of each token, or of each word if the tokenizer is slow."""
        if is_fast(self._tokenizer):
            return TextIds(self._tokenizer).offsets(content)
        return [match.span() for match in re.finditer(r"\S+\s*", content)]

    def _call(self, texts: Sequence[str], argument: str) -> list[list[int]]:
        if not texts:
            return []
        encoded = self._tokenizer(
            **{argument: list(texts)}, add_special_tokens=True, split_special_tokens=not self._parses_special
        )
        return [list(ids) for ids in encoded["input_ids"]]

    @functools.cached_property
    def _special_ids(self) -> tuple[list[int], list[int]]:
        """The ids of the special tokens that the tokenizer puts before a text and after it."""
        whole = list(self._tokenizer("a")["input_ids"])
        inside = list(self._tokenizer("a", add_special_tokens=False)["input_ids"])
        starts = (at for at in range(len(whole) + 1) if whole[at : at + len(inside)] == inside and inside)
        start = next(starts, None)
        if start is None:
            raise InstructLabError(
                "The tokenizer's own special tokens cannot be separated from the text between them",
                where="model.tokenizer",
                do="choose another tokenizer",
            )
        return whole[:start], whole[start + len(inside) :]

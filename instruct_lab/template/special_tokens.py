"""Special tokens of a tokenizer as text: they end turns, and must not be confused with ordinary content."""

from __future__ import annotations

import dataclasses
import functools
import re
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
    """The special tokens of one tokenizer.

    Args:
        ids: id of each special token, keyed by its text.
        swallowing: special tokens that absorb the white space beside them (`lstrip` or `rstrip`).
    """

    ids: dict[str, int]
    swallowing: frozenset[str]

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """A pattern that matches any special token; longer tokens take precedence."""
        return re.compile("|".join(map(re.escape, self._longest_first)) or r"(?!)")

    @functools.cached_property
    def _longest_first(self) -> list[str]:
        return sorted(self.ids, key=len, reverse=True)

    def opening(self, text: str) -> str | None:
        """Return the special token with which a text starts; `None` if it does not start with one."""
        return self._at_the_start(text[: self._most]) if self.ids else None

    def closing(self, text: str) -> str | None:
        """Return the special token with which a text ends; `None` if it does not end with one."""
        return self._at_the_end(text[-self._most :]) if self.ids else None

    @functools.cached_property
    def end_of_last(self) -> Callable[[str], int]:
        """A cached function that returns where the last special token in a text ends, or 0 if the text has none."""
        find = self.pattern.finditer
        return functools.lru_cache(1024)(lambda text: max((match.end() for match in find(text)), default=0))

    @functools.cached_property
    def _most(self) -> int:
        return max(map(len, self.ids))

    @functools.cached_property
    def _at_the_start(self) -> Callable[[str], str | None]:
        return functools.lru_cache(1024)(lambda text: next(filter(text.startswith, self._longest_first), None))

    @functools.cached_property
    def _at_the_end(self) -> Callable[[str], str | None]:
        return functools.lru_cache(1024)(lambda text: next(filter(text.endswith, self._longest_first), None))


_known: weakref.WeakKeyDictionary[PreTrainedTokenizerBase, tuple[object, SpecialTokens]] = weakref.WeakKeyDictionary()


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
    """Return the tokenizer's special tokens.

    They are cached until the size of the vocabulary or a named token, such as `eos_token`, changes.
    """
    state = (len(tokenizer), str(tokenizer.special_tokens_map))
    known = _known.get(tokenizer)
    if known is None or known[0] != state:
        known = (state, _read(tokenizer))
        _known[tokenizer] = known
    return known[1]


def _read(tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
    added = [(token, number) for number, token in tokenizer.added_tokens_decoder.items() if token.special]
    ids = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    ids |= {token.content: number for token, number in added}
    return SpecialTokens(
        ids={text: number for text, number in ids.items() if text},
        swallowing=frozenset(token.content for token, _ in added if token.lstrip or token.rstrip),
    )

"""Encoding word by word, for byte-level BPE tokenizers, which encode a word in the same way in every text.

Such a tokenizer first cuts a text into words with a regular expression and then encodes each word. Since texts repeat
their words, this module cuts texts with the same regular expression and calls the tokenizer only once for each word.
Added tokens also count as words, because a text is first cut at them.

To test whether a tokenizer uses a known expression, the tokenizer and the expression cut the same test texts into
words, and the words are compared. The test texts contain every character that this module handles, and every sequence
of four characters from a small alphabet with a letter, a digit, a space and so on. A text with any other character
(another script, a control character) is encoded as a whole by the tokenizer. So the ids are always the same as those
from the tokenizer.
"""

from __future__ import annotations

import itertools
import re
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

LETTERS = "A-Za-z\u00aa\u00b5\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"
NUMBERS = "0-9\u00b2\u00b3\u00b9\u00bc-\u00be"
CHARACTERS = "\t\n\r -~\u00a1-\u024f\u2010-\u2027\u2030-\u205e"
"""ASCII, Latin letters and typographic punctuation: characters whose category is the same in every Unicode version."""
PLAIN = re.compile(f"[{CHARACTERS}]*+")
CONTROL = bytes([*range(9), 11, 12, *range(14, 32), 127])
OTHER = rf"[^\s{LETTERS}{NUMBERS}]"
CUTS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"'(?:[sdmt]|ll|ve|re)| ?[{LETTERS}]+|[{NUMBERS}]| ?{OTHER}+|\s+(?![^\s{NUMBERS}])|\s+",  # SmolLM
        rf"'(?:[sdmt]|ll|ve|re)| ?[{LETTERS}]+| ?[{NUMBERS}]+| ?{OTHER}+|\s+(?!\S)|\s+",  # GPT-2
    )
)
"""Regular expressions with which byte-level tokenizers cut texts into words."""
KINDS = "asDt0'- _\n\t\r"
"""One character of each kind that an expression may distinguish, and further letters that occur in contractions."""
MAX_WORDS = 200_000
MAX_CHARACTERS = 40
"""Maximum number of characters of a word in the cache."""


Encode = Callable[[Sequence[str]], list[list[int]]]
_known: weakref.WeakKeyDictionary[Any, tuple[object, WordIds | None]] = weakref.WeakKeyDictionary()


def word_ids(tokenizer: Any) -> WordIds | None:
    """Create the `WordIds` of a tokenizer, and keep it for later calls as long as the tokenizer exists.

    The result is `None` if the tokenizer does not permit that texts are encoded word by word.
    """
    backend = tokenizer.backend_tokenizer
    state = (len(tokenizer), str(tokenizer.special_tokens_map), str(backend.pre_tokenizer), str(backend.normalizer))
    known = _known.get(tokenizer)
    if known is None or known[0] != state:
        cut = known_cut(backend)
        added = [token.content for token in tokenizer.added_tokens_decoder.values()]
        known = _known[tokenizer] = (state, None if cut is None else WordIds(cut, added))
    return known[1]


def known_cut(backend: Any) -> re.Pattern[str] | None:
    """Find the expression in `CUTS` that cuts texts into the same words as a tokenizer; `None` if there is none.

    The result is also `None` if the ids of a word depend on the text around it: if the tokenizer treats the start of a
    text differently (`pre_tokenize_str` then adds a space), normalizes the text first, or has an added token that
    absorbs adjacent characters.
    """
    is_bpe = type(backend.model).__name__ == "BPE" and backend.model.dropout is None
    takes_in_neighbours = (
        token.lstrip or token.rstrip or token.single_word for token in backend.get_added_tokens_decoder().values()
    )
    if not is_bpe or backend.normalizer is not None or backend.pre_tokenizer is None or any(takes_in_neighbours):
        return None
    if backend.pre_tokenizer.pre_tokenize_str("a") != [("a", (0, 1))]:
        return None
    texts = list(_questions())
    words = [[text[start:end] for _, (start, end) in backend.pre_tokenizer.pre_tokenize_str(text)] for text in texts]
    return next((cut for cut in CUTS if [cut.findall(text) for text in texts] == words), None)


def _questions() -> Iterable[str]:
    yield _every_sequence(KINDS, 4)
    yield from map("".join, itertools.product(KINDS, repeat=2))  # every possible start and end of a text
    for code in range(0x250):
        character = chr(code)
        if PLAIN.fullmatch(character):
            yield f"a{character}a {character} {character}1{character}'{character}\n{character}{character}s  {character}"
    typographic = [chr(code) for code in range(0x2010, 0x205F) if PLAIN.fullmatch(chr(code))]
    yield "".join(f"a{c}a {c} {c}1{c}'{c}\n{c}{c}s  {c}" for c in typographic)


def _every_sequence(alphabet: str, length: int) -> str:
    """Return a text that contains every sequence of `length` characters of the alphabet.

    It is a de Bruijn sequence, built from Lyndon words.
    """
    found: list[int] = []
    word = [-1]
    while word:
        word[-1] += 1
        if length % len(word) == 0:
            found += word
        size = len(word)
        while len(word) < length:
            word.append(word[-size])
        while word and word[-1] == len(alphabet) - 1:
            word.pop()
    return "".join(alphabet[number] for number in [*found, *found[: length - 1]])


class WordIds:
    """An encoder of texts that joins the ids of their words, and caches these ids.

    Args:
        cut: regular expression that matches words.
        added: tokens that were added to the vocabulary. A text is first cut at these tokens; the longest takes
            precedence.
    """

    def __init__(self, cut: re.Pattern[str], added: Iterable[str]) -> None:
        self._cut = cut
        longest_first = sorted(filter(None, added), key=len, reverse=True)
        self._added = re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")
        self._known: dict[str, list[int]] = {}

    def __call__(self, texts: Sequence[str], encode: Encode) -> list[list[int]]:
        """Encode each text separately.

        Args:
            texts: the texts.
            encode: function that calls the tokenizer, used for new words and for texts with characters outside
                `CHARACTERS`.
        """
        words_of = {index: self._words(text) for index, text in enumerate(texts) if _is_plain(text)}
        result = {index: self._join(words) for index, words in words_of.items()}
        unknown = [index for index, ids in result.items() if ids is None]
        self._learn(dict.fromkeys(word for index in unknown for word in words_of[index]), encode)
        result |= {index: self._join(words_of[index]) for index in unknown}
        left = [index for index in range(len(texts)) if result.get(index) is None]
        result |= zip(left, encode([texts[index] for index in left]), strict=True)
        return [result[index] or [] for index in range(len(texts))]

    def _words(self, text: str) -> list[str]:
        """Cut a text into words; an added token is a word, and the parts between added tokens are cut separately."""
        if not self._added.search(text):
            return self._cut.findall(text)
        words: list[str] = []
        for index, part in enumerate(self._added.split(text)):
            words += [part] if index % 2 else self._cut.findall(part)
        return words

    def _join(self, words: list[str]) -> list[int] | None:
        """Join the ids of a sequence of words; return `None` if a word is not in the cache."""
        try:
            return list(itertools.chain.from_iterable(map(self._known.__getitem__, words)))
        except KeyError:
            return None

    def _learn(self, words: Iterable[str], encode: Encode) -> None:
        """Encode new words, and store their ids until the cache is full; very long words are left out."""
        new = [word for word in words if word not in self._known and len(word) <= MAX_CHARACTERS]
        kept = new[: MAX_WORDS - len(self._known)]
        self._known |= zip(kept, encode(kept), strict=True)


def _is_plain(text: str) -> bool:
    """Whether a text has only characters in `CHARACTERS`."""
    if text.isascii():
        encoded = text.encode()
        return len(encoded.translate(None, CONTROL)) == len(encoded)
    return PLAIN.fullmatch(text) is not None

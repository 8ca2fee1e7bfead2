"""Token ids word by word, for tokenizers that encode a word alike wherever it stands: byte-level BPE.

Such a tokenizer first cuts a text into words by a regular expression, then looks for the ids of each word. Texts repeat
their words, so most of that work gives what is known. Here the same regular expression cuts the text, and each word is
encoded by the tokenizer once; so is a token that was added to the vocabulary, which no word reaches across.

Whether a tokenizer cuts by an expression that is known is found by asking it: about every sequence of four kinds of
characters, and about every character that is left to this. A text with any other character (another script, a control
character) goes to the tokenizer whole. So the ids are the tokenizer's own in every case.
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
"""ASCII, Latin, and typographic punctuation: characters whose kind is the same in every version of Unicode."""
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
"""How byte-level tokenizers cut texts into words."""
KINDS = "asDt0'- _\n\t\r"
"""One character of each kind that an expression may tell from others, and more of those in contractions."""
MOST_WORDS = 200_000
MOST_CHARACTERS = 40
"""Of a word that is kept."""


Encode = Callable[[Sequence[str]], list[list[int]]]
_known: weakref.WeakKeyDictionary[Any, tuple[object, WordIds | None]] = weakref.WeakKeyDictionary()


def word_ids(tokenizer: Any) -> WordIds | None:
    """A tokenizer's words, kept as long as it; none where it does not encode words apart, by a cut that is known."""
    backend = tokenizer.backend_tokenizer
    state = (len(tokenizer), str(tokenizer.special_tokens_map), str(backend.pre_tokenizer), str(backend.normalizer))
    known = _known.get(tokenizer)
    if known is None or known[0] != state:
        cut = known_cut(backend)
        added = [token.content for token in tokenizer.added_tokens_decoder.values()]
        known = _known[tokenizer] = (state, None if cut is None else WordIds(cut, added))
    return known[1]


def known_cut(backend: Any) -> re.Pattern[str] | None:
    """The expression by which a tokenizer cuts texts; none where it is not known, or words are not encoded apart."""
    is_apart = type(backend.model).__name__ == "BPE" and backend.model.dropout is None and backend.normalizer is None
    reaching = (
        token.lstrip or token.rstrip or token.single_word for token in backend.get_added_tokens_decoder().values()
    )
    if not is_apart or backend.pre_tokenizer is None or any(reaching):
        return None
    asked = list(_questions())
    told = [[text[start:end] for _, (start, end) in backend.pre_tokenizer.pre_tokenize_str(text)] for text in asked]
    return next((cut for cut in CUTS if [cut.findall(text) for text in asked] == told), None)


def _questions() -> Iterable[str]:
    yield _every_sequence(KINDS, 4)
    yield from map("".join, itertools.product(KINDS, repeat=2))  # what a text begins and ends with
    for code in range(0x250):
        character = chr(code)
        if PLAIN.fullmatch(character):
            yield f"a{character}a {character} {character}1{character}'{character}\n{character}{character}s  {character}"
    typographic = [chr(code) for code in range(0x2010, 0x205F) if PLAIN.fullmatch(chr(code))]
    yield "".join(f"a{c}a {c} {c}1{c}'{c}\n{c}{c}s  {c}" for c in typographic)


def _every_sequence(alphabet: str, length: int) -> str:
    """A text that holds every sequence of so many characters (de Bruijn, 1946; by joining Lyndon words)."""
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
    """The ids of texts, by those of their words.

    Args:
        cut: how texts are cut into words.
        added: tokens that were added to the vocabulary: they are taken out of a text first, the longest of those that
            begin at a place.
    """

    def __init__(self, cut: re.Pattern[str], added: Iterable[str]) -> None:
        self._cut = cut
        longest_first = sorted(filter(None, added), key=len, reverse=True)
        self._added = re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")
        self._known: dict[str, list[int]] = {}

    def __call__(self, texts: Sequence[str], encode: Encode) -> list[list[int]]:
        """The ids of each text.

        Args:
            texts: whole texts.
            encode: the tokenizer's own encoding of texts.
        """
        result: list[list[int] | None] = [None] * len(texts)
        cut: dict[int, list[str]] = {}
        unknown: dict[str, None] = {}
        for place, text in enumerate(texts):
            if _is_plain(text):
                words = self._words(text)
                result[place] = self._joined(words)
                if result[place] is None:
                    cut[place] = words
                    unknown |= dict.fromkeys(words)
        self._learn([word for word in unknown if word not in self._known], encode)
        for place, words in cut.items():
            result[place] = self._joined(words)
        left = [place for place, ids in enumerate(result) if ids is None]
        for place, ids in zip(left, encode([texts[place] for place in left]), strict=True):
            result[place] = ids
        return [ids if ids is not None else [] for ids in result]

    def _words(self, text: str) -> list[str]:
        """The words of a text; an added token is one, and what stands before and after it is cut by itself."""
        if not self._added.search(text):
            return self._cut.findall(text)
        words: list[str] = []
        for place, part in enumerate(self._added.split(text)):
            words += [part] if place % 2 else self._cut.findall(part)
        return words

    def _joined(self, words: list[str]) -> list[int] | None:
        """The ids of words in a row; none where one is not known."""
        try:
            return list(itertools.chain.from_iterable(map(self._known.__getitem__, words)))
        except KeyError:
            return None

    def _learn(self, words: list[str], encode: Encode) -> None:
        room = MOST_WORDS - len(self._known)
        kept = [word for word in words if len(word) <= MOST_CHARACTERS][:room]
        self._known |= zip(kept, encode(kept), strict=True)


def _is_plain(text: str) -> bool:
    """Whether a text holds nothing but the characters that are left to this."""
    if text.isascii():
        encoded = text.encode()
        return len(encoded.translate(None, CONTROL)) == len(encoded)
    return PLAIN.fullmatch(text) is not None

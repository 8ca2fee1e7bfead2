"""How texts are divided into words, for filters by length, quality and repetition."""

from __future__ import annotations

import re

from instruct_lab.data.words import HAN, KANA, MARKS, SOUTHEAST_ASIAN, UNSPACED

PUNCTUATION = "\u3000-\u3004\u3008-\u3030\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
"""Chinese and Japanese punctuation."""
WORD = re.compile(f"[{HAN}{KANA}]|[{SOUTHEAST_ASIAN}][{MARKS}]*|[^\\s{HAN}{KANA}{SOUTHEAST_ASIAN}{PUNCTUATION}]+")


def split_words(text: str) -> list[str]:
    """Split a text into words, at white space or, in scripts without spaces between words, by character.

    In these scripts, each Chinese or Japanese character is a word, and so is each Thai, Lao, Burmese or Khmer letter
    with its marks. Chinese and Japanese punctuation is not a word.
    """
    if text.isascii() or not UNSPACED.search(text):
        return text.split()
    return WORD.findall(text)

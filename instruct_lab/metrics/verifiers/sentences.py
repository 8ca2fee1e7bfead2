"""Splitting text into sentences, words and tokens by IFEval's rules, without a trained sentence splitter."""

from __future__ import annotations

import functools
import re
import string
from typing import Any

PUNCTUATION = string.punctuation
EDGES = string.punctuation + " "
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
DOT, END = "\ue000", "\ue001"  # a full stop within a sentence, and the end of a sentence
LETTER = "([A-Za-z])"
STARTERS = r"(Mr|Mrs|Ms|Dr|Prof|Capt|Cpt|Lt|Wherever|(?:He|She|It|They|Their|Our|We|But|However|That|This)\s)"
COMPANIES = "(Inc|Ltd|Jr|Sr|Co)"
RULES: tuple[tuple[str, Any], ...] = (  # applied in this order
    (r"(Mr|St|Mrs|Ms|Dr)\.", rf"\1{DOT}"),
    (r"\.(com|net|org|io|gov|edu|me)", rf"{DOT}\1"),
    (r"([0-9])\.([0-9])", rf"\1{DOT}\2"),
    (r"\.{2,}", lambda dots: DOT * len(dots[0]) + END),
    (r"Ph\.D\.", f"Ph{DOT}D{DOT}"),
    (rf"\s{LETTER}\. ", rf" \1{DOT} "),
    (rf"([A-Z]\.[A-Z]\.(?:[A-Z]\.)?) {STARTERS}", rf"\1{END} \2"),
    (rf"{LETTER}\.{LETTER}\.{LETTER}\.", rf"\1{DOT}\2{DOT}\3{DOT}"),
    (rf"{LETTER}\.{LETTER}\.", rf"\1{DOT}\2{DOT}"),
    (rf" {COMPANIES}\. {STARTERS}", rf" \1{END} \2"),
    (rf" {COMPANIES}\.", rf" \1{DOT}"),
    (rf" {LETTER}\.", rf" \1{DOT}"),
    (r"\.”", "”."),  # moves the full stop after the closing quotation mark
    (r"\.\"", '".'),
    (r"!\"", '"!'),
    (r"\?\"", '"?'),
    (r"([.?!])", rf"\1{END}"),
)


def sentences(text: str) -> list[str]:
    """Split a text into sentences, each with its final punctuation mark."""
    text = f" {text}  ".replace("\n", " ")
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text)
    found = [sentence.strip() for sentence in text.replace(DOT, ".").split(END)]
    return found if found[-1] else found[:-1]


def words(text: str) -> list[str]:
    """Remove all ASCII punctuation marks from a text, and split the rest at white space."""
    return text.translate(WITHOUT_PUNCTUATION).split()


def tokens(text: str) -> list[str]:
    """Split each sentence of a text into words and punctuation marks with nltk's Treebank tokenizer."""
    return [token for sentence in sentences(text) for token in _treebank().tokenize(sentence)]


@functools.cache
def _treebank() -> Any:
    from nltk.tokenize import NLTKWordTokenizer  # type: ignore[import-untyped]

    return NLTKWordTokenizer()

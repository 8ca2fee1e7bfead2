"""Exact match of answers and references, with optional normalisation."""

from __future__ import annotations

import re
import string
import unicodedata
from typing import ClassVar, Literal

from instruct_lab.config import component
from instruct_lab.metrics.base import AnswerMetric, Statistics, is_empty
from instruct_lab.metrics.references import require_references

ARTICLES = re.compile(r"\b(a|an|the)\b", re.IGNORECASE)


@component
class ExactMatch(AnswerMetric[Statistics]):
    """Exact match: the percentage of answers that equal one of their references.

    To compare as SQuAD does (Rajpurkar et al., 2016), set `ignore_case`, `ignore_punctuation` and `ignore_articles`.
    """

    typical_deviation: ClassVar[float | None] = 20.0
    normal_form: Literal["NFC", "NFKC"] = "NFC"  # Unicode form; NFKC treats full-width and plain letters as equal
    ignore_space: bool = True  # strip white space at the ends, collapse it inside to one space
    ignore_case: bool = False
    ignore_punctuation: bool = False  # remove ASCII punctuation and symbols, and punctuation of every script
    ignore_articles: bool = False  # remove a, an, the

    def statistics(self, prediction: str, references: tuple[str, ...]) -> Statistics:
        """Return whether the answer equals a reference (1 or 0), a count of 1, and whether the answer is empty."""
        answer = self.normalize(prediction)
        matches = any(answer == self.normalize(reference) for reference in require_references(references))
        return [float(matches), 1.0, is_empty(prediction)]

    def value(self, total: Statistics) -> float:
        """Compute the percentage of answers that match."""
        return 100 * total[0] / total[1]

    def signature(self) -> str:
        """Describe the settings, in the form of sacrebleu's signatures."""
        case = "lc" if self.ignore_case else "mixed"
        counts = {True: "no", False: "yes"}
        kept = f"punct:{counts[self.ignore_punctuation]}|articles:{counts[self.ignore_articles]}"
        return f"exact_match|case:{case}|{kept}|space:{counts[self.ignore_space]}|form:{self.normal_form}"

    def normalize(self, text: str) -> str:
        """Normalise a text as the settings require, before it is compared."""
        text = unicodedata.normalize(self.normal_form, text)
        if self.ignore_case:
            text = unicodedata.normalize(self.normal_form, text.casefold())
        if self.ignore_punctuation:
            text = "".join(character for character in text if not _is_punctuation(character))
        if self.ignore_articles:
            text = ARTICLES.sub(" ", text)
        return " ".join(text.split()) if self.ignore_space else text


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character)[0] == "P"

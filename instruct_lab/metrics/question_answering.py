"""The metrics of SQuAD 2.0's evaluation script, on a scale of 0 to 100."""

from __future__ import annotations

import dataclasses
import re
import string
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from instruct_lab.config import component
from instruct_lab.metrics.base import AnswerMetric, Statistics, is_empty
from instruct_lab.metrics.references import all_references, require_references
from instruct_lab.metrics.rouge import UnicodeTokenizer
from instruct_lab.metrics.scripts import script_of

if TYPE_CHECKING:
    from instruct_lab.generation import Prediction

ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)


@component
class SquadMetric(AnswerMetric[Statistics], ABC):
    """The mean score of the answers, each compared with its best reference after both texts are normalised as in SQuAD.

    The normalisation converts to lower case, then removes ASCII punctuation, the words a, an and the, and repeated
    spaces. References that are empty after this are ignored. If all references of an example are empty, its question
    has no answer, and only an empty answer is right. Source: Rajpurkar et al., 2018; the scores `exact` and `f1` of the
    program `evaluate-v2.0.py` with its default threshold.
    """

    kind: ClassVar[str]
    """The name of the score in SQuAD's evaluation script: `exact` or `f1`."""

    tokenize: Literal["squad", "unicode"] | None = (
        None  # unicode: punctuation of every script, Chinese by characters; null: by the script of the references
    )
    no_answer: str = ""  # the data's text for "no answer"; counts as an empty answer

    def for_references(self, references: Sequence[str]) -> Self:
        """Return a copy with the tokenizer for the writing system of the references.

        If `tokenize` is set already, return this metric unchanged.
        """
        if self.tokenize is not None:
            return self
        return dataclasses.replace(self, tokenize="unicode" if _is_unspaced(references) else "squad")

    def notes(self, rows: Sequence[Statistics], predictions: Sequence[Prediction]) -> list[str]:
        """Return a note if the references' writing system has no spaces, but the tokenizer splits only at spaces."""
        if self.tokenize != "squad" or not _is_unspaced(all_references(predictions)):
            return []
        cure = "set tokenize=unicode, or leave it unset"
        return [f"most letters of the references are of a script without spaces; tok:squad splits at spaces: {cure}"]

    @abstractmethod
    def score(self, answer: list[str], reference: list[str]) -> float:
        """Compare two lists of words; return a score from 0 to 1."""

    def statistics(self, prediction: str, references: tuple[str, ...]) -> Statistics:
        """Return the best score over the references, a count of 1, and whether the answer is empty."""
        answer = self.words(prediction)
        wanted = [words for words in map(self.words, require_references(references)) if words] or [[]]
        return [max(self.score(answer, reference) for reference in wanted), 1.0, is_empty(prediction)]

    def value(self, total: Statistics) -> float:
        """Compute the mean score over examples, 0 to 100."""
        return 100 * total[0] / total[1]

    def signature(self) -> str:
        """Describe the score, SQuAD's version and the settings, in the format of sacrebleu's signatures."""
        silent = f"|no_answer:{self.no_answer}" if self.no_answer else ""
        return f"{self.kind}|squad-v2.0|tok:{self.tokenize or 'squad'}|refs:best{silent}"

    def words(self, text: str) -> list[str]:
        """Split a text into words, normalised as in SQuAD; return an empty list if the text is `no_answer`."""
        if self.no_answer and text.strip() == self.no_answer.strip():
            return []
        if self.tokenize == "unicode":
            text = "".join(c for c in text.lower() if unicodedata.category(c)[0] != "P" and c not in string.punctuation)
            return UnicodeTokenizer().tokenize(ARTICLES.sub(" ", text))
        return ARTICLES.sub(" ", text.lower().translate(ASCII_PUNCTUATION)).split()


def _is_unspaced(references: Sequence[str]) -> bool:
    """Whether most letters of the references belong to a writing system without spaces between words."""
    return script_of(references) in ("Chinese", "Japanese", "unspaced")


@component
class SquadExactMatch(SquadMetric):
    """SQuAD exact match: the percentage of answers that consist of the same words as a reference, in the same order."""

    kind: ClassVar[str] = "exact"

    def score(self, answer: list[str], reference: list[str]) -> float:
        """Return 1 if the lists are equal, else 0."""
        return float(answer == reference)


@component
class SquadF1(SquadMetric):
    """SQuAD F1: the harmonic mean of precision and recall over the words of the answer and its best reference.

    The common words are counted with repetitions: a word that one text has three times and the other twice counts
    twice.
    """

    kind: ClassVar[str] = "f1"

    def score(self, answer: list[str], reference: list[str]) -> float:
        """Compute F1 from the number of common words; the result is 1 if both lists are empty, and 0 if only one is."""
        if not answer or not reference:
            return float(answer == reference)
        common = sum((Counter(answer) & Counter(reference)).values())
        if not common:
            return 0.0
        precision, recall = common / len(answer), common / len(reference)
        return 2 * precision * recall / (precision + recall)

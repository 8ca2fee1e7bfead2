"""Metrics of the diversity and the length of answers."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.errors import Problem
from instruct_lab.metrics.base import AnswerMetric, CorpusMetric, Statistics, is_empty
from instruct_lab.metrics.references import all_references, require_references
from instruct_lab.metrics.rouge import UnicodeTokenizer
from instruct_lab.metrics.scripts import Tokenizer, tokenizer_for, tokenizer_problems, unsplit_note

if TYPE_CHECKING:
    from instruct_lab.generation import Prediction

NGram = tuple[str, ...]


@component
class DistinctN(CorpusMetric):
    """Distinct-n: the number of different n-grams in all answers, per 100 n-grams. Source: Li et al., 2016.

    With `per: words`, the value is per 100 words. Words are in lower case and have no punctuation, and each Chinese
    character is a word (as in `ROUGE` with `tokenize: unicode`). The value falls with the number of answers, so compare
    models only on the same examples. For the interval, each answer contributes to the number of different n-grams: an
    n-gram of a single answer counts for this answer, and the number of all other n-grams is divided equally among all
    answers. With these contributions, the interval is as wide as a jackknife interval. The score of one example is
    computed from its answer only.
    """

    n: Annotated[int, Field(ge=1)] = 1  # number of words in an n-gram
    per: Literal["ngrams", "words"] = "ngrams"  # denominator: n-grams, or words (as in the paper)

    def shares(self, answers: list[str]) -> list[Statistics]:
        """Return three numbers for each answer.

        They are its contribution to the number of different n-grams of all answers, its length (in n-grams or in words,
        depending on `per`), and its own number of different n-grams.
        """
        tokenizer = UnicodeTokenizer()
        words = [tokenizer.tokenize(answer) for answer in answers]
        ngrams = [_ngrams(of_answer, self.n) for of_answer in words]
        answers_with = Counter(ngram for of_answer in ngrams for ngram in set(of_answer))
        only_here = [sum(answers_with[ngram] == 1 for ngram in set(of_answer)) for of_answer in ngrams]
        shared = (len(answers_with) - sum(only_here)) / len(answers)
        lengths = [len(by) for by in (words if self.per == "words" else ngrams)]
        return [
            [own + shared, float(length), float(len(set(of_answer)))]
            for own, length, of_answer in zip(only_here, lengths, ngrams, strict=True)
        ]

    def value(self, total: Statistics) -> float:
        """Compute the number of different n-grams per 100 n-grams or words; NaN if no answer has an n-gram."""
        return 100 * total[0] / total[1] if total[1] else math.nan

    def example_score(self, statistics: Statistics) -> float:
        """Compute the number of different n-grams per 100 n-grams or words of one answer, without other answers."""
        return self.value([statistics[2], statistics[1]])

    def signature(self) -> str:
        """Describe the settings, in the form of sacrebleu's signatures."""
        return f"distinct|n:{self.n}|per:{self.per}|tok:unicode|case:lc|over:all answers"


@component
class SelfBLEU(CorpusMetric):
    """Self-BLEU: the mean of each answer's sentence BLEU with all other answers as references; lower is more diverse.

    Sentence BLEU is sacrebleu's, with effective order; an empty answer scores 0. The value is NaN for fewer than two
    answers. For the interval, the scores of the answers are drawn with replacement (bootstrap); they are not computed
    again from the drawn answers. Source: Zhu et al., 2018.
    """

    higher_is_better: ClassVar[bool] = False
    tokenize: Tokenizer | None = None  # null: chosen by the script of the references, as for BLEU
    lowercase: bool = False  # ignore case
    max_ngram_order: Annotated[int, Field(ge=1)] = 4  # longest word n-gram

    def problems(self) -> Iterator[Problem]:
        """Report a tokenizer whose package is not installed."""
        yield from tokenizer_problems(self.tokenize)

    def for_references(self, references: Sequence[str]) -> Self:
        """Return a copy with a tokenizer for the references' writing system, unless the config sets a tokenizer."""
        if self.tokenize is not None:
            return self
        return dataclasses.replace(self, tokenize=tokenizer_for(references))

    def notes(self, rows: Sequence[str], predictions: Sequence[Prediction]) -> list[str]:
        """Return a note if the tokenizer splits only at spaces, but the references need another tokenizer."""
        return unsplit_note(self.tokenize, all_references(predictions))

    def shares(self, answers: list[str]) -> list[Statistics]:
        """Return two numbers for each answer: its BLEU (0 to 100) and a count of 1.

        The references are all other answers. If there is only one answer, both numbers are 0.
        """
        if len(answers) < 2:
            return [[0.0, 0.0] for _ in answers]
        words = [self._scorer._preprocess_segment(answer).split() for answer in answers]
        counts = [self._count_ngrams(of_answer) for of_answer in words]
        most = _most_frequent(counts)
        lengths = Counter(len(of_answer) for of_answer in words)
        return [
            [self._against_others(index, counts[index], len(words[index]), most, lengths), 1.0]
            for index in range(len(answers))
        ]

    def value(self, total: Statistics) -> float:
        """Compute the mean over answers, 0 to 100."""
        return total[0] / total[1] if total[1] else math.nan

    def signature(self) -> str:
        """Return sacrebleu's signature, with the addition that the references are the other answers."""
        self._scorer.num_refs = None
        return f"self-bleu|order:{self.max_ngram_order}|refs:other answers|{self._scorer.get_signature().format()}"

    @functools.cached_property
    def _scorer(self) -> Any:
        from sacrebleu.metrics import BLEU

        return BLEU(
            lowercase=self.lowercase,
            force=True,
            tokenize=self.tokenize or "13a",
            max_ngram_order=self.max_ngram_order,
            effective_order=True,
        )

    def _count_ngrams(self, words: list[str]) -> Counter[NGram]:
        return Counter(ngram for n in range(1, self.max_ngram_order + 1) for ngram in _ngrams(words, n))

    def _against_others(
        self, index: int, counts: Counter[NGram], length: int, most: dict[NGram, _Most], lengths: Counter[int]
    ) -> float:
        """Compute the BLEU of one answer with all other answers as references.

        Args:
            index: index of the answer.
            counts: number of occurrences of each n-gram of the answer.
            length: number of words of the answer.
            most: for each n-gram, the index of the answer in which it occurs most often, how often it occurs there, and
                its largest number of occurrences in any other answer.
            lengths: number of answers of each length, keyed by the length in words.
        """
        correct, total = [0] * self.max_ngram_order, [0] * self.max_ngram_order
        for ngram, count in counts.items():
            owner, first, second = most[ngram]
            correct[len(ngram) - 1] += min(count, second if owner == index else first)
            total[len(ngram) - 1] += count
        others = [other for other, count in lengths.items() if count > (other == length)]
        closest = min(others, key=lambda other: (abs(other - length), other))
        return float(self._scorer._compute_score_from_stats([length, closest, *correct, *total]).score)


_Most = tuple[int, int, int]
"""For one n-gram: index of the answer in which it occurs most often, how often it occurs there, and its largest number
of occurrences in any other answer."""


def _most_frequent(counts: list[Counter[NGram]]) -> dict[NGram, _Most]:
    most: dict[NGram, _Most] = {}
    for index, of_answer in enumerate(counts):
        for ngram, count in of_answer.items():
            owner, first, second = most.get(ngram, (-1, 0, 0))
            most[ngram] = (index, count, first) if count > first else (owner, first, max(second, count))
    return most


def _ngrams(words: list[str], n: int) -> list[NGram]:
    return list(zip(*(words[start:] for start in range(n)), strict=False))


@component
class AnswerLength(AnswerMetric[Statistics]):
    """Answer length: the mean number of words in an answer. A higher value is neither better nor worse.

    Words have no punctuation, and each Chinese character is a word (as in `ROUGE` with `tokenize: unicode`). With
    `relative`, the value is the length ratio: the number of words in all answers divided by the number of words in the
    references; 1 means equal length. If an example has several references, the one whose length is closest to the
    answer's is used.
    """

    higher_is_better: ClassVar[bool | None] = None
    relative: bool = False  # divide by the words of the references instead of the number of answers

    def statistics(self, prediction: str, references: tuple[str, ...]) -> Statistics:
        """Return the number of words of the answer, the number to divide by, and whether the answer is empty.

        The number to divide by is 1 or, with `relative`, the number of words of the reference closest in length.
        """
        tokenizer = UnicodeTokenizer()
        words, by = len(tokenizer.tokenize(prediction)), 1
        if self.relative:
            lengths = [len(tokenizer.tokenize(reference)) for reference in require_references(references)]
            by = min(lengths, key=lambda length: (abs(length - words), length))
        return [float(words), float(by), is_empty(prediction)]

    def value(self, total: Statistics) -> float:
        """Compute the mean length of answers or, with `relative`, the length ratio; NaN if no reference has a word."""
        return total[0] / total[1] if total[1] else math.nan

    def signature(self) -> str:
        """Describe how the length is computed."""
        return f"length|words per {'reference word|refs:closest' if self.relative else 'answer'}|tok:unicode"

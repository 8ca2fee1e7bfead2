"""Metrics that are computed by sacrebleu from statistics that are summed over examples."""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.errors import Problem, Refusal
from instruct_lab.metrics.base import AnswerMetric, Statistics, is_empty
from instruct_lab.metrics.references import all_references, require_references
from instruct_lab.metrics.scripts import Tokenizer, script_of, tokenizer_for, tokenizer_problems, unsplit_note

if TYPE_CHECKING:
    from instruct_lab.generation import Prediction


class SacrebleuMetric(AnswerMetric[Statistics], ABC):
    """Base class of metrics that sacrebleu computes (Post, 2018).

    For each example, sacrebleu's own statistics of the answer are stored, then the number of references, then 1 if the
    answer is empty, else 0. The last two are used only for the signature.
    """

    @abstractmethod
    def build_scorer(self) -> Any:
        """Build the metric object of sacrebleu with the settings of this class."""

    @functools.cached_property
    def _scorer(self) -> Any:
        return self.build_scorer()

    def statistics(self, prediction: str, references: tuple[str, ...]) -> Statistics:
        """Return sacrebleu's statistics of one answer, the number of references, and whether the answer is empty."""
        streams = [[reference] for reference in require_references(references)]  # a stream for each reference
        row = self._scorer._extract_corpus_statistics([prediction], streams)[0]
        return [float(statistic) for statistic in (*row, len(references), is_empty(prediction))]

    def value(self, total: Statistics) -> float:
        """Compute the corpus score, 0 to 100."""
        return float(self._scorer._compute_score_from_stats(list(total[:-2])).score)

    def signature(self) -> str:
        """Return sacrebleu's signature, without the number of references."""
        return self._signature(None)

    def signature_of(self, rows: list[Statistics]) -> str:
        """Return sacrebleu's whole signature, then the number of empty answers if there are any.

        `nrefs:var` means that examples differ in their number of references.
        """
        counts = {int(row[-2]) for row in rows}
        return self._signature(counts.pop() if len(counts) == 1 else -1) + self.empty_count(rows)

    def _signature(self, num_references: int | None) -> str:
        self._scorer.num_refs = num_references
        return str(self._scorer.get_signature().format())


@component
class ChrF(SacrebleuMetric):
    """chrF: F-score over character n-grams, 0 to 100; chrF++ with `word_order: 2`. Source: Popović, 2015 and 2017.

    It needs no tokenizer, so it can be used for every language; it is also reliable for short answers.
    """

    typical_deviation: ClassVar[float | None] = 17.0
    char_order: Annotated[int, Field(ge=1)] = 6  # longest character n-gram
    word_order: Annotated[int, Field(ge=0)] = 0  # longest word n-gram; 2 is chrF++
    beta: Annotated[int, Field(ge=1)] = 2  # recall counts this many times as much as precision
    lowercase: bool = False  # ignore case
    whitespace: bool = False  # count white space inside n-grams
    eps_smoothing: bool = False  # smooth with a small constant instead of using only n-gram orders of both texts

    def notes(self, rows: Sequence[Statistics], predictions: Sequence[Prediction]) -> list[str]:
        """Return a note if word n-grams are counted, but the references' writing system has no spaces."""
        script = script_of(all_references(predictions))
        if not self.word_order or script in ("spaced", "Korean"):
            return []
        letters = "of a script without spaces" if script == "unspaced" else script
        return [f"most letters of the references are {letters}, and word n-grams split at spaces: set word_order=0"]

    def build_scorer(self) -> Any:
        """Build `sacrebleu.metrics.CHRF`."""
        from sacrebleu.metrics import CHRF

        return CHRF(
            char_order=self.char_order,
            word_order=self.word_order,
            beta=self.beta,
            lowercase=self.lowercase,
            whitespace=self.whitespace,
            eps_smoothing=self.eps_smoothing,
        )


@component
class BLEU(SacrebleuMetric):
    """BLEU: n-gram precision with a brevity penalty, 0 to 100. Source: Papineni et al., 2002; sacrebleu: Post, 2018.

    The score of one example (in `predictions.jsonl`) leaves out the n-gram orders that exceed the answer's length. The
    score of a corpus counts all orders. With `effective_order: true`, it leaves out those that exceed the length of
    every answer.
    """

    typical_deviation: ClassVar[float | None] = 33.0
    tokenize: Tokenizer | None = (
        None  # null: by script of the references: 13a, zh, ja-mecab or ko-mecab (char if not installed), char
    )
    lowercase: bool = False  # ignore case
    smooth_method: Literal["exp", "floor", "add-k", "none"] = "exp"  # smoothing of n-gram orders without a match
    smooth_value: Annotated[float, Field(gt=0)] | None = None  # value of floor or add-k; null: sacrebleu's (0.1 and 1)
    max_ngram_order: Annotated[int, Field(ge=1)] = 4  # longest word n-gram
    effective_order: bool = False  # leave out n-gram orders for which all answers are too short

    def __post_init__(self) -> None:
        if self.smooth_value is not None and self.smooth_method not in ("floor", "add-k"):
            raise Refusal("smooth_value", f"smooth_method {self.smooth_method} takes no value", "null")

    def problems(self) -> Iterator[Problem]:
        """Report a tokenizer whose package is not installed."""
        yield from tokenizer_problems(self.tokenize)

    def for_references(self, references: Sequence[str]) -> Self:
        """Return a copy with the tokenizer for the writing system of the references.

        If `tokenize` is set already, return this metric unchanged.
        """
        if self.tokenize is not None:
            return self
        return dataclasses.replace(self, tokenize=tokenizer_for(references))

    def notes(self, rows: Sequence[Statistics], predictions: Sequence[Prediction]) -> list[str]:
        """Return reasons why the value may mislead.

        One reason is that no reference, or no answer, has as many words as the longest n-gram, so that BLEU is 0.
        Another is that the tokenizer does not split the references into words.
        """
        references, order = all_references(predictions), self.max_ngram_order
        notes = unsplit_note(self.tokenize, references)
        words = f"{order} words (tok:{self.tokenize or '13a'})"
        if self.effective_order or not references:
            return notes
        if not any(len(self._scorer._preprocess_segment(text).split()) >= order for text in references):
            cure = "read chrF or exact match, or set effective_order=true"
            notes.append(f"no reference has {words}, so even right answers have a BLEU of 0 by its definition: {cure}")
        elif not sum(row[1 + 2 * order] for row in rows):  # lengths, matches of each order, n-grams of each order
            notes.append(f"no answer has {words}, so BLEU is 0 by its definition")
        return notes

    def build_scorer(self) -> Any:
        """Build `sacrebleu.metrics.BLEU`."""
        return self._build(self.effective_order)

    def example_score(self, statistics: Statistics) -> float:
        """Compute BLEU of one answer, without n-grams that are longer than the answer, as sacrebleu advises."""
        return float(self._sentence_scorer._compute_score_from_stats(list(statistics[:-2])).score)

    @functools.cached_property
    def _sentence_scorer(self) -> Any:
        return self._build(effective_order=True)

    def _build(self, effective_order: bool) -> Any:
        from sacrebleu.metrics import BLEU as SacrebleuBLEU

        return SacrebleuBLEU(
            lowercase=self.lowercase,
            force=True,  # suppresses a warning about answers that end in " ."
            tokenize=self.tokenize or "13a",
            smooth_method=self.smooth_method,
            smooth_value=self.smooth_value,
            max_ngram_order=self.max_ngram_order,
            effective_order=effective_order,
        )


@component
class TER(SacrebleuMetric):
    """Translation edit rate: edits and shifts of words per 100 words of the reference; 0 is best. Source: Snover, 2006.

    It is slow on long answers: the time of its search for shifts grows faster than the square of the length.
    """

    higher_is_better: ClassVar[bool] = False
    normalized: bool = False  # split punctuation from words first
    no_punct: bool = False  # leave out punctuation
    asian_support: bool = False  # split Chinese and Japanese text by characters; needs normalized or no_punct
    case_sensitive: bool = False  # distinguish upper and lower case

    def __post_init__(self) -> None:
        if self.asian_support and not (self.normalized or self.no_punct):
            raise Refusal("asian_support", "has no effect without normalized or no_punct", "false")

    def notes(self, rows: Sequence[Statistics], predictions: Sequence[Prediction]) -> list[str]:
        """Return a note if the references' writing system has no spaces, but TER splits only at spaces."""
        script = script_of(all_references(predictions))
        if self.asian_support or script in ("spaced", "Korean"):
            return []
        if script == "unspaced":
            return ["most letters of the references are of a script without spaces; TER splits at spaces: read chrF"]
        cure = "set normalized=true and asian_support=true"
        return [f"most letters of the references are {script}, and TER splits at spaces: {cure}"]

    def build_scorer(self) -> Any:
        """Build `sacrebleu.metrics.TER`."""
        from sacrebleu.metrics import TER as SacrebleuTER

        return SacrebleuTER(
            normalized=self.normalized,
            no_punct=self.no_punct,
            asian_support=self.asian_support,
            case_sensitive=self.case_sensitive,
        )

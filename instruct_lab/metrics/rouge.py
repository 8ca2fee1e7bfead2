"""ROUGE, computed by the reference implementation rouge-score, with a tokenizer for all writing systems."""

from __future__ import annotations

import functools
import importlib.metadata
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from instruct_lab.config import component
from instruct_lab.metrics.base import AnswerMetric, Statistics, is_empty
from instruct_lab.metrics.references import all_references, require_references
from instruct_lab.metrics.scripts import WITHOUT_SPACES, is_in

if TYPE_CHECKING:
    from instruct_lab.generation import Prediction


@component
class ROUGE(AnswerMetric[Statistics]):
    """ROUGE: how much the words of answer and reference overlap, as an F-measure from 0 to 100, averaged over examples.

    If there are several references, the reference with the best F-measure is used. `rougeLsum` treats each line as a
    sentence. Source: Lin, 2004.
    """

    typical_deviation: ClassVar[float | None] = 20.0
    variant: Literal["rouge1", "rouge2", "rougeL", "rougeLsum"] = (
        "rougeL"  # words, word pairs, longest common subsequence of the text or of its lines
    )
    tokenize: Literal["unicode", "ascii"] = "unicode"  # ascii: rouge-score's own, which drops é and 中文
    stemmer: bool = False  # Porter stemmer, for English words of more than three letters

    def statistics(self, prediction: str, references: tuple[str, ...]) -> Statistics:
        """Return the F-measure against the best reference, a count of 1, and whether the answer is empty."""
        score = self._scorer.score_multi(require_references(references), prediction)[self.variant]
        return [float(score.fmeasure), 1.0, is_empty(prediction)]

    def value(self, total: Statistics) -> float:
        """Compute the mean F-measure over examples, 0 to 100."""
        return 100 * total[0] / total[1]

    def signature(self) -> str:
        """Describe the settings, in the format of sacrebleu's signatures."""
        stemmer = "porter" if self.stemmer else "no"
        version = importlib.metadata.version("rouge-score")
        return f"rouge-score|type:{self.variant}|tok:{self.tokenize}|stem:{stemmer}|refs:best|version:{version}"

    def notes(self, rows: Sequence[Statistics], predictions: Sequence[Prediction]) -> list[str]:
        """Return a note if the tokenizer drops most letters of the references."""
        letters = [character for text in all_references(predictions) for character in text if character.isalpha()]
        if self.tokenize != "ascii" or 2 * sum(map(str.isascii, letters)) >= len(letters):
            return []
        return ["tok:ascii drops most letters of the references, all but a to z: set tokenize=unicode"]

    @functools.cached_property
    def _scorer(self) -> Any:
        from rouge_score.rouge_scorer import RougeScorer
        from rouge_score.tokenizers import DefaultTokenizer

        if self.tokenize == "ascii":
            tokenizer: Any = DefaultTokenizer(use_stemmer=self.stemmer)
        else:
            tokenizer = UnicodeTokenizer(self.stemmer)
        return RougeScorer([self.variant], tokenizer=tokenizer)


class UnicodeTokenizer:
    """Splits text into lower-case words of letters, combining marks and digits of any writing system.

    For ASCII text, the words are the same as the tokens of rouge-score. In a writing system without spaces, each
    character is a separate word, together with its combining marks.
    """

    def __init__(self, stemmer: bool = False) -> None:
        self._stem = None
        if stemmer:
            from nltk.stem.porter import PorterStemmer  # type: ignore[import-untyped]

            self._stem = PorterStemmer().stem

    def tokenize(self, text: str) -> list[str]:
        """Split a text into words."""
        words = [""]
        for character in unicodedata.normalize("NFC", text.lower()):
            kind = unicodedata.category(character)[0]
            if kind == "M" and words[-1]:
                words[-1] += character
            elif kind not in "LNM":
                words.append("")
            elif _stands_alone(character) or (words[-1] and _stands_alone(words[-1][0])):
                words.append(character)
            else:
                words[-1] += character
        words = [word for word in words if word]
        if self._stem is None:
            return words
        return [self._stem(word) if len(word) > 3 else word for word in words]


def _stands_alone(character: str) -> bool:
    return is_in(ord(character), WITHOUT_SPACES)

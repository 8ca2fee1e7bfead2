"""Metrics of how often a judge prefers a system's answer to an opponent's answer."""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from instruct_lab.config import component
from instruct_lab.errors import InstructLabError, Problem, Refusal
from instruct_lab.files import user_path
from instruct_lab.metrics.base import AnswerMetric, Statistics
from instruct_lab.metrics.judges import Judge, Question, question_text
from instruct_lab.metrics.judges.gold import read_gold
from instruct_lab.metrics.judges.question import RUBRIC
from instruct_lab.metrics.judges.votes import judge_notes

if TYPE_CHECKING:
    import numpy as np

    from instruct_lab.generation import Prediction

BASE, REFERENCE = "base", "reference"
PRIOR = 0.1
"""Precision (1 / variance) of the normal prior of both coefficients in `LengthControlledWinRate`'s regression."""


class ComparisonMetric(AnswerMetric[Statistics], ABC):
    """Compares an answer with the answer of another system to the same prompt, by the verdicts of a judge.

    The verdicts are only known after all systems have answered (`instruct_lab.evaluation.judging`). The statistics of
    an example describe the judge's verdicts on its two answers, such as whether the answer wins and how the lengths
    differ. They are the fields of `instruct_lab.metrics.judges.votes.Votes`, in order.
    """

    def statistics(self, prediction: str, references: tuple[str, ...]) -> Statistics:
        """Raise an error: the statistics need the verdicts of a judge, which are not known here.

        Raises:
            InstructLabError: always.
        """
        raise InstructLabError(f"{type(self).__name__} needs the verdicts of a judge, not only an answer")

    def signature_of(self, rows: list[Statistics]) -> str:
        """Return the metric's signature, which describes how its value was computed.

        The number of empty answers and the number of pairs without a verdict are added to it where they are not 0.
        """
        missing = sum(not row[1] for row in rows)
        return self.signature() + self.empty_count(rows) + (f"|unjudged:{missing}" if missing else "")


@component
class WinRate(ComparisonMetric):
    """Win rate: the percentage of answers that a judge prefers to those of an opponent; a tie counts as half.

    The judge is asked about each pair of answers in both orders. If its verdicts contradict each other, the pair is a
    tie, so a judge's preference for the first or second answer does not change the value. Two equal answers are a tie,
    and the judge is not asked. Pairs without two verdicts (because the judge gave no reply, or a reply without a
    verdict) are left out, and the metric's signature contains their number. Notes on the value report how often the
    judge contradicted itself, whether it then favoured the first or the second answer, and how often the longer answer
    won. A further note warns if the verdicts in the two orders agree no more than random verdicts would.

    Every verdict is recorded in `verdicts.jsonl`, with the question to the judge and its reply. It is also kept in the
    cache, so no question is asked twice. With `against: base`, only the tuned model is measured. Baselines are never
    judged. Source: Zheng et al., 2023.
    """

    judge: Judge  # the judge
    against: str = BASE  # the opponent: base (the untuned model), reference, or the id or folder of another run
    rubric: str = RUBRIC  # the criteria of the judge
    shows_reference: bool = False  # show the judge the first reference of the row as a correct answer
    gold: str | None = None  # JSON Lines file of pairs with the right verdict, to measure the judge; see docs/judges.md

    def __post_init__(self) -> None:
        for field in ("against", "rubric"):
            if not getattr(self, field).strip():
                raise Refusal(field, "must not be empty")
        if self.against == "latest":
            raise Refusal("against", "names another run each time: type the id of a run, base or reference")
        if self.shows_reference and self.against == REFERENCE:
            raise Refusal("shows_reference", "has no use where the opponent is the reference itself", "false")

    def problems(self) -> Iterator[Problem]:
        """Report a gold set (file of answer pairs whose right verdict is known) that cannot be read."""
        if self.gold is not None:
            try:
                read_gold(user_path(self.gold))
            except InstructLabError as error:
                yield Problem(key="gold", value=self.gold, reason=f"{error.what} ({error.where})")

    def text(self, question: Question) -> str:
        """Return the message that asks the judge the question."""
        return question_text(question, self.rubric, self.judge.explains)

    def value(self, total: Statistics) -> float:
        """Compute the win rate, 0 to 100; NaN if no pair is judged."""
        return 100 * total[0] / total[1] if total[1] else math.nan

    def signature(self) -> str:
        """Describe the judge, the opponent, the criteria, and how the order of the answers is handled."""
        criteria = hashlib.sha256(json.dumps([self.rubric, self.shows_reference]).encode()).hexdigest()[:8]
        return f"win_rate|judge:{self.judge.signature}|against:{self.against}|rubric:{criteria}|orders:2|ties:half"

    def notes(self, rows: Sequence[Statistics], predictions: Sequence[Prediction]) -> list[str]:
        """Return notes on how reliable the judge is, computed from its verdicts."""
        return list(judge_notes(rows))


@component
class LengthControlledWinRate(ComparisonMetric):
    r"""Length-controlled win rate: the win rate that answers would have if they were as long as the opponent's.

    A logistic regression predicts the verdicts `y` (1, 0.5, 0) of a `WinRate` from `d`, the difference between the
    lengths of the two answers in characters: `p(y) = logistic(a + b tanh(d / std(d)))`. The value is `100 logistic(a)`.
    This is the model of AlpacaEval 2 (Dubois et al., 2024) without its term for the difficulty of an instruction, which
    needs many systems. A weak normal prior keeps `a` and `b` finite if all verdicts are equal. The bootstrap interval
    comes from an approximation of `a` as a mean of one number for each pair (`a` plus the pair's influence on it).
    """

    of: str = "win_rate"  # name of the win rate in the config group metrics, whose verdicts are used

    def parts(self, rows: list[Statistics]) -> list[Statistics]:
        """Fit the regression, and return the statistics of each pair: three numbers, which are then summed over pairs.

        They are `a` plus the pair's influence on `a`, a count of 1, and the pair's score (1, 0.5 or 0). All are 0 if
        the pair has no verdict.
        """
        import numpy as np

        votes = np.asarray(rows, dtype=np.float64)
        judged = votes[:, 1] == 1
        found = [[0.0, 0.0, 0.0] for _ in rows]
        if judged.any():
            shares = _influences(votes[judged, 0], votes[judged, 6])
            for index, share in zip(np.flatnonzero(judged).tolist(), shares.tolist(), strict=True):
                found[index] = [share, 1.0, float(votes[index, 0])]
        return found

    def value(self, total: Statistics) -> float:
        """Compute the length-controlled win rate, 0 to 100; NaN if no pair is judged."""
        return 100 / (1 + math.exp(-total[0] / total[1])) if total[1] else math.nan

    def example_score(self, statistics: Statistics) -> float:
        """Return the pair's score: 100 if the answer wins, 50 for a tie, 0 if it loses; NaN without a verdict."""
        return 100 * statistics[2] if statistics[1] else math.nan

    def signature(self) -> str:
        """Describe how the influence of length is modelled, and name the `WinRate` metric whose verdicts are used.

        The judge and the opponent are described in the signature of that metric.
        """
        return f"length_controlled_win_rate|of:{self.of}|tanh(d/std):chars|prior:{PRIOR}"


def _influences(scores: np.ndarray[Any, Any], differences: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Fit the logistic regression of `LengthControlledWinRate`, and compute each pair's influence on its intercept `a`.

    Args:
        scores: the verdict on each pair (1, 0.5 or 0), `[pairs]`.
        differences: for each pair, the difference between the lengths of its answers in characters, `[pairs]`.

    Returns:
        `a` plus the influence of each pair on `a`, `[pairs]`; the mean over pairs is `a`.
    """
    import numpy as np

    spread = differences.std()
    lengths = np.tanh(differences / spread) if spread > 0 else np.zeros_like(differences)
    design = np.stack([np.ones_like(lengths), lengths], axis=1)  # [pairs, 2]
    coefficients = np.zeros(2)
    for _ in range(100):
        expected = 1 / (1 + np.exp(-design @ coefficients))
        gradient = design.T @ (scores - expected) - PRIOR * coefficients
        weights = expected * (1 - expected)
        hessian = design.T @ (design * weights[:, None]) + PRIOR * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        coefficients = coefficients + step * min(1.0, 2 / max(1e-12, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-12:
            break
    expected = 1 / (1 + np.exp(-design @ coefficients))
    single = design * (scores - expected)[:, None] - PRIOR * coefficients / len(scores)  # the sum is 0
    influence = len(scores) * np.linalg.solve(hessian, single.T)[0]
    result: np.ndarray[Any, Any] = coefficients[0] + influence - influence.mean()
    return result

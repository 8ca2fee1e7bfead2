"""Statistics of a judge's verdicts on pairs of answers, which show how order and length influence the judge.

The judge sees every pair in both orders. If only the content counts, it prefers the same answer both times. A judge
that is influenced by the order contradicts itself: it prefers whichever answer is first, or whichever is second.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from instruct_lab.metrics.base import Statistics, is_empty
from instruct_lab.metrics.judges.question import Choice

SIGNIFICANT = 0.05
"""Significance level: a judge is called biased if the p-value of its verdicts is below this."""
POOR_AGREEMENT = 0.2
"""A judge is called unreliable if Scott's pi of its verdicts in the two orders is below this.

The agreement of these verdicts must also not be significantly above chance.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Votes:
    """The statistics of one pair: the evaluated system's answer, and an opponent's answer to the same prompt.

    A judge is asked about each pair twice, once in each order of the two answers.

    Args:
        score: 1 if the judge preferred the system's answer in both orders, 0 if it preferred the opponent's answer in
            both, else 0.5 (a tie); also 0 if the pair was not judged.
        judged: 1 if the pair was judged, else 0. Only judged pairs count in the metric. Two equal answers count as
            judged: they are a tie without asking the judge.
        asked: 1 if the judge was asked about the pair and gave both verdicts, else 0.
        own: in how many of the two orders the judge preferred the system's answer.
        other: in how many of the two orders the judge preferred the opponent's answer.
        first: in how many of the two orders the judge preferred the answer that was shown first.
        difference: number of characters of the system's answer, minus the number of characters of the opponent's.
        empty: 1 if the system's answer is empty, else 0.
    """

    score: float
    judged: float
    asked: float
    own: float
    other: float
    first: float
    difference: float
    empty: float

    @classmethod
    def of(cls, answer: str, opponent: str | None, choices: tuple[Choice, Choice] | None) -> Votes:
        """Create the statistics of a pair.

        Args:
            answer: the answer of the evaluated system.
            opponent: the opponent's answer; `None` if there is none, so that the pair is not judged.
            choices: the judge's two verdicts: first the one for which the system's answer was shown as A, then the one
                for which it was shown as B; `None` if a verdict is missing.
        """
        difference, empty = float(len(answer) - len(opponent or "")), is_empty(answer)
        if answer == opponent:
            return cls(0.5, 1, 0, 0, 0, 0, difference, empty)
        if choices is None:
            return cls(0, 0, 0, 0, 0, 0, difference, empty)
        own = float((choices[0] == "A") + (choices[1] == "B"))
        other = float((choices[0] == "B") + (choices[1] == "A"))
        score = 1.0 if own == 2 else 0.0 if other == 2 else 0.5
        return cls(score, 1, 1, own, other, float(choices.count("A")), difference, empty)

    @property
    def row(self) -> Statistics:
        """The statistics as numbers, in the order of the fields."""
        return list(map(float, dataclasses.astuple(self)))


def judge_notes(rows: Sequence[Statistics]) -> Iterator[str]:
    """Yield notes on the judge: how order and length influence it, and whether its verdicts in the two orders agree.

    Args:
        rows: for each pair, the fields of its `Votes` as numbers.
    """
    asked = [vote for vote in (Votes(*row) for row in rows) if vote.asked]
    if asked:
        yield _position_note(asked)
        yield from _agreement_note(asked)
        yield from _length_note(asked)


def _position_note(asked: Sequence[Votes]) -> str:
    first = sum(vote.first == 2 for vote in asked)
    second = sum(vote.own == vote.other == 1 and vote.first == 0 for vote in asked)
    found = (
        f"with the answers in the other order the judge contradicted itself in {first + second} of {len(asked)} pairs"
    )
    if not first + second:
        return found
    probability = binomial_p(first, first + second)
    found += f", {first} times for the first answer and {second} times for the second (p = {probability:.2g})"
    if probability >= SIGNIFICANT:
        return found
    position = "first" if first > second else "second"
    return f"position bias: the judge prefers the {position} answer; {found}; these pairs count as ties"


def _agreement_note(asked: Sequence[Votes]) -> Iterator[str]:
    """Yield a note if the judge's verdicts in the two orders agree no more than random verdicts would.

    If all verdicts are the same, their agreement shows nothing; a note on this is yielded instead if there are several
    pairs.

    The random verdicts have the same proportions of wins, losses and ties as the judge's. The agreement is Scott's pi
    (1955): `(observed - chance) / (1 - chance)`. Here, `observed` is the proportion of pairs with equal verdicts in
    both orders, and `chance` is this proportion for random verdicts.
    """
    agreeing = sum(2 in (vote.own, vote.other) or not vote.own + vote.other for vote in asked) / len(asked)
    votes = [sum(vote.own for vote in asked), sum(vote.other for vote in asked)]
    shares = [count / (2 * len(asked)) for count in (*votes, 2 * len(asked) - sum(votes))]
    chance = sum(share**2 for share in shares)
    if chance == 1:
        if len(asked) > 1:
            yield (
                f"the judge named the same system in all {len(asked)} pairs"
                if votes[0] + votes[1]
                else (f"the judge called all {len(asked)} pairs ties")
            )
        return
    kappa = (agreeing - chance) / (1 - chance)
    error = math.sqrt(chance * (1 - chance) / len(asked))
    if kappa < POOR_AGREEMENT and agreeing - chance < 1.645 * error:
        yield (
            f"unreliable: the verdicts in the two orders agree no more than random ones (agreement {kappa:.2f}, where "
            "1 is perfect and 0 is chance)"
        )


def _length_note(asked: Sequence[Votes]) -> Iterator[str]:
    """Yield a note on how often the longer answer won, and on whether length predicts the winner.

    Only pairs with a winner and with answers of different lengths count. Fisher's exact test compares two win rates of
    the evaluated system: where its answer is the longer one, and where it is the shorter one. So the wins of a better
    system are not mistaken for a bias towards long answers.
    """
    decided = [vote for vote in asked if vote.score != 0.5 and vote.difference]
    if not decided:
        return
    longer = [vote for vote in decided if vote.difference > 0]
    shorter = [vote for vote in decided if vote.difference < 0]
    won_longer, won_shorter = sum(vote.score for vote in longer), sum(vote.score for vote in shorter)
    wins = int(won_longer + len(shorter) - won_shorter)
    found = f"the longer answer won in {wins} of {len(decided)} pairs with a winner"
    if not longer or not shorter:
        whose = "the evaluated" if longer else "the opponent's"
        yield f"{found}; {whose} answers are always the longer ones, so length and quality cannot be distinguished"
        return
    probability = fisher_p(int(won_longer), len(longer), int(won_shorter), len(shorter))
    if probability >= SIGNIFICANT:
        yield f"{found} (no influence of the length found, p = {probability:.2g})"
        return
    preferred = "longer" if won_longer / len(longer) > won_shorter / len(shorter) else "shorter"
    yield (
        f"length bias: the {preferred} answer wins, whichever system wrote it; {found} (p = {probability:.2g}); see "
        "the length-controlled win rate"
    )


def binomial_p(successes: int, trials: int) -> float:
    """Return the two-sided p-value of a binomial test: the null hypothesis is that the success probability is 1/2."""
    least = min(successes, trials - successes)
    tail = sum(math.comb(trials, count) for count in range(least + 1))
    return min(1.0, 2 * tail / 2**trials)


def fisher_p(first: int, first_count: int, second: int, second_count: int) -> float:
    """Return the two-sided p-value of Fisher's exact test for the numbers of successes in two groups.

    Args:
        first: successes in the first group.
        first_count: size of the first group.
        second: successes in the second group.
        second_count: size of the second group.
    """
    total = first + second
    ways = [
        math.comb(first_count, count) * math.comb(second_count, total - count)
        if 0 <= total - count <= second_count
        else 0
        for count in range(first_count + 1)
    ]
    return sum(count for count in ways if count <= ways[first]) / sum(ways)

"""Gold sets: pairs of answers whose right verdict is known, which are used to measure how good a judge is."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

from instruct_lab.errors import InstructLabError, wrap_errors
from instruct_lab.files import read_regular
from instruct_lab.metrics.judges.question import Choice, Question

VERDICTS: dict[str, Choice] = {"first": "A", "second": "B", "tie": "C"}
"""Values of the column `preferred`, each with the verdict that it means."""
EXPECTED = 'a line such as {"prompt": "…", "first": "…", "second": "…", "preferred": "first"}'


@dataclasses.dataclass(frozen=True, slots=True)
class GoldPair:
    """A question with its right verdict: `A` (the first answer is better), `B` (the second) or `C` (a tie)."""

    question: Question
    verdict: Choice


def read_gold(path: Path) -> list[GoldPair]:
    """Read a gold set: a JSON Lines file, with one pair of answers in each line.

    A line is a JSON object with the texts `prompt`, `first` and `second` (the two answers) and `preferred` (`first`,
    `second` or `tie`). It may also have a `reference`, a correct answer.

    Raises:
        InstructLabError: the file cannot be read, has no pair, or has a line that is not such an object.
    """
    with wrap_errors(OSError, what="The gold set cannot be read", where=str(path), do="check the path"):
        content = read_regular(path)
    pairs = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        if line.strip():
            pairs.append(_parse(line, f"{path}, line {number}"))
    if not pairs:
        raise InstructLabError("The gold set has no pair of answers", where=str(path), do=f"write {EXPECTED}")
    return pairs


def _parse(line: str, where: str) -> GoldPair:
    do = f"write {EXPECTED}, where preferred is first, second or tie"
    try:
        entries = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InstructLabError(f"A line of the gold set is not JSON: {error}", where=where, do=do) from error
    if not isinstance(entries, dict):
        raise InstructLabError("A line of the gold set is no JSON object", where=where, do=do)
    for name in ("prompt", "first", "second", "preferred"):
        if not isinstance(entries.get(name), str):
            raise InstructLabError(f"A pair of the gold set has no text {name!r}", where=where, do=do)
    verdict = VERDICTS.get(entries["preferred"])
    if verdict is None:
        what = f"A pair of the gold set has the verdict {entries['preferred']!r}"
        raise InstructLabError(what, where=where, do=do)
    reference = entries.get("reference")
    question = Question(entries["prompt"], entries["first"], entries["second"], reference and str(reference))
    return GoldPair(question, verdict)


def agreement_note(found: Sequence[tuple[Choice, Choice]], num_pairs: int) -> str:
    """Describe how often the judge gave the right verdict, with Wilson's 95% interval and Cohen's kappa.

    Args:
        found: the right verdict and the judge's verdict, for each pair that was judged. If the judge contradicted
            itself when the answers were shown in the other order, its verdict is a tie.
        num_pairs: number of pairs of the gold set.
    """
    if not found:
        return f"the judge judged none of the {num_pairs} pairs of the gold set"
    count = len(found)
    share = sum(right == judged for right, judged in found) / count
    low, high = wilson(share, count)
    chance = sum(
        sum(right == choice for right, _ in found) * sum(judged == choice for _, judged in found)
        for choice in VERDICTS.values()
    ) / (count * count)
    kappa = f", kappa {(share - chance) / (1 - chance):.2f}" if chance < 1 else ""
    left_out = f"; {num_pairs - count} were not judged" if num_pairs > count else ""
    return (
        f"the judge agrees with the gold set on {100 * share:.1f} % [{100 * low:.1f}, {100 * high:.1f}] of {count} "
        f"pairs{kappa}{left_out}"
    )


def wilson(share: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Return both ends of Wilson's confidence interval for a proportion (Wilson, 1927).

    Args:
        share: the observed proportion, 0 to 1.
        count: number of observations.
        z: quantile of the normal distribution; the default gives a 95% interval.
    """
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)

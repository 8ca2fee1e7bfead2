"""The file `verdicts.jsonl` of a run record: which of two answers a judge (a language model) found better.

Each line has one pair of answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from instruct_lab import files
from instruct_lab.records.schema import VERDICTS


@dataclasses.dataclass(frozen=True)
class VerdictReply:
    """A judge's reply to the question which of two answers is better; the judge sees each pair twice, in both orders.

    Args:
        first: the answer that was shown first: `answer` or `opponent`.
        text: the text of the reply; empty if there is none.
        verdict: `A` for the answer that was shown first, `B` for the second, `C` for a tie; `None` without a verdict.
        fault: the reason why there is no verdict; empty if there is one.
    """

    first: str
    text: str
    verdict: str | None
    fault: str


@dataclasses.dataclass(frozen=True)
class VerdictLine:
    """A line of `verdicts.jsonl`: the verdicts on a pair of answers to the same prompt, `answer` and `opponent`.

    Args:
        metric: name of the metric (a win rate) in the config.
        split: split of the example.
        system: the system that gave `answer`: `before` (the base model) or `after` (the tuned model).
        id: id of the example.
        judge: name of the judge.
        against: what gave the answer `opponent`, as written in the config: `base`, `reference`, or the id or folder of
            a run.
        question: the message to the judge in which `answer` comes before `opponent`; empty if the judge was not asked.
        answer: the answer.
        opponent: the text of the answer that is compared with `answer`; `None` if there is no such answer.
        replies: the judge's replies for both orders of the answers; empty if the judge was not asked.
        score: 1 if `answer` wins, 0.5 for a tie, 0 if `opponent` wins; `None` if the pair was not judged.
    """

    metric: str
    split: str
    system: str
    id: str
    judge: str
    against: str
    question: str
    answer: str
    opponent: str | None
    replies: list[VerdictReply]
    score: float | None


def write_verdicts(folder: Path, lines: Iterable[VerdictLine]) -> None:
    """Write `verdicts.jsonl` for a run or one of its evaluations; if there are no verdicts, remove an existing file.

    Args:
        folder: folder of the record or of the evaluation.
        lines: the verdicts.
    """
    written = [files.to_json(line) + "\n" for line in lines]
    if written:
        files.write_atomically(folder / VERDICTS, written)
    else:
        (folder / VERDICTS).unlink(missing_ok=True)

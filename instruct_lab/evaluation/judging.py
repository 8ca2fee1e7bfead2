"""Ask judges which of two answers is better, for a run's win rates, after all models of the run have answered."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from instruct_lab import files
from instruct_lab.data import Conversation
from instruct_lab.errors import InstructLabError, one_line
from instruct_lab.evaluation.examples import EvaluatedExamples
from instruct_lab.evaluation.setup import EvaluationSetup
from instruct_lab.metrics import LengthControlledWinRate, Metric, WinRate
from instruct_lab.metrics.judges import Judge, Question, Reply, read_verdict
from instruct_lab.metrics.judges.gold import agreement_note, read_gold
from instruct_lab.metrics.judges.question import Choice
from instruct_lab.metrics.judges.votes import Votes
from instruct_lab.metrics.win_rate import BASE, REFERENCE
from instruct_lab.progress import advance, stage
from instruct_lab.records import Results, RunRecord
from instruct_lab.records.evaluations import EvaluationFiles, evaluation_names
from instruct_lab.records.locate import find_run
from instruct_lab.records.schema import AFTER, BEFORE
from instruct_lab.records.verdicts import VerdictLine, VerdictReply

FOLDER = "judgements"
"""Folder of the cache with the replies of judges, one file for each judge."""
NUM_REASONS = 3
NO_VERDICT = "the reply holds no verdict"


@dataclasses.dataclass(frozen=True)
class Judged:
    """The results of a run, with the statistics of its win rates, and the judges' verdicts (which answer is better)."""

    results: Results
    verdicts: list[VerdictLine]


@dataclasses.dataclass(frozen=True)
class Judging:
    """Asks judges for the verdicts that the win rates of a run need.

    Args:
        setup: the settings of the evaluation.
        runs_path: the folder of all run records, in which a run is looked up if a win rate compares with its answers.
        cache_path: the folder of the cache, in which the replies of judges are kept.
        device: the device on which a local judge runs.
    """

    setup: EvaluationSetup
    runs_path: Path
    cache_path: Path
    device: Any

    def add_verdicts(self, results: Results, examples: Mapping[str, EvaluatedExamples]) -> Judged:
        """Ask the judge of each win rate about its pairs of answers, and add the statistics to the results.

        A pair is a model's answer and the answer with which the win rate compares it, for one example. The tuned model
        is judged, and the base model too unless it is the opponent; baselines are not judged. If a judge gives no
        verdict on a pair, the run continues: the pair is left out, and a note on the win rate states the number of such
        pairs and the reasons.

        Args:
            results: measurements, keyed by split and then by system (base model, tuned model or baseline).
            examples: the evaluated examples, keyed by split.

        Returns:
            The verdicts, and the results with the statistics of each pair of answers added to them.
        """
        judged: Results = {split: dict(systems) for split, systems in results.items()}
        own = {split: systems for split, systems in judged.items() if split in examples}  # without benchmarks
        verdicts: list[VerdictLine] = []
        metrics = self.setup.metrics
        for name, metric in metrics.items():
            if isinstance(metric, WinRate):
                verdicts += self._judge(name, metric, own, examples)
        for name, metric in metrics.items():
            if isinstance(metric, LengthControlledWinRate):
                _copy_rows(metric.of, name, own)
        for systems in own.values():
            for system, one in systems.items():
                rows = {name: one.rows[name] for name in metrics if name in one.rows}
                systems[system] = dataclasses.replace(one, rows=rows)
        return Judged(judged, verdicts)

    def _judge(
        self, name: str, metric: WinRate, results: Results, examples: Mapping[str, EvaluatedExamples]
    ) -> list[VerdictLine]:
        opponent = self._opponent(metric)
        pairs = [
            pair
            for split, systems in results.items()
            for system in _judged_systems(metric)
            if system in systems
            for pair in _pairs(metric, split, system, systems, examples[split].conversations, opponent)
        ]
        gold = [] if metric.gold is None else read_gold(files.user_path(metric.gold))
        questions = [pair.question for pair in pairs if pair.question] + [one.question for one in gold]
        texts = [metric.text(order) for one in questions for order in (one, one.swapped())]
        replies = ask(metric.judge, texts, self.cache_path, self.device)

        def replies_to(question: Question) -> tuple[Reply, Reply]:
            return replies[metric.text(question)], replies[metric.text(question.swapped())]

        remarks = []
        if gold:
            judged = [(one.verdict, _joint(replies_to(one.question))) for one in gold]
            remarks = [agreement_note([(right, found) for right, found in judged if found], len(gold))]
        lines, faults = [], dict[tuple[str, str], Counter[str]]()
        rows: dict[tuple[str, str], list[list[float]]] = {}
        for pair in pairs:
            found = replies_to(pair.question) if pair.question else ()
            choices = tuple(read_verdict(reply.text) for reply in found)
            complete = None if len(choices) != 2 or None in choices else choices
            votes = Votes.of(pair.answer, pair.opponent, complete)  # type: ignore[arg-type]  # `None` has been excluded
            key = (pair.split, pair.system)
            counted = faults.setdefault(key, Counter())
            if not votes.judged:
                counted[next(filter(None, map(_fault, found)), pair.fault)] += 1
            rows.setdefault(key, []).append(votes.row)
            lines.append(_line(name, metric, pair, found, votes))
        for (split, system), of_system in rows.items():
            one = results[split][system]
            missing = _missing_note(faults[split, system], len(of_system))
            results[split][system] = dataclasses.replace(
                one,
                rows={**one.rows, name: of_system},
                remarks={**one.remarks, name: [*missing, *remarks]},
            )
        return lines

    def _opponent(self, metric: WinRate) -> Callable[[str], tuple[str | None, str]]:
        """Return a function that takes the id of an example and looks up another run's answer to it.

        The function returns two items. The first is the answer of the run with which the win rate compares, or `None`
        if there is none. The second is the reason to report for a missing answer. If the win rate compares with the
        base model or the reference, the first item is always `None`.
        """
        if metric.against in (BASE, REFERENCE):
            return lambda name: (None, "")
        try:
            answers = answers_of(find_run(self.runs_path, metric.against))
        except InstructLabError as error:
            reason = one_line(error)
            return lambda name: (None, reason)
        missing = f"run {metric.against} has no answer to the example"
        return lambda name: (answers.get(name), missing)


@dataclasses.dataclass(frozen=True)
class _Pair:
    """A model's answer, and the opponent's answer to the same prompt.

    The opponent is what the win rate compares with: the base model, the reference or another run.

    Args:
        split: split of the example.
        system: the system that gave the answer: the base model or the tuned model.
        id: id of the example.
        conversation: the prompt as a text.
        answer: the answer.
        opponent: the opponent's answer; `None` if there is none.
        question: the question to the judge; `None` if the answers are equal or the opponent's is missing.
        fault: the reason to report if the opponent's answer is missing.
    """

    split: str
    system: str
    id: str
    conversation: str
    answer: str
    opponent: str | None
    question: Question | None
    fault: str


def _judged_systems(metric: WinRate) -> tuple[str, ...]:
    return (AFTER,) if metric.against == BASE else (BEFORE, AFTER)


def _pairs(
    metric: WinRate,
    split: str,
    system: str,
    systems: Mapping[str, Any],
    conversations: Sequence[Conversation],
    opponent: Callable[[str], tuple[str | None, str]],
) -> Iterable[_Pair]:
    base = systems[BEFORE].predictions if BEFORE in systems else []
    for index, (prediction, conversation) in enumerate(zip(systems[system].predictions, conversations, strict=True)):
        fault = ""
        if metric.against == BASE:
            other, fault = (base[index].text, "") if base else (None, "the untuned model was not measured")
        elif metric.against == REFERENCE:
            other, fault = prediction.references[0] if prediction.references else None, "the row has no reference"
        else:
            other, fault = opponent(prediction.id)
        text = "\n\n".join(f"{message.role}: {message.content}" for message in conversation.prompt)
        question = None
        if other is not None and other != prediction.text:
            shown = prediction.references[0] if metric.shows_reference and prediction.references else None
            question = Question(text, prediction.text, other, shown)
        yield _Pair(split, system, prediction.id, text, prediction.text, other, question, fault)


def answers_of(record: RunRecord) -> dict[str, str]:
    """Return the answers of a run's tuned model, keyed by example id.

    Answers from the run itself take precedence over those from later evaluations of it.
    """
    found: dict[str, str] = {}
    sources = [record.read_results(AFTER) or {}]
    sources += [EvaluationFiles(record, name).read_results() for name in evaluation_names(record)]
    for results in sources:
        for systems in results.values():
            for prediction in systems[AFTER].predictions if AFTER in systems else ():
                found.setdefault(prediction.id, prediction.text)
    return found


def ask(judge: Judge, texts: Sequence[str], cache_path: Path, device: Any) -> dict[str, Reply]:
    """Send texts to a judge, and return its replies.

    A reply with a verdict is kept in the cache, so that the same text is not sent to the same judge again.

    Args:
        judge: the judge.
        texts: the messages to the judge.
        cache_path: the folder of the cache.
        device: the device of a local judge.

    Returns:
        The replies, keyed by text.
    """
    if not texts:
        return {}
    path = cache_path / FOLDER / f"{judge.key(cache_path)}.jsonl"
    known = {str(line.get("question")): str(line.get("reply")) for line in files.read_lines(path)}
    replies = {text: Reply(known[_digest(text)]) for text in texts if _digest(text) in known}
    missing = [text for text in dict.fromkeys(texts) if text not in replies]
    if missing:
        with files.disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with stage(f"asking the judge {judge.label}", len(missing), "question"):
            for index, reply in judge.replies(missing, cache_path, device):
                replies[missing[index]] = reply
                if read_verdict(reply.text) is not None:
                    line = {"question": _digest(missing[index]), "reply": reply.text}
                    files.append_text(path, files.to_json(line) + "\n")
                advance()
    return replies


@functools.lru_cache(maxsize=1 << 16)
def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _joint(replies: tuple[Reply, Reply]) -> Choice | None:
    """Combine the judge's verdicts on a pair of answers, which it saw once in each order.

    The result is a tie if the verdicts contradict each other, and `None` if one of them is missing.
    """
    one, swapped = (read_verdict(reply.text) for reply in replies)
    if one is None or swapped is None:
        return None
    mirrored: dict[Choice, Choice] = {"A": "B", "B": "A", "C": "C"}
    return one if one == mirrored[swapped] else "C"


def _fault(reply: Reply) -> str:
    """Return the reason why a reply has no verdict; an empty text if it has one."""
    return reply.fault or (NO_VERDICT if read_verdict(reply.text) is None else "")


def _missing_note(faults: Counter[str], count: int) -> list[str]:
    """Return a note on how many of `count` pairs were not judged, and why; the list is empty if all were judged."""
    missing = faults.total()
    if not missing:
        return []
    reasons = [f"{number}: {reason}" for reason, number in faults.most_common(NUM_REASONS)]
    more = len(faults) - len(reasons)
    listed = "; ".join([*reasons, *([f"{more} further reasons"] if more > 0 else [])])
    return [f"{missing} of {count} pairs were not judged, and are left out ({listed})"]


def _line(name: str, metric: WinRate, pair: _Pair, replies: Sequence[Reply], votes: Votes) -> VerdictLine:
    shown = ("answer", "opponent")
    return VerdictLine(
        metric=name,
        split=pair.split,
        system=pair.system,
        id=pair.id,
        judge=metric.judge.label,
        against=metric.against,
        question=metric.text(pair.question) if pair.question else "",
        answer=pair.answer,
        opponent=pair.opponent,
        replies=[
            VerdictReply(first, reply.text, read_verdict(reply.text), _fault(reply))
            for first, reply in zip(shown, replies, strict=False)
        ],
        score=votes.score if votes.judged else None,
    )


def _copy_rows(source: str, name: str, results: Results) -> None:
    """Copy the statistics and notes of a win rate to its length-controlled version, which uses the same verdicts.

    Args:
        source: name of the win rate.
        name: name of the length-controlled win rate.
        results: measurements, keyed by split and then by system (base model or tuned model). The copy is stored in this
            mapping.
    """
    for systems in results.values():
        for system, one in systems.items():
            if source in one.rows:
                remarks = {**one.remarks, name: one.remarks.get(source, [])}
                systems[system] = dataclasses.replace(one, rows={**one.rows, name: one.rows[source]}, remarks=remarks)


def asks_judge(metrics: Mapping[str, Metric[Any]]) -> bool:
    """Whether one of the metrics needs the verdicts of a judge."""
    return any(isinstance(metric, WinRate) for metric in metrics.values())

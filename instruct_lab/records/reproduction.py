"""Compare the repetition of a run with the original: the values of every step, the results, answers and weights."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator

from instruct_lab.records.continuations import Change
from instruct_lab.records.occurrences import key_predictions
from instruct_lab.records.record import RunRecord
from instruct_lab.records.schema import Summary

TIMED = frozenset({"step", "epoch", "seconds", "train/target_tokens_per_second"})
"""Entries of `metrics.jsonl` that are not compared, because they are times or positions and not results."""
Key = tuple[int | None, str]
"""Optimizer step (`None`: after training) and name of a value."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """A value that differs between a recorded run and its repetition.

    Args:
        name: name of the value, such as `train/loss`.
        step: optimizer step at which it was measured; `None` for a final result.
        recorded: the value in the recorded run; `None` if it has none.
        reproduced: the value in the repetition; `None` if it has none.
        relative: |recorded - reproduced| / max(|recorded|, |reproduced|); infinite if one of the values is missing.
    """

    name: str
    step: int | None
    recorded: float | None
    reproduced: float | None
    relative: float

    def __str__(self) -> str:
        where = "in the results" if self.step is None else f"at step {self.step}"
        return f"{self.name} {where}: {self.recorded} recorded, {self.reproduced} now"


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """The comparison of a run's repetition with the recorded run, as written to `reproduction.json`.

    Args:
        reproduces: name and id of the recorded run.
        recorded_status: status of the recorded run; if it did not finish, only the values that it has are compared.
        num_values: number of compared values.
        num_different: number of compared values that differ.
        first: the first value that differs; `None` if all values are equal.
        largest: the value with the largest relative difference; `None` if all values are equal.
        num_predictions: number of compared answers.
        num_different_predictions: number of compared answers that differ.
        weights_equal: whether the weights at the end of training are equal to the last bit; `None` if the recorded run
            kept no weights.
        changes: what differs between the two runs in settings, inputs, code, packages and machine.
    """

    reproduces: str
    recorded_status: str
    num_values: int
    num_different: int
    first: Difference | None
    largest: Difference | None
    num_predictions: int
    num_different_predictions: int
    weights_equal: bool | None
    changes: list[Change]

    @property
    def is_identical(self) -> bool:
        """Whether everything that was compared is equal to the last bit."""
        return not self.num_different and not self.num_different_predictions and self.weights_equal is not False

    def __str__(self) -> str:
        compared = f"{self.num_values:,} values and {self.num_predictions:,} answers compared"
        if self.recorded_status != "finished":
            compared += f", as far as the recorded run got ({self.recorded_status})"
        if self.is_identical:
            weights = "" if self.weights_equal is None else ", and the last weights"
            return f"bit-identical to {self.reproduces}: {compared}{weights}"
        lines = [f"differs from {self.reproduces}: {compared}"]
        if self.first is not None and self.largest is not None:
            lines.append(f"{self.num_different:,} values differ; the first is {self.first}")
            where = "" if self.largest.step is None else f" at step {self.largest.step}"
            lines.append(f"largest relative difference: {self.largest.relative:.2g} ({self.largest.name}{where})")
        lines.append(f"{self.num_different_predictions:,} answers differ")
        if self.weights_equal is not None:
            lines.append(f"the last weights {'are equal' if self.weights_equal else 'differ'}")
        lines += [f"different: {change}" for change in self.changes]
        if not self.changes:
            lines.append("settings, inputs, code, packages and machine are the same")
        return "\n".join(lines)


def compare_with_recorded(recorded: RunRecord, reproduced: RunRecord, changes: list[Change]) -> Reproduction:
    """Compare the repetition of a run with the recorded run.

    Args:
        recorded: the record of the run that was repeated.
        reproduced: the record of the repetition.
        changes: what differs between the two runs in settings, inputs, code, packages and machine.
    """
    status = recorded.manifest.status or "unknown"
    old, new = dict(_values(recorded)), dict(_values(reproduced))
    keys = list(dict.fromkeys([*old, *new] if status == "finished" else old))
    different = [
        Difference(name, step, old.get((step, name)), new.get((step, name)), relative)
        for step, name in keys
        if (relative := _relative_difference(old.get((step, name)), new.get((step, name)))) > 0
    ]
    answers, new_answers = _answers(recorded), _answers(reproduced)
    weights, new_weights = _weights_digest(recorded), _weights_digest(reproduced)
    return Reproduction(
        reproduces=f"{recorded.name}/{recorded.id}",
        recorded_status=status,
        num_values=len(keys),
        num_different=len(different),
        first=different[0] if different else None,
        largest=max(different, key=lambda one: one.relative, default=None),
        num_predictions=len(answers),
        num_different_predictions=sum(new_answers.get(key) != text for key, text in answers.items()),
        weights_equal=None if weights is None else weights == new_weights,
        changes=changes,
    )


def _values(record: RunRecord) -> Iterator[tuple[Key, float]]:
    for line in record.read_metrics():
        for name, value in line.items():
            if name not in TIMED:
                yield (line["step"], name), value
    for name, systems in (record.summary or Summary()).metrics.items():
        for system, value in systems.items():
            yield (None, f"{name} ({system})"), value.value


def _relative_difference(first: float | None, second: float | None) -> float:
    """Return |first - second| / max(|first|, |second|).

    The result is 0 if the values are equal or both NaN, and infinite if only one of them is NaN or missing.
    """
    if first is None or second is None:
        return math.inf
    if first == second or (math.isnan(first) and math.isnan(second)):
        return 0.0
    relative = abs(first - second) / max(abs(first), abs(second))
    return math.inf if math.isnan(relative) else relative


def _answers(record: RunRecord) -> dict[tuple[str, object], str]:
    lines = key_predictions(record.read_predictions())
    return {(split, key): line.prediction for split, of_split in lines.items() for key, line in of_split.items()}


def _weights_digest(record: RunRecord) -> str | None:
    """Hash the weight files of the last checkpoint; return `None` if there are none."""
    files = sorted(record.checkpoints_path.glob("last-*/*.safetensors"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest() if files else None

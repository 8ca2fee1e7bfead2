"""Find and sort recorded runs by any value in their records: `tuning=lora optimizer.lr<=1e-3 test/chrf>30`."""

from __future__ import annotations

import dataclasses
import difflib
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from instruct_lab.config.spelling import nearest
from instruct_lab.errors import InstructLabError
from instruct_lab.records.config_file import leaves
from instruct_lab.records.costs import COSTS, costs_of
from instruct_lab.records.locate import DAMAGED, ListedRun, list_runs
from instruct_lab.records.record import RunRecord
from instruct_lab.records.run_settings import recorded_settings

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "~": lambda found, wanted: str(wanted).casefold() in str(found).casefold(),
}
"""The operators between a key and a value; `~` tests whether the run's value contains the text, ignoring case."""
NUM_SIMILAR = 3
TERM = re.compile(r"(?P<key>[^=!<>~\s]+)(?P<sign>!=|<=|>=|=|<|>|~)(?P<value>.*)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Term:
    """One condition on runs.

    Args:
        key: key of the compared value.
        sign: one of `OPERATORS`.
        value: text or number that the run's value is compared with.
    """

    key: str
    sign: str
    value: str

    def holds(self, facts: dict[str, Any]) -> bool:
        """Whether a run meets the condition.

        A value that the run lacks is equal to `null` and `none`, unequal to all others, and never less or greater.
        """
        found = facts.get(self.key)
        if found is None:
            return self.sign in ("=", "!=") and (self.sign == "=") == (self.value in ("null", "none"))
        pair = comparable(found), comparable(self.value)
        if self.sign in ("<", "<=", ">", ">=") and not all(isinstance(side, float) for side in pair):
            return False
        if self.sign != "~" and not all(isinstance(side, float) for side in pair):
            pair = str(pair[0]), str(pair[1])
        return OPERATORS[self.sign](*pair)


@dataclasses.dataclass(frozen=True)
class FoundRun:
    """A run that meets a query.

    Args:
        run: the run's entry in the list of runs.
        values: values of the query's keys; `None` for a key that the run does not have.
    """

    run: ListedRun
    values: dict[str, Any]


def parse_query(texts: Iterable[str]) -> list[Term]:
    """Parse a query into its conditions, all of which must hold.

    Raises:
        InstructLabError: a part of the query is not a condition.
    """
    terms = []
    for text in (part for query in texts for part in query.split()):
        match = TERM.fullmatch(text)
        if match is None:
            raise InstructLabError(
                f"{text!r} is not a condition on runs",
                where="the query",
                do=f"write KEY, one of {' '.join(OPERATORS)}, and a value: status=finished test/chrf>30 name~lora",
            )
        terms.append(Term(match["key"], match["sign"], match["value"]))
    return terms


def find_runs(
    runs_path: Path,
    query: Sequence[str] = (),
    sort: str | None = None,
    reverse: bool = False,
    columns: Sequence[str] = (),
    runs: Sequence[ListedRun] | None = None,
) -> list[FoundRun]:
    """Find the runs that meet a query, with the values of the query's keys.

    Args:
        runs_path: the folder of all records.
        query: conditions on `id`, `name`, `status`, a group's choice, a config key, a metric or a cost.
        sort: key to sort by, smallest value first; runs without the key come last. `None`: oldest run first.
        reverse: whether to reverse the order, so that the largest value or the newest run comes first.
        columns: further keys whose values are returned; they come first in `FoundRun.values`.
        runs: all runs in the folder; `None`: list them.

    Raises:
        InstructLabError: a part of the query is not a condition, or no run has one of its keys.
    """
    terms = parse_query(query)
    runs = list_runs(runs_path) if runs is None else list(runs)  # a copy, because damaged runs are replaced
    keys = list(dict.fromkeys([*columns, *([sort] if sort else []), *(term.key for term in terms)]))
    facts: list[dict[str, Any]] = []
    for index, run in enumerate(runs):
        try:
            facts.append(facts_of(run, keys))
        except InstructLabError as error:  # the list of runs reads no config
            runs[index] = dataclasses.replace(run, status=DAMAGED, note=Path(error.where).name)
            facts.append(facts_of(runs[index], keys))
    if runs:
        _refuse_unknown(keys, facts, runs_path)
    found = [
        FoundRun(run, {key: known.get(key) for key in keys})
        for run, known in zip(runs, facts, strict=True)
        if all(term.holds(known) for term in terms)
    ]
    if sort is None:
        return found[::-1] if reverse else found
    with_key = [one for one in found if not _is_missing(one.values[sort])]
    without_key = [one for one in found if _is_missing(one.values[sort])]
    return sorted(with_key, key=lambda one: _order(one.values[sort]), reverse=reverse) + without_key


def facts_of(run: ListedRun, keys: Sequence[str]) -> dict[str, Any]:
    """Return values of a run, keyed by name; they include the values of the given keys if the run has them.

    If several values have the same name, `id`, `name` and `status` take precedence, then choices, metrics, costs,
    config keys and the last values logged during training, in this order. Costs, config keys and logged values are in
    other files of the record, which are read only if a given key has not been found before.

    Raises:
        InstructLabError: the record is damaged.
    """
    facts = {**run.metrics, **run.choices, "id": run.id, "name": run.name, "status": run.status}
    if run.status != DAMAGED and not facts.keys() >= set(keys):
        record = RunRecord.open(run.path)
        facts = costs_of(record) | facts
        if not facts.keys() >= set(keys):
            facts = (recorded_settings(record) or {}) | facts
        if not facts.keys() >= set(keys):
            facts = dict(leaves(record.config)) | facts
        if any("/" in key and key not in facts for key in keys):
            facts = {name: value for line in record.read_metrics() for name, value in line.items()} | facts
    return facts


def comparable(value: Any) -> Any:
    """Convert a value to a number if possible, and a boolean to the text `true` or `false`."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _order(value: Any) -> tuple[bool, float, str]:
    """Return a sort key that puts numbers before texts."""
    number = comparable(value)
    return (False, number, "") if isinstance(number, float) else (True, 0.0, str(value))


def _refuse_unknown(keys: Iterable[str], facts: list[dict[str, Any]], runs_path: Path) -> None:
    counts = Counter(key for values in facts for key in values)
    for key in keys:
        if key not in counts:
            hints = [f"{name} ({_count_runs(counts[name], len(facts))})" for name in _similar(key, list(counts))]
            first = f"did you mean {hints[0]}? " if hints else ""
            others = f"Similar keys: {', '.join(hints[1:])}. " if hints[1:] else ""
            kinds = f"a group, a full config key, a metric, or one of: id, name, status, {', '.join(COSTS)}"
            raise InstructLabError(
                f"No run has the key {key}",
                where=str(runs_path),
                do=f"{first}{others}A key is {kinds}",
            )


def _similar(key: str, known: list[str]) -> list[str]:
    """Return known keys that resemble an unknown one: first keys with the same last part, then similar spellings."""
    last = re.split(r"[./]", key)[-1]
    spelled = nearest(key, known)
    same_end = [name for name in known if re.split(r"[./]", name)[-1] == last]
    close = difflib.get_close_matches(key, known, n=NUM_SIMILAR, cutoff=0.6)
    return list(dict.fromkeys([*same_end, *([spelled] if spelled else []), *close]))[:NUM_SIMILAR]


def _count_runs(count: int, total: int) -> str:
    return f"in all {total} runs" if count == total else f"in {count} of {total} runs"

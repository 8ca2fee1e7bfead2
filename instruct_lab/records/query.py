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
    """One condition on runs, such as `optimizer.lr<=1e-3`.

    Args:
        key: name of the run's value to compare, such as `optimizer.lr`.
        sign: the operator, such as `<=`.
        value: text or number with which the run's value is compared.
    """

    key: str
    sign: str
    value: str

    def holds(self, facts: dict[str, Any]) -> bool:
        """Whether a run meets the condition.

        If the run has no value for the key, the conditions `=null` and `=none` are met, and so is `!=` with any other
        value; all other conditions are not met.

        Args:
            facts: the run's values, keyed by name.
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
        values: the run's values of the keys that the caller asked for; `None` for a key that the run does not have.
    """

    run: ListedRun
    values: dict[str, Any]


def parse_query(texts: Iterable[str]) -> list[Term]:
    """Split a query into its conditions; a run must meet all of them.

    Args:
        texts: texts such as `tuning=lora test/chrf>30`, with spaces between conditions.

    Raises:
        InstructLabError: a word of the query is not a condition.
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
    """Find the runs that meet a query, and return their values of all keys in `columns`, `sort` and `query`.

    Args:
        runs_path: the folder of all records.
        query: conditions on `id`, `name`, `status`, the option of a group, a config key, a metric or a cost.
        sort: key to sort by, smallest value first; runs without the key come last. `None`: oldest run first.
        reverse: whether to reverse the order, so that the largest value or the newest run comes first.
        columns: additional keys whose values are returned; they come first in `FoundRun.values`.
        runs: all runs in the folder; `None`: read them from the folder.

    Raises:
        InstructLabError: a word of the query is not a condition, or there is a key that no run has.
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
    """Return values of a run, keyed by name; they include the values of those `keys` that the run has.

    If several values have the same name, the first of these is returned: `id`, `name` and `status`, a chosen option, a
    metric, a cost, a config key, the last value in `metrics.jsonl`. Costs, config keys and `metrics.jsonl` are read
    from the record's files only if some of `keys` have not been found before.

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
    """Convert a boolean to the text `true` or `false`, and any other value to a float if possible."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _order(value: Any) -> tuple[bool, float, str]:
    """Return a sort key for a value; it puts numbers before texts."""
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
    """Return the known keys most similar to `key`: first those with the same last component, then similar spellings."""
    last = re.split(r"[./]", key)[-1]
    spelled = nearest(key, known)
    same_end = [name for name in known if re.split(r"[./]", name)[-1] == last]
    close = difflib.get_close_matches(key, known, n=NUM_SIMILAR, cutoff=0.6)
    return list(dict.fromkeys([*same_end, *([spelled] if spelled else []), *close]))[:NUM_SIMILAR]


def _count_runs(count: int, total: int) -> str:
    return f"in all {total} runs" if count == total else f"in {count} of {total} runs"

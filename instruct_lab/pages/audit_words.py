"""Describe in plain words the stages and actions in an audit, the record of what data preparation did to rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from instruct_lab.pages.audit_stages import Stage, parse_stage
from instruct_lab.pages.format import format_number, shorten

DONE = {
    "dropped": "dropped",
    "truncated": "cut to the length limit",
    "changed": "changed",
    "added": "added",
    "reported": "kept as they were, but reported",
}
"""Descriptions of the actions on rows, keyed by action, in the order in which the summary lists them."""
STAGES = {
    ("data", "overlap"): "removal of rows that are also in another split",
    ("data", "limit"): "limits on the number of rows (data.limit)",
    ("preprocessing", "overlap"): "removal of rows that preprocessing made equal to rows of another split",
    ("batching", "batching"): "conversion of rows to tokens",
}
FACTS = {
    "unused_columns": "columns that no conversation uses, with their rows",
    "rows_changed_for": "rows changed, by kind of change",
    "clusters": "groups of duplicate rows",
}
CLUSTERS = {
    "num_clusters": "number of groups",
    "num_rows": "rows in groups",
    "sizes": "groups by number of rows",
    "largest": "largest groups",
}
USES = {"train": "training", "validation": "validation", "test": "testing"}
MAX_REASONS = 3
"""Maximum number of reasons that a sentence of the summary names."""
MAX_REASON = 120
"""Maximum number of characters of a reason in the summary."""


def describe_stage(package: str, name: str) -> str:
    """Describe what a stage does to rows.

    Args:
        package: the package of the stage: data, preprocessing or batching.
        name: name of the stage without the split.
    """
    if (package, name) in STAGES:
        return STAGES[package, name]
    if name.startswith("source "):
        return f"reading of {name}"
    return f"preprocessing step {name}" if package == "preprocessing" else f"{package}: {name}"


def describe_fact(name: str) -> str:
    """Describe in words a value in the `facts` of `audit.json`, given its key.

    Args:
        name: the key, such as `clusters`; it can also be the name of a stage, with or without a split.
    """
    if "/" not in name:
        return FACTS.get(name, name.replace("_", " "))
    package, split, rest = parse_stage(name)
    return describe_stage(package, rest) + (f", {split}" if split else "")


def describe_entries(value: Any) -> Any:
    """Replace the keys of a dictionary in an audit's `facts` by readable names; return other types unchanged."""
    if not isinstance(value, dict):
        return value
    return {FACTS.get(name, name): _describe_clusters(inner) for name, inner in value.items()}


def _describe_clusters(value: Any) -> Any:
    """Replace the keys of a report on clusters of duplicate rows by readable names.

    Other values are returned unchanged.
    """
    is_report = isinstance(value, dict) and set(value) == set(CLUSTERS)
    return {CLUSTERS[name]: inner for name, inner in value.items()} if is_report else value


def is_empty(value: Any) -> bool:
    """Whether a value of an audit has nothing to show: it is empty or zero, or a container of such values."""
    return (
        all(map(is_empty, value.values() if isinstance(value, dict) else value))
        if isinstance(value, dict | list)
        else not value
    )


def describe_rows(action: str, count: int) -> str:
    """Describe how many rows an action was applied to, such as `3 rows dropped`."""
    return f"{count:,} {'row' if count == 1 else 'rows'} {_describe_action(action, count)}"


def _describe_action(action: str, count: int) -> str:
    text = DONE.get(action, action)
    return text.replace("they were", "it was") if count == 1 else text


def summarize(stages: Sequence[Stage], facts: Mapping[str, Any]) -> list[str]:
    """Summarize an audit in sentences: how many examples resulted, and how many rows were dropped or changed, and why.

    Args:
        stages: the stages of the audit.
        facts: the `facts` of `audit.json`; its entry `examples`, if present, has the number of examples of each split.
    """
    return [*_examples(facts.get("examples")), *_actions(stages)]


def _examples(examples: Any) -> Iterator[str]:
    if not isinstance(examples, dict):
        return
    counts = [f"{format_number(count)} for {USES.get(split, split)}" for split, count in examples.items()]
    total = sum(count for count in examples.values() if isinstance(count, int))
    if counts:
        yield f"The data gave {total:,} {'example' if total == 1 else 'examples'}: {', '.join(counts)}."


def _actions(stages: Sequence[Stage]) -> Iterator[str]:
    counts: dict[str, Counter[str]] = {}
    for stage in stages:
        for reason in stage.reasons:
            counts.setdefault(reason.action, Counter())[shorten(reason.reason, MAX_REASON)] += reason.count
    if not counts:
        yield "Every row was kept as it was."
    for action in [*DONE, *(action for action in counts if action not in DONE)]:
        if action not in counts:
            continue
        reasons = counts[action].most_common()
        named = "; ".join(f"{reason} ({count:,})" for reason, count in reasons[:MAX_REASONS])
        num_left = len(reasons) - MAX_REASONS
        left = f"; and {num_left} more reason{'s' * (num_left > 1)}" if num_left > 0 else ""
        total = sum(counts[action].values())
        verb = "was" if total == 1 else "were"
        done = _describe_action(action, total)
        yield f"{total:,} {'row' if total == 1 else 'rows'} {verb} {done}: {named}{left}."

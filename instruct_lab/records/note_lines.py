"""Formatting of the notes on measured values, as lines for printing below a table of results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from instruct_lab.metrics import MetricValue
from instruct_lab.records.schema import AFTER, DIFFERENCE


def note_lines(
    metrics: Mapping[str, Mapping[str, MetricValue]], prefix: str, headings: Mapping[str, str]
) -> Iterator[str]:
    """Yield lines with the notes on the values in a table; metrics with the same note on the same systems share a line.

    Each line begins with the metrics and systems to which its note applies. The table's intervals may come from
    resampling clusters of related examples. If resampling single examples gives clearly different intervals, a last
    line lists these.

    Args:
        metrics: values, keyed by `split/metric` and then by system (such as `before` or `after`).
        prefix: only metrics whose name starts with this text are included, such as `val/`.
        headings: the displayed name of each system.
    """
    systems_of: dict[str, list[str]] = {}
    about: dict[str, dict[tuple[str, ...], list[str]]] = {}  # metrics by note and then by systems
    for full_name, values in metrics.items():
        if not full_name.startswith(prefix):
            continue
        name = full_name.removeprefix(prefix)
        systems_of[name] = [system for system in values if system != DIFFERENCE]
        for note in dict.fromkeys(note for system in systems_of[name] for note in values[system].notes):
            systems = tuple(system for system in systems_of[name] if note in values[system].notes)
            about.setdefault(note, {}).setdefault(systems, []).append(name)
    for note, groups in about.items():
        for systems, names in groups.items():
            which = "all metrics" if len(names) == len(systems_of) > 1 else ", ".join(names)
            if any(len(systems) < len(systems_of[name]) for name in names):
                which += f" ({', '.join(headings.get(system, system) for system in systems)})"
            yield f"{which}: {note}"
    yield from _example_intervals(metrics, prefix, headings)


def _example_intervals(
    metrics: Mapping[str, Mapping[str, MetricValue]], prefix: str, headings: Mapping[str, str]
) -> Iterator[str]:
    """Yield a line with the confidence intervals that ignore clusters (groups of related examples).

    The intervals in the table come from resampling whole clusters. The line lists the intervals from resampling single
    examples, for values whose two intervals clearly differ (only these have a field `by_example`). If there are no such
    values, nothing is yielded.
    """
    listed = []
    for full_name, values in metrics.items():
        for system in (AFTER, DIFFERENCE):
            value = values.get(system)
            if full_name.startswith(prefix) and value is not None and value.by_example is not None:
                low, high = value.by_example
                listed.append(
                    f"{full_name.removeprefix(prefix)} {headings.get(system, system)} [{low:.2f}, {high:.2f}]"
                )
    if listed:
        yield f"intervals resample whole clusters (data.cluster); over single examples: {', '.join(listed)}"

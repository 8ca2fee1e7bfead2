"""An audit as one self-contained HTML page: what became of every row, with samples, and of what length the rest is."""

from __future__ import annotations

from typing import Any

from instruct_lab.pages.audit_stages import ACTIONS, SPLITS, Reason, Sample, Stage, read_stages
from instruct_lab.pages.facts import fact
from instruct_lab.pages.format import format_number
from instruct_lab.pages.histogram import histogram_svg, is_histogram, share_svg
from instruct_lab.pages.page import Html, element, folded, joined, page, search_box, section, table
from instruct_lab.pages.word_difference import word_difference

REASON_BYTES, FACT_BYTES = 450_000, 200_000
"""Of reasons with their samples, and of facts; `audit.json` has what is left out, and the page says so."""
MAX_STAGES, MAX_REASONS = 300, 500
TOKEN_NAMES = {
    "examples": "examples",
    "tokens": "tokens",
    "target_tokens": "target tokens",
    "target_share": "target share",
    "truncated": "truncated",
    "median": "median length",
    "longest": "longest",
    "padding_share": "padding share",
}
TOLD_ELSEWHERE = {"tokens", "sources", "splits", "examples", "target_tokens"}


def audit_page(audit: dict[str, Any], title: str) -> str:
    """The page; nothing from the data is taken for markup, and no request leaves it.

    Args:
        audit: the content of `audit.json`.
        title: names the run or the data set.

    Returns:
        An HTML document of less than a megabyte for any audit.
    """
    stages = read_stages(audit)
    facts: dict[str, Any] = audit.get("facts", {})
    return page(
        title,
        element("p", _summary(stages, facts), class_="dim"),
        section("Rows by stage", _funnel(stages)),
        section("Reasons", search_box("search reasons, samples and facts"), _reasons(stages)),
        _tokens(facts.get("tokens") or {}),
        _sources(facts.get("sources") or {}),
        _facts({name: value for name, value in facts.items() if name not in TOLD_ELSEWHERE}),
    )


def _summary(stages: list[Stage], facts: dict[str, Any]) -> str:
    done = [f"{count:,} {action}" for action in ACTIONS if (count := sum(stage.count(action) for stage in stages))]
    examples = facts.get("examples")
    counts = (
        ", ".join(f"{split} {format_number(n)}" for split, n in examples.items()) if isinstance(examples, dict) else ""
    )
    shown = f"Rows {', '.join(done)}." if done else "Every row was kept as it was."
    return f"{shown} Examples: {counts}." if counts else shown


# ---- rows


def _funnel(stages: list[Stage]) -> Html:
    splits = [split for split in SPLITS if any(split in stage.counts for stage in stages)]
    most = max((stage.rows[0] for stage in stages), default=0) or 1
    rows = []
    actions = [action for action in ACTIONS if any(stage.count(action) for stage in stages)]
    counted = [stage for stage in stages if stage.counts]
    for stage in counted[:MAX_STAGES]:
        rows_in, rows_out = stage.rows
        bar = share_svg(rows_out / most, f"{rows_out:,} rows go on")
        whole = [_arrow(stage.counts.get("")) if "" in stage.counts else _arrow(stage.rows)]
        by_split = [_arrow(stage.counts.get(split)) for split in splits]
        kept = f"{100 * rows_out / rows_in:.3g}\u00a0%" if rows_in else "–"
        done = [stage.count(action) or None for action in actions]
        rows.append([stage.room, stage.name, *whole, bar, kept, *by_split, *done])
    if not rows:
        return element("p", "No stage counted rows.")
    headers = ["room", "stage", "rows", "", "go on", *splits, *actions]
    more = f"and {len(counted) - len(rows):,} more stages in audit.json"
    return joined([table(headers, rows), *([element("p", more)] if len(counted) > len(rows) else [])])


def _arrow(counts: tuple[int, int] | None) -> str:
    if counts is None:
        return "–"
    rows_in, rows_out = counts
    return f"{rows_in:,}" if rows_in == rows_out else f"{rows_in:,}\u00a0→\u00a0{rows_out:,}"


# ---- reasons


def _reasons(stages: list[Stage]) -> Html:
    found = [(stage, reason) for stage in stages for reason in stage.reasons]
    if not found:
        return element("p", "Nothing was dropped, changed or truncated.")
    told = [(_told(stage, reason), reason) for stage, reason in found[:MAX_REASONS]]
    left = REASON_BYTES - sum(len(summary.encode()) for summary, _ in told)  # every reason comes before any sample
    parts = []
    for summary, reason in told:
        samples: list[Html] = []
        for sample in reason.samples if left > 0 else ():
            samples.append(_sample(sample))
            left -= len(samples[-1].encode())
        missing = len(reason.samples) - len(samples)
        note = [element("p", f"{missing} more in audit.json", class_="dim")] if missing else []
        parts.append(folded(summary, *samples, *note, class_="sought"))
    if len(found) > len(told):
        parts.append(element("p", f"and {len(found) - len(told):,} more reasons in audit.json"))
    return joined(parts)


def _told(stage: Stage, reason: Reason) -> Html:
    by_split = ", ".join(f"{split} {count:,}" for split, count in reason.counts.items() if split)
    place = f"{stage.room} · {stage.name}" + (f" · {by_split}" if by_split else "")
    count = element("strong", f"{reason.action} {reason.count:,}")
    return joined([count, element("span", f" {reason.reason} "), element("span", place, class_="dim")])


def _sample(sample: Sample) -> Html:
    if sample.after is None:
        return element("div", element("div", sample.before, class_="text"), class_="pair")
    before, after = word_difference(sample.before, sample.after)
    return element("div", element("div", before, class_="text"), element("div", after, class_="text"), class_="pair")


# ---- tokens, sources, facts


def _tokens(tokens: dict[str, dict[str, Any]]) -> Html:
    if not tokens:
        return Html("")
    told = {key for split in tokens.values() for key, value in split.items() if not isinstance(value, dict | list)}
    keys = [*(key for key in TOKEN_NAMES if key in told), *sorted(told - set(TOKEN_NAMES))]
    rows = [[split, *(counts.get(key) for key in keys)] for split, counts in tokens.items()]
    figures = []
    for split, counts in tokens.items():
        for key, label in (("lengths", "tokens of an example"), ("target_lengths", "target tokens of an example")):
            if is_histogram(counts.get(key)) and any(counts[key]["counts"]):
                figures.append(histogram_svg(counts[key], f"{split}: {label}", "tokens"))
    names = [TOKEN_NAMES.get(key, key.replace("_", " ")) for key in keys]
    return section("Tokens", table(["split", *names], rows), element("div", *figures, class_="figures"))


def _sources(sources: dict[str, dict[str, int]]) -> Html:
    if not sources:
        return Html("")
    return section("Sources", *(element("div", element("h3", split), fact(told)) for split, told in sources.items()))


def _facts(facts: dict[str, Any]) -> Html:
    parts, left = [], FACT_BYTES
    for name, value in facts.items():
        shown = folded(name, fact(value, name), class_="sought", is_open=True)
        size = len(shown.encode())
        if size > left:
            shown, size = element("p", f"{name}: too long for this page, see audit.json", class_="sought"), 0
        left -= size
        parts.append(shown)
    return section("Facts", *parts) if parts else Html("")

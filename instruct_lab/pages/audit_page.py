"""Rendering of an audit (the record of data preparation) as a self-contained HTML page.

The page shows changes to rows, with samples, and the lengths of examples.
"""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from instruct_lab.pages.audit_stages import ACTIONS, SPLITS, Reason, Sample, Stage, read_stages
from instruct_lab.pages.audit_words import (
    describe_entries,
    describe_fact,
    describe_rows,
    describe_stage,
    is_empty,
    summarize,
)
from instruct_lab.pages.facts import render_fact
from instruct_lab.pages.format import format_percent
from instruct_lab.pages.histogram import histogram_svg, is_histogram, share_bar
from instruct_lab.pages.render import PERCENT, render_page, render_part, render_table
from instruct_lab.pages.word_difference import Words, word_difference

TEMPLATE = "pages/templates/audit.html"
REASON_BYTES, FACT_BYTES = 450_000, 200_000
"""Size limits, in bytes, for the reasons with their samples and for the facts on the page.

The page gives the number of reasons and samples that it leaves out, and names the facts that are too long; the file
`audit.json` has all of them.
"""
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
LENGTHS = {"lengths": "tokens of an example", "target_lengths": "target tokens of an example"}
ACTION_HEADINGS = {action: "cut" if action == "truncated" else action for action in ACTIONS}
SECTIONS = {"tokens", "sources", "splits", "examples", "target_tokens"}
"""Facts that are not listed with the other facts, because a section of the page shows them."""


def audit_page(audit: dict[str, Any], title: str) -> str:
    """Render an audit as an HTML page; all data is escaped, and the page makes no requests.

    Args:
        audit: the content of a run's `audit.json`.
        title: name of the run or the data set.

    Returns:
        An HTML document of less than a megabyte for any audit.
    """
    return render_page(TEMPLATE, title, audit=audit_values(audit))


def audit_values(audit: dict[str, Any]) -> dict[str, Any]:
    """Compute the values that the template `audit_sections.html` shows about an audit.

    Args:
        audit: the content of `audit.json`.
    """
    stages = read_stages(audit)
    counted = [stage for stage in stages if stage.counts]
    reasons = [(stage, reason) for stage in stages for reason in stage.reasons]
    facts: dict[str, Any] = audit.get("facts", {})
    tokens: dict[str, dict[str, Any]] = facts.get("tokens") or {}
    return {
        "summary": summarize(stages, facts),
        "stages": _stage_table(stages, counted[:MAX_STAGES]),
        "num_stages_left": len(counted[MAX_STAGES:]),
        "reasons": _render_reasons(reasons[:MAX_REASONS]),
        "num_reasons_left": len(reasons[MAX_REASONS:]),
        "tokens": _token_table(tokens),
        "figures": _length_figures(tokens),
        "sources": {split: render_fact(counts) for split, counts in (facts.get("sources") or {}).items()},
        "facts": _render_facts({name: value for name, value in facts.items() if name not in SECTIONS}),
    }


# ---- rows


def _stage_table(stages: list[Stage], counted: list[Stage]) -> Markup:
    """Build the table of how many rows entered and left each stage; return empty markup if no stage counted rows.

    Args:
        stages: all stages; the largest number of rows before any stage is shown as a full bar.
        counted: the stages with numbers of rows, each of which becomes a row of the table.
    """
    if not counted:
        return Markup()
    splits = [split for split in SPLITS if any(split in stage.counts for stage in stages)]
    actions = [action for action in ACTIONS if any(stage.count(action) for stage in stages)]
    highest = max(stage.rows[0] for stage in stages) or 1
    rows = []
    for stage in counted:
        rows_in, rows_out = stage.rows
        rows.append(
            [
                describe_stage(stage.package, stage.name),
                _format_rows(stage.counts.get("", stage.rows)),
                share_bar(rows_out / highest, f"{rows_out:,} rows kept"),
                _percent(rows_out / rows_in) if rows_in else None,
                *(_format_rows(stage.counts.get(split)) for split in splits),
                *(stage.count(action) or None for action in actions),
            ]
        )
    return render_table(
        ["step", "rows before → after", "", "kept", *splits, *(ACTION_HEADINGS[action] for action in actions)], rows
    )


def _format_rows(counts: tuple[int, int] | None) -> str:
    if counts is None:
        return "–"
    rows_in, rows_out = counts
    return f"{rows_in:,}" if rows_in == rows_out else f"{rows_in:,}\u00a0→\u00a0{rows_out:,}"


# ---- reasons


def _render_reasons(reasons: list[tuple[Stage, Reason]]) -> list[tuple[Markup, list[Markup], int]]:
    """Render each reason for an action on rows, with samples of these rows.

    Samples are left out once the summaries and samples of all reasons are larger than `REASON_BYTES` bytes.

    Returns:
        For each reason: its summary, the rendered samples, and the number of samples that are left out.
    """
    summaries = [_reason_summary(stage, reason) for stage, reason in reasons]
    left = REASON_BYTES - sum(len(summary.encode()) for summary in summaries)  # summaries come before samples
    rendered = []
    for summary, (_, reason) in zip(summaries, reasons, strict=True):
        samples: list[Markup] = []
        for sample in reason.samples if left > 0 else ():
            samples.append(_render_sample(sample))
            left -= len(samples[-1].encode())
        rendered.append((summary, samples, len(reason.samples) - len(samples)))
    return rendered


def _reason_summary(stage: Stage, reason: Reason) -> Markup:
    by_split = ", ".join(f"{split} {count:,}" for split, count in reason.counts.items() if split)
    context = describe_stage(stage.package, stage.name) + (f" · {by_split}" if by_split else "")
    return render_part("reason_summary", describe_rows(reason.action, reason.count), reason.reason, context)


def _render_sample(sample: Sample) -> Markup:
    if sample.after is None:
        return render_part("sample", [Words(sample.before)], None, sample.where)
    return render_part("sample", *word_difference(sample.before, sample.after), sample.where)


# ---- tokens and facts


def _token_table(tokens: dict[str, dict[str, Any]]) -> Markup:
    """Build the table of token counts by split; return empty markup if the audit has no token counts."""
    if not tokens:
        return Markup()
    known = {key for counts in tokens.values() for key, value in counts.items() if not isinstance(value, dict | list)}
    keys = [*(key for key in TOKEN_NAMES if key in known), *sorted(known - set(TOKEN_NAMES))]
    names = [TOKEN_NAMES.get(key, key.replace("_", " ")) for key in keys]
    rows = [[split, *(_token_cell(key, counts.get(key)) for key in keys)] for split, counts in tokens.items()]
    return render_table(["split", *names], rows)


def _token_cell(key: str, value: Any) -> Any:
    is_share = key.endswith(("_share", "_efficiency")) and isinstance(value, float)
    return _percent(value) if is_share else value


def _percent(share: float) -> str:
    return format_percent(share).replace(" %", PERCENT)


def _length_figures(tokens: dict[str, dict[str, Any]]) -> list[Markup]:
    return [
        histogram_svg(counts[key], f"{split}: {label}", "tokens")
        for split, counts in tokens.items()
        for key, label in LENGTHS.items()
        if is_histogram(counts.get(key)) and any(counts[key]["counts"])
    ]


def _render_facts(facts: dict[str, Any]) -> list[Markup]:
    """Render each value in an audit's `facts`; a value that is too long is replaced by a reference to `audit.json`."""
    rendered, left = [], FACT_BYTES
    for name, value in facts.items():
        if is_empty(value):
            continue
        fact = render_part("searchable", describe_fact(name), render_fact(describe_entries(value), name), True)
        size = len(fact.encode())
        if size > left:
            fact = render_part(
                "paragraph", f"{describe_fact(name)}: too long for this page, see audit.json", "searchable"
            )
            size = 0
        left -= size
        rendered.append(fact)
    return rendered

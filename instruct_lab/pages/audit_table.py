"""Printing of an audit, the record of what data preparation did to rows, as a short table in the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from instruct_lab.batching.base import SETTING, STAGE
from instruct_lab.pages.audit_stages import SPLITS, Reason, Stage, read_stages
from instruct_lab.pages.change_samples import list_changes
from instruct_lab.pages.format import format_count, format_number, format_percent
from instruct_lab.pages.histogram import sparkline
from instruct_lab.terminal import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MAX_STAGES = 12
"""Maximum number of rows of the table; if there are more stages, several stages share a row."""
MAX_REASONS = 3
MAX_LINES = 18
"""Maximum number of lines in the table; if it would have more, only one reason is printed for each stage."""
LAYOUT: dict[str, Any] = {"box": None, "padding": (0, 2, 0, 0), "pad_edge": False, "header_style": "dim"}
STYLES = {"dropped": "red", "truncated": "yellow", "added": "green"}


def show(console: Console, audit: dict[str, Any]) -> None:
    """Print the changes to the rows, the token counts, the unused columns, and the warnings of an audit.

    The changes are a table of the stages that changed, dropped, added or reported rows, and samples of changed rows.
    If there is no such stage, one line says that every row was kept as it was, and gives the numbers of examples and
    tokens.

    Args:
        console: the console, which may be narrow or lack Unicode.
        audit: the content of `audit.json`.
    """
    stages = _limit_stages([stage for stage in read_stages(audit) if stage.did_something])
    tokens: dict[str, Any] = audit.get("facts", {}).get("tokens", {})
    ascii_only = console.options.ascii_only
    if not stages:
        console.out(_to_encoding(f"data: {_describe_unchanged(tokens)}", console), highlight=False)
    else:
        console.print(_stage_table(stages, console))
        show_changes(console, audit)
    if stages and tokens:
        console.print()
        console.print(_token_table(tokens, ascii_only))
    show_unused_columns(console, audit)
    for warning in audit.get("facts", {}).get("warnings", []):
        console.print(_to_encoding(f"warning: {warning}", console), style="yellow", markup=False, highlight=False)


def show_changes(console: Console, audit: dict[str, Any]) -> None:
    """Print samples of every kind of change, in lines cut at the width of the console."""
    ascii_only = console.options.ascii_only
    lines = list_changes(read_stages(audit), "->" if ascii_only else "→", console.width)
    if lines:
        console.out("changed rows, before and after:", highlight=False)
    for line in lines:
        text, dots = _to_encoding(line, console), "..." if ascii_only else "…"
        is_short = len(text) <= console.width
        console.out(text if is_short else f"{text[: console.width - len(dots)]}{dots}", highlight=False)


def show_unused_columns(console: Console, audit: dict[str, Any]) -> None:
    """Print one line that lists the columns that no conversation uses, if there are any."""
    facts = [facts for facts in audit.get("facts", {}).values() if isinstance(facts, dict)]
    names = dict.fromkeys(name for found in facts for name in found.get("unused_columns", ()))
    if names:
        listed = ", ".join(visible(name) for name in names)
        console.out(_to_encoding(f"columns not used: {listed} (kept as metadata)", console), highlight=False)


def show_length_limits(console: Console, audit: dict[str, Any]) -> None:
    """Print how many examples were cut or dropped because they exceed the limit `batching.max_tokens`."""
    for stage in read_stages(audit):
        for reason in stage.reasons:
            if stage.package == STAGE and SETTING in reason.reason:
                counts = f"{reason.action} {reason.count:,} of {stage.rows[0]:,} examples"
                console.out(_to_encoding(f"{counts}: {visible(reason.reason)}", console), highlight=False)


def _describe_unchanged(tokens: dict[str, Any]) -> str:
    counts = ", ".join(
        f"{split} {format_number(numbers['examples'])} examples, {format_number(numbers['tokens'])} tokens, "
        f"{format_percent(numbers.get('target_share'))} targets"
        for split, numbers in tokens.items()
        if numbers.get("examples")
    )
    return "every row kept as it was" + (f"; {counts}" if counts else "")


def _limit_stages(stages: list[Stage]) -> list[Stage]:
    """Merge stages if there are more than `MAX_STAGES`.

    First, the stages of all data sources are merged into one. If there are still too many stages, those that acted on
    the fewest rows are merged into one.
    """
    stages = _merge_sources(stages)
    if len(stages) <= MAX_STAGES:
        return stages
    by_rows = sorted(stages, key=lambda stage: -sum(reason.count for reason in stage.reasons))
    most, least = by_rows[: MAX_STAGES - 1], by_rows[MAX_STAGES - 1 :]
    merged = Stage("", f"{len(least)} more stages")
    merged.reasons = [_sum_reasons(reason for stage in least for reason in stage.reasons)]
    return [*(stage for stage in stages if stage in most), merged]


def _sum_reasons(reasons: Iterable[Reason]) -> Reason:
    total = Reason("touched", "rows: see audit.json")
    total.counts[""] = sum(reason.count for reason in reasons)
    return total


def _merge_sources(stages: list[Stage]) -> list[Stage]:
    sources = [stage for stage in stages if stage.name.startswith("source ")]
    if len(stages) <= MAX_STAGES or len(sources) < 2:
        return stages
    merged = Stage("data", f"{len(sources)} sources")
    for source in sources:
        for split, (rows_in, rows_out) in source.counts.items():
            known = merged.counts.get(split, (0, 0))
            merged.counts[split] = (known[0] + rows_in, known[1] + rows_out)
        for reason in source.reasons:
            same = (r for r in merged.reasons if (r.action, r.reason) == (reason.action, reason.reason))
            known_reason = next(same, None)
            if known_reason is None:
                merged.reasons.append(known_reason := Reason(reason.action, reason.reason))
            for split, count in reason.counts.items():
                known_reason.counts[split] = known_reason.counts.get(split, 0) + count
    merged.reasons.sort(key=lambda reason: -reason.count)
    return [merged, *(stage for stage in stages if stage not in sources)]


def _stage_table(stages: list[Stage], console: Console) -> Table:
    from rich.table import Column, Table
    from rich.text import Text

    splits = [split for split in SPLITS if any(split in stage.counts for stage in stages)]
    rows_title = Column(" / ".join(splits) or "rows", overflow="fold")
    arrow = "->" if console.options.ascii_only else "→"
    grid = Table("stage", rows_title, "what was done", **LAYOUT)
    brief = sum(max(1, min(len(stage.reasons), MAX_REASONS + 1)) for stage in stages) > MAX_LINES
    for stage in stages:
        done = Text()
        num_shown = 1 if brief else MAX_REASONS
        for reason in stage.reasons[:num_shown]:
            done.append(f"{reason.action} {reason.count:,}", style=STYLES.get(reason.action, ""))
            done.append(_to_encoding(f" {visible(reason.reason)}" + ("" if brief else "\n"), console))
        if left := stage.reasons[num_shown:]:
            done.append(
                f"{'; ' if brief else ''}{sum(reason.count for reason in left):,} rows for {len(left)} more reasons"
            )
        if not stage.reasons:
            rows_in, rows_out = stage.rows
            done.append(f"left out {rows_in - rows_out:,}" if rows_out <= rows_in else f"added {rows_out - rows_in:,}")
        done.rstrip()
        grid.add_row(Text(_to_encoding(visible(stage.name), console)), _format_rows(stage, splits, arrow), done)
    return grid


def _format_rows(stage: Stage, splits: list[str], arrow: str) -> str:
    """Format the numbers of rows before and after a stage for each split, such as `512→510 / 128 / -`.

    A split in which both numbers are equal gets one number, and a split that the stage does not process gets a dash.
    """
    shown = {
        split: f"{rows_in:,}" if rows_in == rows_out else f"{rows_in:,}{arrow}{rows_out:,}"
        for split, (rows_in, rows_out) in stage.counts.items()
    }
    if "" in shown:
        return shown[""]
    return " / ".join(shown.get(split, "-") for split in splits)


def _token_table(tokens: dict[str, Any], ascii_only: bool) -> Table:
    from rich.table import Column, Table
    from rich.text import Text

    titles = ("examples", "tokens", "targets", "cut", "longest", "padding")
    numbers = (Column(title, justify="right", no_wrap=True) for title in titles)
    grid = Table(Column("split", no_wrap=True), *numbers, Column("lengths", no_wrap=True), **LAYOUT)
    for split, numbers in tokens.items():
        lengths = (numbers.get("lengths") or {}).get("counts", [])
        grid.add_row(
            Text(split),
            *(format_count(numbers.get(key)) for key in ("examples", "tokens")),
            format_percent(numbers.get("target_share")),
            *(format_count(numbers.get(key)) for key in ("truncated", "longest")),
            format_percent(numbers.get("padding_share")),
            sparkline(lengths, 15, ascii_only=ascii_only),
        )
    return grid


def _to_encoding(text: str, console: Console) -> str:
    """Escape the characters that the terminal's encoding cannot represent."""
    encoding = console.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding, "replace")

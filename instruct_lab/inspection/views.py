"""Printing of inspected rows in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from instruct_lab.data.conversation import format_label
from instruct_lab.inspection.inspected import Cut, InspectedRow
from instruct_lab.terminal import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from instruct_lab.batching.token_spans import Span

TRAINED = ("bold black on green3", "bold black on pale_green3")
UNTRAINED = ("", "white on grey27")  # readable on dark and light backgrounds
SPECIAL, SPECIAL_TRAINED = "reverse dim", "bold reverse green"
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
ASCII_SIGNS = str.maketrans(
    {"⟦": "[[", "⟧": "]]", "⟨": "<", "⟩": ">", "↵": "\\n", "⇥": "\\t", "✂": "...", "→": "->", "─": "-", "·": "|"}
    | {sign: f"_{digit}" for digit, sign in enumerate("₀₁₂₃₄₅₆₇₈₉")}
)
"""ASCII replacements for the signs that a terminal without Unicode cannot print."""


def describe(row: InspectedRow) -> str:
    """Describe an example or a dropped row in one line: split, index, id, source, file and line, number of tokens."""
    parts = [" ".join([row.split or "all splits", *([str(row.index)] if row.index is not None else [])])]
    if row.example.id:
        parts.append(f"id {row.example.id}")
    if row.source:
        parts.append(f"source {row.source}")
    if row.where:
        parts.append(row.where)
    tokens, targets = len(row.example.input_ids), row.example.num_target_tokens
    if tokens and "decoder writes" in row.further:
        parts.append(f"{tokens:,} tokens read, {targets:,} written")
    elif tokens:
        parts.append(f"{tokens:,} tokens, {targets:,} trained ({100 * targets / tokens:.0f} %)")
    if row.example.desirable is not None:
        parts.append(f"label {format_label(row.example.desirable)}")
    if row.cuts:
        parts.append(f"{sum(cut.tokens for cut in row.cuts):,} tokens cut out")
    if row.dropped is not None:
        parts.append(f"dropped at {row.stage}: {row.dropped}")
    return " · ".join(parts)


# ---- terminal


def print_inspected(console: Console, rows: Sequence[InspectedRow], *, ids: bool) -> None:
    """Print a legend and the rows; target tokens and special tokens are marked by colours.

    If the terminal shows no colours, they are marked by brackets.

    Args:
        console: the terminal.
        rows: the rows.
        ids: whether to print the ids of the tokens.
    """
    from rich.text import Text

    plain = console.color_system is None or console.no_color
    if any(row.spans for row in rows):
        console.print(_legend(plain, console), soft_wrap=True)
    for row in rows:
        heading = _printable(f"── {visible(describe(row))}", console)
        console.print(Text(f"\n{heading}", style="bold"), soft_wrap=True)
        if row.spans:
            console.print(_Writer(plain, ids, console).write(with_cuts(row)), soft_wrap=True)
            for name, spans in row.further.items():
                console.print(Text(f"{name}:", style="dim"), soft_wrap=True)
                console.print(_Writer(plain, ids, console).write((span, None) for span in spans), soft_wrap=True)
        else:
            console.print(Text(_printable(visible(row.text), console)), soft_wrap=True)


def _legend(plain: bool, console: Console) -> Text:
    from rich.text import Text

    if plain:
        return Text(_printable("⟦trained⟧  ⟨special token⟩  ↵ line break  ✂ cut", console))
    legend = Text()
    legend.append("trained", style=TRAINED[0])
    legend.append("  ")
    legend.append("special token", style=SPECIAL)
    legend.append("  ")
    legend.append("special token, trained", style=SPECIAL_TRAINED)
    signs = "  shades change at token borders  ↵ line break  ✂ cut"
    return legend.append(_printable(signs, console), style="dim")


class _Writer:
    """Collects the text of a row, token by token, and marks target tokens and special tokens.

    They are marked by colours or, if the terminal shows none, by brackets.
    """

    def __init__(self, plain: bool, ids: bool, console: Console) -> None:
        from rich.text import Text

        self._plain, self._ids, self._console = plain, ids, console
        self._text = Text()
        self._shade = 0
        self._is_open = False

    def write(self, parts: Iterable[tuple[Span | None, Cut | None]]) -> Text:
        for span, cut in parts:
            if cut is not None:
                self._append(f"✂ {cut.tokens:,} tokens cut ", "bold red")
            if span is not None:
                self._mark(span.trained)
                self._span(span)
        self._mark(False)
        return self._text

    def _mark(self, trained: bool) -> None:
        if self._plain and trained is not self._is_open:
            self._append("⟦" if trained else "⟧", "")
        self._is_open = trained

    def _span(self, span: Span) -> None:
        self._shade = 1 - self._shade
        text = _signs(span.text)
        if span.predicts:
            text = f"{text}→{_signs(span.predicts)}"
        if span.special:
            self._append(f"⟨{text}⟩" if self._plain else text, SPECIAL_TRAINED if span.trained else SPECIAL)
        else:
            self._append(text, (TRAINED if span.trained else UNTRAINED)[self._shade])
        if self._ids:
            self._append(",".join(map(str, span.ids)).translate(SUBSCRIPTS), "dim")
        if span.text.endswith("\n"):
            self._append("\n", "")

    def _append(self, text: str, style: str) -> None:
        self._text.append(_printable(text, self._console), style=style)


def _signs(text: str) -> str:
    """Show tabs and line breaks as visible signs, and remove a line break at the end of the text."""
    whole = visible(text).replace("\t", "⇥\t").replace("\n", "↵\n")
    return whole.removesuffix("\n")


def _printable(text: str, console: Console) -> str:
    """Replace the characters that the terminal's encoding cannot write by ASCII signs or escape sequences."""
    encoding = console.encoding or "utf-8"
    if console.options.ascii_only:
        text = text.translate(ASCII_SIGNS)
    return text.encode(encoding, "backslashreplace").decode(encoding, "replace")


def with_cuts(row: InspectedRow) -> Iterable[tuple[Span | None, Cut | None]]:
    """Yield each span of a row with the `Cut` just before it, or with `None` if no tokens were cut out there.

    Cuts after the last span are yielded at the end, with `None` instead of a span.
    """
    waiting = sorted(row.cuts, key=lambda cut: cut.at)
    position = 0
    for span in row.spans:
        position += len(span.ids)
        cut = None
        while waiting and waiting[0].at < position:
            cut = Cut(waiting[0].at, waiting[0].tokens + (cut.tokens if cut else 0))
            waiting.pop(0)
        yield span, cut
    for cut in waiting:
        yield None, cut

"""Inspected examples for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from instruct_lab.inspection.inspected import Cut, Inspected
from instruct_lab.pages.format import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from instruct_lab.batching.token_spans import Span

TRAINED = ("bold black on green3", "bold black on pale_green3")
UNTRAINED = ("", "white on grey27")  # readable on dark and on light
SPECIAL, SPECIAL_TRAINED = "reverse dim", "bold reverse green"
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
ASCII_SIGNS = str.maketrans(
    {"⟦": "[[", "⟧": "]]", "⟨": "<", "⟩": ">", "↵": "\\n", "⇥": "\\t", "✂": "...", "→": "->", "─": "-", "·": "|"}
    | {sign: f"_{digit}" for digit, sign in enumerate("₀₁₂₃₄₅₆₇₈₉")}
)
"""For terminals without Unicode."""


def describe(inspected: Inspected) -> str:
    """One line about an example: where it is, what it is made of."""
    parts = [
        " ".join([inspected.split or "all splits", *([str(inspected.index)] if inspected.index is not None else [])])
    ]
    if inspected.example.id:
        parts.append(f"id {inspected.example.id}")
    if inspected.source:
        parts.append(f"source {inspected.source}")
    tokens, targets = len(inspected.example.input_ids), inspected.example.num_target_tokens
    if tokens and "decoder writes" in inspected.further:
        parts.append(f"{tokens:,} tokens read, {targets:,} written")
    elif tokens:
        parts.append(f"{tokens:,} tokens, {targets:,} trained ({100 * targets / tokens:.0f} %)")
    if inspected.cuts:
        parts.append(f"{sum(cut.tokens for cut in inspected.cuts):,} tokens cut out")
    if inspected.dropped is not None:
        parts.append(f"dropped at {inspected.stage}: {inspected.dropped}")
    return " · ".join(parts)


# ---- terminal


def print_inspected(console: Console, shown: Sequence[Inspected], *, ids: bool) -> None:
    """Print examples under a legend; without colours, signs stand around what is trained or special."""
    from rich.text import Text

    plain = console.color_system is None or console.no_color
    if any(inspected.spans for inspected in shown):
        console.print(_legend(plain, console), soft_wrap=True)
    for inspected in shown:
        heading = _printable(f"── {visible(describe(inspected))}", console)
        console.print(Text(f"\n{heading}", style="bold"), soft_wrap=True)
        if inspected.spans:
            console.print(_Writer(plain, ids, console).write(with_cuts(inspected)), soft_wrap=True)
            for name, spans in inspected.further.items():
                console.print(Text(f"{name}:", style="dim"), soft_wrap=True)
                console.print(_Writer(plain, ids, console).write((span, None) for span in spans), soft_wrap=True)
        else:
            console.print(Text(_printable(visible(inspected.text), console)), soft_wrap=True)


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
    """Writes the spans of one text, styled."""

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
        shown = _signs(span.text)
        if span.predicts:
            shown = f"{shown}→{_signs(span.predicts)}"
        if span.special:
            self._append(f"⟨{shown}⟩" if self._plain else shown, SPECIAL_TRAINED if span.trained else SPECIAL)
        else:
            self._append(shown, (TRAINED if span.trained else UNTRAINED)[self._shade])
        if self._ids:
            self._append(",".join(map(str, span.ids)).translate(SUBSCRIPTS), "dim")
        if span.text.endswith("\n"):
            self._append("\n", "")

    def _append(self, text: str, style: str) -> None:
        self._text.append(_printable(text, self._console), style=style)


def _signs(text: str) -> str:
    """The text with its line breaks visible; a last one is left to come after the token's id."""
    whole = visible(text).replace("\t", "⇥\t").replace("\n", "↵\n")
    return whole.removesuffix("\n")


def _printable(text: str, console: Console) -> str:
    """The text as the terminal's encoding can write it."""
    encoding = console.encoding or "utf-8"
    if console.options.ascii_only:
        text = text.translate(ASCII_SIGNS)
    return text.encode(encoding, "backslashreplace").decode(encoding, "replace")


def with_cuts(inspected: Inspected) -> Iterable[tuple[Span | None, Cut | None]]:
    """Each span, with the cut that stands before it; after all of them, a cut at the end."""
    waiting = sorted(inspected.cuts, key=lambda cut: cut.at)
    place = 0
    for span in inspected.spans:
        place += len(span.ids)
        cut = None
        while waiting and waiting[0].at < place:
            cut = Cut(waiting[0].at, waiting[0].tokens + (cut.tokens if cut else 0))
            waiting.pop(0)
        yield span, cut
    for cut in waiting:
        yield None, cut

"""Rendering of inspected rows as a self-contained HTML page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from instruct_lab.inspection.inspected import Cut, InspectedRow
from instruct_lab.inspection.views import describe, with_cuts
from instruct_lab.pages.render import render_page

if TYPE_CHECKING:
    from instruct_lab.batching.token_spans import Span


@dataclasses.dataclass(frozen=True)
class Token:
    """One element of the page: a span of the text, which is a token, or several tokens that form one character.

    If tokens were cut out before the span, the page shows a mark before it. If tokens were cut out at the end of the
    row, the last element has no text, only this mark.

    Args:
        text: the text of the span, with visible signs for tabs and line breaks; for a masked token, also the token to
            predict, after an arrow.
        kind: CSS classes, such as `token trained`; empty if the element has no text.
        ids: token ids, separated by commas.
        ends_line: whether the text ends with a line break; the page then shows the break after the ids.
        num_cut: number of tokens that were cut out before the span; 0 if there is no cut.
    """

    text: str
    kind: str
    ids: str
    ends_line: bool
    num_cut: int


def inspection_page(rows: Sequence[InspectedRow], *, ids: bool) -> str:
    """Render the page of inspected rows.

    Args:
        rows: examples, and rows that were dropped.
        ids: whether to show every token's id below the token; otherwise an id appears when the pointer is on its token.
    """
    examples = [
        {
            "title": describe(row),
            "text": row.text,
            "tokens": [_token(span, cut) for span, cut in with_cuts(row)],
            "further": {name: [_token(span) for span in spans] for name, spans in row.further.items()},
        }
        for row in rows
    ]
    title = "The data as the model sees it"
    return render_page("inspection/templates/inspection.html", title, examples=examples, ids=ids)


def _token(span: Span | None, cut: Cut | None = None) -> Token:
    num_cut = 0 if cut is None else cut.tokens
    if span is None:
        return Token("", "", "", False, num_cut)
    text = span.text.replace("\t", "⇥\t").replace("\n", "↵\n")
    if span.predicts:
        text = f"{text}→{span.predicts}"
    kind = "token" + " trained" * span.trained + " special" * span.special
    return Token(text.removesuffix("\n"), kind, ", ".join(map(str, span.ids)), text.endswith("\n"), num_cut)

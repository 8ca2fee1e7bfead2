"""The inspection of data in the form that the model reads: examples, or rows that were dropped.

An inspection loads the tokenizer, but no weights.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

from instruct_lab.data import Audit
from instruct_lab.data.remaining import NoRowsLeft
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment import Experiment
from instruct_lab.inspection.inspected import InspectedRow
from instruct_lab.inspection.inspector import Inspector
from instruct_lab.pages.audit_table import show_length_limits, show_unused_columns
from instruct_lab.training.quiet import quiet_libraries

if TYPE_CHECKING:
    from rich.console import Console


def inspect(
    experiment: Experiment,
    *,
    split: str | None,
    num: int,
    row: int | None,
    dropped: str | None,
    row_id: str | None,
    ids: bool,
    html: Path | None,
    as_json: bool,
    console: Console,
) -> None:
    """Show examples, or rows that were dropped.

    Args:
        experiment: the checked configuration.
        split: the split to show; `None` means train for examples, and every split for dropped rows.
        num: number of examples from the beginning of the split, or of dropped rows for each reason.
        row: index of a single example to show, counted from 0 within its split; `None`: the first `num` examples.
        dropped: show dropped rows instead of examples, namely those whose reason contains this text; `None`: show
            examples.
        row_id: show only the examples and dropped rows with this id; the beginning of an id is enough if no other id
            has the same beginning. `None`: any id.
        ids: whether to show token ids.
        html: path of an HTML page to write, in which case only this path is printed; `None`: print the rows.
        as_json: whether to print JSON.
        console: the console to print to.

    Raises:
        InstructLabError: the data cannot be read, or there is no such split, row, id or reason.
    """
    if num < 1:
        raise InstructLabError(f"There is nothing to show: --num is {num}", do="give 1 or more")
    choices = [name for name, value in (("--row", row), ("--dropped", dropped), ("--id", row_id)) if value is not None]
    if len(choices) > 1:
        raise InstructLabError(
            f"{' and '.join(choices)} cannot be combined: each chooses the rows to show", do="leave out all but one"
        )
    if row_id is not None and not row_id.strip():
        raise InstructLabError("--id is empty", do="give the id of a row, or its beginning")
    quiet_libraries()
    audit = Audit()
    inspector = Inspector(experiment, audit)
    error = None
    try:
        inspector.load()
    except NoRowsLeft as raised:  # the dropped rows show the reason
        if not audit.tallies:
            audit.merge(raised.audit)
        if dropped is None or not audit.count("dropped"):
            raise
        error = raised
    num_left = 0
    if dropped is not None:
        rows = list(inspector.dropped(dropped, split, num))
    elif row_id is not None:
        found = inspector.find(row_id.strip(), split)
        rows = list(itertools.islice(found, num))
        num_left = sum(1 for _ in found)
    else:
        rows = inspector.examples(split or "train", range(row, row + 1) if row is not None else range(num))
    _show(rows, ids=ids, html=html, as_json=as_json, console=console)
    if num_left and not as_json:
        console.print(f"{num_left:,} more rows have this id: raise --num to see them", style="dim")
    if html is None and not as_json:
        show_length_limits(console, audit.to_json())
        show_unused_columns(console, audit.to_json())
    for warning in audit.facts.get("warnings", []) if not as_json else []:
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)
    if error is not None:
        raise error


def _show(rows: list[InspectedRow], *, ids: bool, html: Path | None, as_json: bool, console: Console) -> None:
    from instruct_lab.inspection.page import inspection_page
    from instruct_lab.inspection.views import print_inspected
    from instruct_lab.pages.render import write_page

    if html is not None:
        write_page(html, inspection_page(rows, ids=ids))
    if as_json:
        lines = ",\n".join(json.dumps(row.to_json()) for row in rows)
        console.file.write(f"[\n{lines}\n]\n" if lines else "[]\n")
    elif html is not None:
        console.out(str(html), highlight=False)
    else:
        print_inspected(console, rows, ids=ids)

"""Reading of CSV and TSV rows, with detection of a wrong delimiter or wrong quoting."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from typing import IO, Literal

from instruct_lab.data.sources.base import BrokenRow, Row
from instruct_lab.errors import InstructLabError

Quoting = Literal["auto", "standard", "none"]
Spacing = Literal["auto", "skip", "keep"]
OTHER_DELIMITERS = (";", "\t", "|", ",")
QUOTED = re.compile(r'"(?:[^"]|"")*""(?:[^"]|"")*"')
"""Matches a quoted value with doubled quotation marks inside, which only a CSV writer produces."""
SPACED_QUOTE = re.compile(r' +"(?:[^"]|"")*"? *')
"""Matches a value, or its first part, that has spaces before a quotation mark and would be quoted without them."""


def read_csv(
    text: IO[str], name: str, delimiter: str | None, quoting: Quoting, spacing: Spacing = "auto"
) -> Iterator[Row | BrokenRow]:
    """Read the rows of a CSV or TSV file below its header.

    Args:
        text: the content, opened without conversion of line ends.
        name: name of the file, for errors.
        delimiter: the character between values; `None` means a comma, and a header without a comma but with another
            delimiter is an error.
        quoting: `standard`: a value in quotation marks may contain delimiters and line ends; `none`: quotation marks
            are ordinary characters; `auto`: `none` if the delimiter is a tab and the header has no quotation marks,
            else `standard`.
        spacing: `skip`: spaces after a delimiter are removed; `keep`: they belong to the value; `auto`: `skip` if a
            space follows every delimiter of the header, else `keep`, and a row with a quotation mark after a space is
            broken.

    Raises:
        InstructLabError: the header names a column twice or has another delimiter, or the file is not valid CSV.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    first = text.readline()
    if not first.strip():
        return
    if delimiter is None and (other := find_delimiter(first)) is not None:
        what = f"The header has one column, {first.strip()!r}, so its delimiter is {other!r} and not ','"
        raise InstructLabError(what, where=f"{name}, line 1", do=f"Set the source's delimiter to {other!r}")
    delimiter = delimiter or ","
    is_plain = quoting == "none" or (quoting == "auto" and delimiter == "\t" and '"' not in first)
    lines = _Lines(first, text)
    skips_spaces = spacing == "skip" or (spacing == "auto" and _is_spaced(first, delimiter))
    reader = csv.reader(
        lines,
        delimiter=delimiter,
        strict=True,
        quoting=csv.QUOTE_NONE if is_plain else csv.QUOTE_MINIMAL,
        skipinitialspace=skips_spaces,
    )
    may_be_spaced = spacing == "auto" and not (skips_spaces or is_plain)
    line = 1
    try:
        header = next(reader)
        twice = sorted({column for column in header if header.count(column) > 1})
        if twice:
            raise InstructLabError(f"The header names the column {twice[0]!r} twice", where=f"{name}, line 1")
        line = reader.line_num + 1
        for values in reader:
            where, start, line = f"{name}, line {line}", line, reader.line_num + 1
            if not values:
                lines.of_row.clear()
                continue
            error = _find_fault(values, header, start, reader.line_num, delimiter, is_plain, quoting)
            if may_be_spaced and any(map(SPACED_QUOTE.fullmatch, values)) and lines.has_spaced_quote(values, delimiter):
                error = SPACED_FAULT
            lines.of_row.clear()
            if error is None:
                yield Row(dict(zip(header, values, strict=True)), where, sum(map(len, values)))
            else:
                yield BrokenRow(InstructLabError(error[0], where=where, do=error[1]))
    except csv.Error as error:
        do = (
            "Correct the file, or set the source's spacing to skip if spaces stand before its quotation marks, "
            "or its quoting to none if the marks are ordinary characters"
        )
        raise InstructLabError(f"This is not CSV ({error})", where=f"{name}, line {line}", do=do) from error


class _Lines:
    """Yields the first line, then the other lines of a text; `of_row` collects the lines of the current row."""

    def __init__(self, first: str, text: IO[str]) -> None:
        self._first: str | None = first
        self._text = text
        self.of_row: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        self.of_row.append(next(self._text))
        return self.of_row[-1]

    def has_spaced_quote(self, values: list[str], delimiter: str) -> bool:
        """Whether the current row's `values` would be different if spaces after delimiters were skipped."""
        try:
            return next(csv.reader(self.of_row, delimiter=delimiter, strict=True, skipinitialspace=True)) != values
        except csv.Error:
            return True


SPACED_FAULT = (
    "A value has a space before its quotation mark, so the mark is an ordinary character",
    "Set the source's spacing to skip if the value is quoted, or to keep if the mark belongs to the text",
)


def _is_spaced(header: str, delimiter: str) -> bool:
    """Whether every delimiter of a header is followed by a space."""
    further = header.split(delimiter)[1:]
    return bool(further) and all(column.startswith(" ") and column.strip() for column in further)


def find_delimiter(header: str) -> str | None:
    """Return the delimiter that a header uses instead of a comma; `None` if it has a comma or no delimiter."""
    if "," in header:
        return None
    return next((other for other in OTHER_DELIMITERS if other in header), None)


def _find_fault(
    values: list[str], header: list[str], first: int, last: int, delimiter: str, is_plain: bool, quoting: Quoting
) -> tuple[str, str] | None:
    """Return the fault of a row and advice on correcting it; `None` if there is no fault.

    Args:
        values: the values of the row.
        header: the column names.
        first: number of the row's first line.
        last: number of the row's last line.
        delimiter: the character between values.
        is_plain: whether quotation marks are ordinary characters.
        quoting: the setting `quoting` of the source, which determines `is_plain`.
    """
    if last > first and any(_holds_rows(value, delimiter, len(header)) for value in values):
        what = f"A value in quotation marks goes on to line {last}, over lines that look like rows of their own"
        return what, "Close the quotation mark, or set the source's quoting to none"
    if len(values) != len(header):
        what = f"The row has {len(values)} values and the header {len(header)} columns"
        hint = (
            "Set the source's quoting to standard if values are quoted"
            if is_plain
            else "Quote values that contain the delimiter"
        )
        return what, f"{hint}, or set delimiter"
    if quoting == "auto" and is_plain and any(map(QUOTED.fullmatch, values)):
        what = "A value is quoted as in CSV, and quotation marks are ordinary characters in this file"
        return what, "Set the source's quoting to standard, or to none to keep them"
    return None


def _holds_rows(value: str, delimiter: str, num_columns: int) -> bool:
    """Whether the lines within a value look like separate rows, joined because a quotation mark is not closed."""
    if "\n" not in value or delimiter not in value:
        return False
    if delimiter == "\t":
        return True
    inner = value.splitlines()[1:-1]
    return num_columns > 1 and len(inner) > 1 and all(line.count(delimiter) == num_columns - 1 for line in inner)

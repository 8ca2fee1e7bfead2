"""Replacing today's date in chat templates with a fixed date, so that a run renders the same text on every day."""

from __future__ import annotations

import datetime
import json
import re

from instruct_lab.errors import InstructLabError

CALL = re.compile(r"""\bstrftime_now\s*\(\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*\)""")
ANY_CALL = re.compile(r"\bstrftime_now\s*\(")


def fix_date(jinja: str, date: datetime.date) -> str:
    """Replace every call of `strftime_now`, which prints the current time, with a fixed date in the call's format.

    Args:
        jinja: the chat template.
        date: the fixed date; its time of day is midnight.

    Raises:
        InstructLabError: the template computes the date format instead of giving it as a string literal.
    """
    moment = datetime.datetime.combine(date, datetime.time())
    fixed = CALL.sub(lambda call: json.dumps(moment.strftime(call[1][1:-1]), ensure_ascii=False), jinja)
    if ANY_CALL.search(fixed):
        raise InstructLabError(
            "The chat template calls strftime_now with a format that it computes, so its date cannot be fixed",
            where="the tokenizer's chat template",
            do="set template.jinja to a template that calls strftime_now with a text in quotes",
        )
    return fixed

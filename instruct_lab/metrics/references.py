"""The one check that every comparison with references makes."""

from __future__ import annotations

from instruct_lab.errors import InstructLabError


def required(references: tuple[str, ...]) -> list[str]:
    """The references as a list.

    Raises:
        InstructLabError: there is none, and no answer can be compared with nothing.
    """
    if not references:
        raise InstructLabError(
            "An example to be measured has no reference answer",
            do="Give every held-out row an answer, or choose metrics=none",
        )
    return list(references)

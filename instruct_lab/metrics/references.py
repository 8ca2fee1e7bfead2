"""The one check that every comparison with references makes."""

from __future__ import annotations

from collections.abc import Sequence

from instruct_lab.errors import InstructLabError


def required(references: Sequence[str]) -> list[str]:
    """The references as a list.

    Raises:
        InstructLabError: there is none, and no answer can be compared with nothing.
        TypeError: one text was given where a group of texts is meant; each of its characters would be a reference.
    """
    if isinstance(references, str):
        raise TypeError(f"references are a group of texts, not one text: {references[:40]!r}")
    if not references:
        raise InstructLabError(
            "An example to be measured has no reference answer",
            do="Give every held-out row an answer, or choose metrics=none",
        )
    return list(references)

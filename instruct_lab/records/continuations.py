"""What a run's record says about each continuation of the run: what had changed since the run was stopped.

Changes can concern settings, inputs, code, packages, the machine, and the limits on the run's length, such as
`trainer.max_steps`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from instruct_lab.errors import one_line
from instruct_lab.files import to_json
from instruct_lab.records.entries import known_entries

MAX_CHARACTERS = 80
Kind = Literal["setting", "input", "code", "package", "machine", "limit"]
"""What differs between a recorded run and its continuation or repetition."""


@dataclasses.dataclass(frozen=True)
class Change:
    """A difference between a recorded run and its continuation or repetition.

    Args:
        kind: what differs, such as a `setting` or a `package`.
        name: full key of a setting or limit, name of an input, package or property of the machine, or `instruct_lab`
            for its code.
        before: the recorded value; `None` if there was none.
        now: the current value; `None` if there is none.
    """

    kind: Kind
    name: str
    before: Any = None
    now: Any = None

    def __str__(self) -> str:
        name = self.name if self.kind in ("setting", "limit") else f"{self.kind} {self.name}"
        return f"{name} {_format_value(self.before)} → {_format_value(self.now)}"


@dataclasses.dataclass(frozen=True)
class Continuation:
    """One continuation of a stopped run, and what had changed by then, such as settings, inputs or code.

    Args:
        time: time of the continuation in UTC, in ISO 8601.
        step: optimizer step from which the run continued.
        changes: what had changed since the run was stopped.
        note: a sentence on how the changes affect training, for example that the learning rate changes abruptly; empty
            if there is nothing to say.
    """

    time: str = ""
    step: int = 0
    changes: list[Change] = dataclasses.field(default_factory=list)
    note: str = ""

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> Continuation:
        """Create the object from its JSON object, a dictionary with the names and values of the fields."""
        known = known_entries(cls, entries)
        return cls(**{**known, "changes": [Change(**known_entries(Change, one)) for one in known.get("changes", ())]})


def _format_value(value: Any) -> str:
    return one_line(value if isinstance(value, str) else to_json(value), MAX_CHARACTERS)

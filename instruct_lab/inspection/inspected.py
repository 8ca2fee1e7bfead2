"""What `instruct-lab inspect` finds: an example as the model sees it, or a row that was left out."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from typing import Any

from instruct_lab.batching import Example
from instruct_lab.batching.token_spans import Span

MAX_COMPARED = 20_000
"""Tokens between which cuts are searched for one by one; in longer stretches, one cut is told."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cut:
    """Tokens that were cut out: before which token of the example they stood, and how many they were."""

    at: int
    tokens: int


@dataclasses.dataclass(frozen=True)
class Inspected:
    """One example as the model sees it, or one row that was left out.

    Args:
        spans: the tokens in order; none where the row was left out before it had any.
        example: ids and labels.
        split: where it is, or was; empty where its stage saw every split together.
        index: of the example within the split.
        source: of the row, where it is known.
        cuts: where the conversation was shortened.
        dropped: why it was left out.
        stage: where it was left out.
        sample: its text as the audit kept it, for rows without tokens.
        further: what else the model sees, by name: what a decoder writes beside what its encoder reads, and what a
            rejected answer makes of each.
    """

    spans: list[Span]
    example: Example
    split: str
    index: int | None = None
    source: str = ""
    cuts: tuple[Cut, ...] = ()
    dropped: str | None = None
    stage: str | None = None
    sample: str = ""
    further: dict[str, list[Span]] = dataclasses.field(default_factory=dict)

    @property
    def text(self) -> str:
        """What the model sees, special tokens spelled out; of rows without tokens, the audit's sample."""
        return "".join(span.text for span in self.spans) if self.spans else self.sample

    def to_json(self) -> dict[str, Any]:
        """The form that other tools read; labels are unshifted, `-100` where not trained."""
        rejected = self.example.rejected
        return {
            "text": self.text,
            "input_ids": self.example.input_ids,
            "labels": self.example.labels,
            "dropped": self.dropped,
            "id": self.example.id,
            "split": self.split,
            "row": self.index,
            "source": self.source,
            "stage": self.stage,
            "tokens": [text for span in self.spans for text in span.texts],
            "num_tokens": len(self.example.input_ids),
            "target_tokens": self.example.num_target_tokens,
            "truncated": bool(self.cuts),
            "cuts": [dataclasses.asdict(cut) for cut in self.cuts],
            "further": {name: "".join(span.text for span in spans) for name, spans in self.further.items()},
            "rejected": rejected and {"input_ids": rejected.input_ids, "labels": rejected.labels},
        }


def cuts(whole: Sequence[int], kept: Sequence[int]) -> tuple[Cut, ...]:
    """Where tokens of the whole are missing from what was kept."""
    shortest = min(len(whole), len(kept))
    head = next((i for i in range(shortest) if whole[i] != kept[i]), shortest)
    rest = shortest - head
    tail = next((i for i in range(rest) if whole[-1 - i] != kept[-1 - i]), rest)
    old, new = whole[head : len(whole) - tail], kept[head : len(kept) - tail]
    if len(old) > MAX_COMPARED or not new:
        return (Cut(head, len(old) - len(new)),) if len(old) > len(new) else ()
    matcher = difflib.SequenceMatcher(None, list(old), list(new), autojunk=False)
    return tuple(
        Cut(head + new_start, (old_end - old_start) - (new_end - new_start))
        for kind, old_start, old_end, new_start, new_end in matcher.get_opcodes()
        if kind != "equal" and old_end - old_start > new_end - new_start
    )

"""The rows that `instruct-lab inspect` shows: examples as the model sees them, and dropped rows."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from typing import Any

from instruct_lab.batching import Example
from instruct_lab.batching.token_spans import Span

MAX_COMPARED = 20_000
"""Maximum number of tokens that are compared one by one; in a longer sequence, all missing tokens count as one cut."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cut:
    """A sequence of consecutive tokens that was cut out of a conversation.

    Args:
        at: index of the first token after the cut, in the sequence of the remaining tokens.
        tokens: number of tokens that were cut out.
    """

    at: int
    tokens: int


@dataclasses.dataclass(frozen=True)
class InspectedRow:
    """One example as the model sees it, or one row that was dropped.

    Args:
        spans: the text of each token, in order; tokens that only together form a character share one span. Empty if the
            row was dropped before it was tokenised.
        example: token ids and labels of the row; both are empty if the row was dropped before it was tokenised.
        split: split of the row; empty if the row was dropped before the data was split.
        index: index of the example within the split; `None` for a dropped row.
        source: data source of the row; empty if unknown.
        where: file and line (or row number) of the row; empty if unknown.
        cuts: the sequences of tokens that were cut out of the conversation.
        dropped: the reason why the row was dropped; `None` for an example.
        stage: the stage of data preparation that dropped the row; `None` for an example.
        sample: for a dropped row, its text as the audit (the list of dropped rows and reasons) has it.
        further: texts that the model sees besides `spans`, keyed by name: `decoder writes` (the target of an
            encoder-decoder) and `rejected` (the rejected answer of a preference pair, with the prompt before it unless
            the model is an encoder-decoder).
    """

    spans: list[Span]
    example: Example
    split: str
    index: int | None = None
    source: str = ""
    where: str = ""
    cuts: tuple[Cut, ...] = ()
    dropped: str | None = None
    stage: str | None = None
    sample: str = ""
    further: dict[str, list[Span]] = dataclasses.field(default_factory=dict)

    @property
    def text(self) -> str:
        """The text that the model sees, including special tokens.

        For a row that was dropped before it was tokenised, this is the text of the row in the audit.
        """
        return "".join(span.text for span in self.spans) if self.spans else self.sample

    def to_json(self) -> dict[str, Any]:
        """Convert the row to a dictionary of JSON values.

        Its `labels` are not shifted: each has the index of its own token. `-100` marks tokens that are not targets.
        """
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
            "where": self.where,
            "stage": self.stage,
            "tokens": [text for span in self.spans for text in span.texts],
            "num_tokens": len(self.example.input_ids),
            "target_tokens": self.example.num_target_tokens,
            "truncated": bool(self.cuts),
            "cuts": [dataclasses.asdict(cut) for cut in self.cuts],
            "further": {name: "".join(span.text for span in spans) for name, spans in self.further.items()},
            "desirable": self.example.desirable,
            "rejected": rejected and {"input_ids": rejected.input_ids, "labels": rejected.labels},
        }


def cuts(whole: Sequence[int], kept: Sequence[int]) -> tuple[Cut, ...]:
    """Find the sequences of tokens that were cut out of a conversation, by comparing its tokens before and after.

    Args:
        whole: token ids before cutting.
        kept: token ids after cutting.
    """
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

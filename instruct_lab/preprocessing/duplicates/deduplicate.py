"""Conversations told twice."""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation, SplitName, normalize_text
from instruct_lab.data.table import RowText, map_conversations
from instruct_lab.preprocessing.base import Context, Need, Part, Splits, Step, train_alone
from instruct_lab.preprocessing.duplicates._compared import clusters_told, given_way_to, num_characters, said
from instruct_lab.preprocessing.duplicates._key_table import KEY_BYTES, OWN, KeyTable, Largest

KEPT, GIVEN_WAY = 0, 1


def measured_splits() -> list[SplitName]:
    """The splits that are measured on."""
    return ["validation", "test"]


@component
class DeduplicateExact(Step):
    """Drops a conversation whose text is there twice, in its split or in one that is measured on.

    By words, text is compared in NFKC, case folded, without punctuation: `Stop!` is `stop`, and `a + b` is `a - b`.
    A row that lacks the part compared stays. Sizes of the clusters are in the audit. Texts are told apart by 128-bit
    hashes (BLAKE2). Memory: 26 bytes a row; keeping the longest 37, and a second pass.
    """

    splits: Splits = Field(default_factory=train_alone)  # which splits pass through
    by: Part = "conversation"  # what has to be the same
    compare: Literal["words", "characters"] = "words"  # characters: every one counts, as in code
    keep: Literal["first", "longest"] = "first"  # which row of a cluster stays; longest: as a whole, in characters
    across: list[SplitName] = Field(default_factory=measured_splits)  # gives way to their rows, if they come after it

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """A second pass to keep the longest; the other splits where a split gives way."""
        wanted: list[Need] = ["rows"] if self.keep == "longest" else []
        return frozenset([*wanted, "splits"] if self.across else wanted)

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield one row of each cluster; counts the others, and tells the clusters' sizes."""
        return itertools.compress(conversations, self.flags(conversations, context))

    def flags(self, conversations: Sequence[Conversation], context: Context) -> bytearray:
        """See `Step.flags`."""
        others = given_way_to(context.split, self.across, context.splits)
        table = KeyTable(len(conversations) + sum(map(len, others.values())))
        names = dict(enumerate(others, start=OWN + 1))
        for owner, name in names.items():
            for key in map_conversations(self._key, others[name]):
                if key is not None:
                    table.slot(key, owner)
        largest = Largest()
        choose = self._first if self.keep == "first" else self._longest
        flags = choose(conversations, context, table, names, largest)
        sizes = Counter(count for count in table.counts if count > 1)
        context.audit.note(context.stage, clusters=clusters_told(sizes, largest.told()))
        return flags

    def _first(
        self,
        conversations: Sequence[Conversation],
        context: Context,
        table: KeyTable,
        names: dict[int, str],
        largest: Largest,
    ) -> bytearray:
        flags = bytearray()
        for row, key in enumerate(map_conversations(self._key, conversations)):
            if key is None:
                flags.append(1)
                continue
            slot = table.slot(key)
            owner = table.owners[slot]
            table.counts[slot] += 1
            size = table.counts[slot]
            flags.append(owner == OWN and size == 1)
            if size > 1:
                largest.saw(slot, size, RowText(conversations, row))
            if owner != OWN:
                context.dropped(f"same {self.by} as in {names[owner]}", RowText(conversations, row))
            elif size > 1:
                context.dropped(f"same {self.by} as before", RowText(conversations, row))
        return flags

    def _longest(
        self,
        conversations: Sequence[Conversation],
        context: Context,
        table: KeyTable,
        names: dict[int, str],
        largest: Largest,
    ) -> bytearray:
        fates = bytearray(len(conversations))
        best = array("I", [0]) * table.num_slots
        lengths = array("I", [0]) * table.num_slots
        for row, (key, length) in enumerate(map_conversations(self._key_and_length, conversations)):
            if key is None:
                continue
            slot = table.slot(key)
            table.counts[slot] += 1
            fates[row] = owner if (owner := table.owners[slot]) != OWN else GIVEN_WAY
            if (size := table.counts[slot]) > 1:
                largest.saw(slot, size, RowText(conversations, row))
            if size == 1 or length > lengths[slot]:
                best[slot], lengths[slot] = row, length
        for slot, owner in enumerate(table.owners):
            if owner == OWN:
                fates[best[slot]] = KEPT
        for row, fate in enumerate(fates):
            if fate == GIVEN_WAY:
                context.dropped(f"same {self.by} as in a row at least as long", RowText(conversations, row))
            elif fate != KEPT:
                context.dropped(f"same {self.by} as in {names[fate]}", RowText(conversations, row))
        return bytearray(fate == KEPT for fate in fates)

    def _key_and_length(self, conversation: Conversation) -> tuple[bytes | None, int]:
        return self._key(conversation), num_characters(conversation)

    def _key(self, conversation: Conversation) -> bytes | None:
        texts = said(conversation, self.by)
        if not texts:
            return None
        compared = normalize_text if self.compare == "words" else repr
        whole = "\n".join(f"{role} {compared(text)}" for role, text in texts)
        return hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()

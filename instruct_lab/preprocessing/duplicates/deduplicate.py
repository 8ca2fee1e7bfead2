"""Exact deduplication: of rows with the same text, only one is kept."""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation, SplitName, canonical_text, normalize_text
from instruct_lab.data.table import RowText, map_conversations
from instruct_lab.preprocessing.base import Context, Need, Part, Splits, Step, train_only
from instruct_lab.preprocessing.duplicates.clusters import LargestClusters, cluster_report
from instruct_lab.preprocessing.duplicates.compared_text import compared_turns, num_characters
from instruct_lab.preprocessing.duplicates.key_table import KEY_BYTES, OWN, KeyTable
from instruct_lab.preprocessing.duplicates.protected_splits import evaluation_splits, protected_splits

NORMAL_FORMS: dict[str, Callable[[str], str]] = {"characters": canonical_text, "words": normalize_text, "exact": repr}
"""Functions that return the form in which texts are compared, keyed by the value of `compare`."""
KEPT, SHORTER = 0, 1
"""Numbers that say, with `keep: longest`, whether a row is kept, or dropped because another duplicate is kept.

A greater number says that the row is dropped because validation or test has the same row; it identifies the split.
"""


@component
class DeduplicateExact(Step):
    """Drops exact duplicates of other rows of the split, and of rows in validation and test.

    The value of `compare` sets which differences make two texts distinct:

    - characters: every visible character (in Unicode's form NFC), but not the amount of white space.
    - words: only the words (in the form NFKC), without case, punctuation and symbols. So `Stop!` equals `stop`, but
      `a + b` also equals `a - b`.
    - exact: every character, including white space, which matters for code.

    Roles and system messages count. If whole conversations are compared, so do the messages' weights and whether they
    are trained. A row that lacks the part to compare (`by`) is kept. The audit contains the sizes of the clusters of
    duplicates, and reports rows that have the same words but are not exact duplicates. Texts are compared by 128-bit
    hashes (BLAKE2). Memory: 26 bytes per row, and 26 more if `report_same_words` is true; `keep: longest` needs 11 more
    bytes and a second pass.
    """

    splits: Splits = Field(default_factory=train_only)  # splits that the step processes
    by: Part = "conversation"  # the part that is compared
    compare: Literal["characters", "words", "exact"] = "characters"  # the form in which texts are compared
    report_same_words: bool = True  # with keep=first: count kept rows that have only the words of an earlier row
    keep: Literal["first", "longest"] = "first"  # row of a cluster to keep; longest: with most characters
    across: list[SplitName] = Field(default_factory=evaluation_splits)  # drop rows that one of these later splits has

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """What the step needs: several passes (`rows`) if `keep` is `longest`, and other splits if `across` is set."""
        wanted: list[Need] = ["rows"] if self.keep == "longest" else []
        return frozenset([*wanted, "splits"] if self.across else wanted)

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield one row of each cluster of duplicates; note the dropped rows and the sizes of clusters in the audit."""
        return itertools.compress(conversations, self.flags(conversations, context))

    def flags(self, conversations: Sequence[Conversation], context: Context) -> bytearray:
        """Return 1 for each row to keep and 0 for each row to drop."""
        protected = protected_splits(context.split, self.across, context.splits)
        table = KeyTable(len(conversations) + sum(map(len, protected.values())))
        names = dict(enumerate(protected, start=OWN + 1))
        for owner, name in names.items():
            for key in map_conversations(self._key, protected[name]):
                if key is not None:
                    table.slot(key, owner)
        largest = LargestClusters()
        select = self._select_first if self.keep == "first" else self._select_longest
        flags = select(conversations, context, table, names, largest)
        sizes = Counter(count for count in table.counts if count > 1)
        context.audit.note(context.stage, clusters=cluster_report(sizes, largest.descending()))
        return flags

    def _select_first(
        self,
        conversations: Sequence[Conversation],
        context: Context,
        table: KeyTable,
        names: dict[int, str],
        largest: LargestClusters,
    ) -> bytearray:
        flags = bytearray()
        words = KeyTable(len(conversations) if self.report_same_words else 0)
        reported = f"same words as an earlier row, but other characters (same {self.by})"
        for row, (key, words_key) in enumerate(map_conversations(self._keys, conversations)):
            if key is None:
                flags.append(1)
                continue
            slot = table.slot(key)
            owner = table.owners[slot]
            table.counts[slot] += 1
            size = table.counts[slot]
            flags.append(owner == OWN and size == 1)
            if words_key is not None and flags[-1]:
                slot_of_words = words.slot(words_key)
                words.counts[slot_of_words] += 1
                if words.counts[slot_of_words] > 1:
                    context.audit.record(context.stage, "reported", reported, RowText(conversations, row))
            if size > 1:
                largest.update(slot, size, RowText(conversations, row))
            if owner != OWN:
                context.count_dropped(
                    f"exact duplicate of a {names[owner]} row (same {self.by})", RowText(conversations, row)
                )
            elif size > 1:
                context.count_dropped(
                    f"exact duplicate of an earlier row (same {self.by})", RowText(conversations, row)
                )
        return flags

    def _select_longest(
        self,
        conversations: Sequence[Conversation],
        context: Context,
        table: KeyTable,
        names: dict[int, str],
        largest: LargestClusters,
    ) -> bytearray:
        fates = bytearray(len(conversations))
        best = array("I", [0]) * table.num_slots
        lengths = array("I", [0]) * table.num_slots
        for row, (key, length) in enumerate(map_conversations(self._key_and_length, conversations)):
            if key is None:
                continue
            slot = table.slot(key)
            table.counts[slot] += 1
            fates[row] = owner if (owner := table.owners[slot]) != OWN else SHORTER
            if (size := table.counts[slot]) > 1:
                largest.update(slot, size, RowText(conversations, row))
            if size == 1 or length > lengths[slot]:
                best[slot], lengths[slot] = row, length
        for slot, owner in enumerate(table.owners):
            if owner == OWN:
                fates[best[slot]] = KEPT
        for row, fate in enumerate(fates):
            if fate == SHORTER:
                context.count_dropped(
                    f"exact duplicate of a row at least as long (same {self.by})", RowText(conversations, row)
                )
            elif fate != KEPT:
                context.count_dropped(
                    f"exact duplicate of a {names[fate]} row (same {self.by})", RowText(conversations, row)
                )
        return bytearray(fate == KEPT for fate in fates)

    def _key_and_length(self, conversation: Conversation) -> tuple[bytes | None, int]:
        return self._key(conversation), num_characters(conversation)

    def _key(self, conversation: Conversation) -> bytes | None:
        return _hash(
            conversation, compared_turns(conversation, self.by), NORMAL_FORMS[self.compare], self._counts_training
        )

    @property
    def _counts_training(self) -> bool:
        """Whether rows count as different if their messages differ only in weight or in whether they are trained."""
        return self.by == "conversation"

    def _keys(self, conversation: Conversation) -> tuple[bytes | None, bytes | None]:
        """Return a hash of the row's text, and a hash of its words for the report on rows with the same words.

        The second hash is `None` if the report is switched off (`report_same_words`), or if rows with the same words
        are duplicates already (`compare` is `words`). Both are `None` for a row that lacks the part to compare.
        """
        turns = compared_turns(conversation, self.by)
        key = _hash(conversation, turns, NORMAL_FORMS[self.compare], self._counts_training)
        if not self.report_same_words or self.compare == "words":
            return key, None
        return key, _hash(conversation, turns, normalize_text, self._counts_training)


def _hash(
    conversation: Conversation, turns: list[tuple[str, str]], normal_form: Callable[[str], str], counts_training: bool
) -> bytes | None:
    """Hash the texts by which a conversation is compared; return `None` if there are none.

    Args:
        conversation: the conversation.
        turns: the role and the text of each message to compare.
        normal_form: function that removes from a text the differences that do not count, such as white space.
        counts_training: whether the hash also depends on the weights of messages and on which messages are trained.
    """
    if not turns:
        return None
    pieces = [f"{role} {normal_form(text)}" for role, text in turns]
    if counts_training and any(m.trained is not None or m.weight != 1 for m in conversation.messages):
        pieces.append(repr([(message.trained, message.weight) for message in conversation.messages]))
    whole = "\n".join(pieces)
    return hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()

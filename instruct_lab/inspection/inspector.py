"""Find the examples and dropped rows to show, and decode examples from their token ids."""

from __future__ import annotations

import dataclasses
import random
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from instruct_lab.batching import IGNORED, Example
from instruct_lab.batching.example import evaluation_source
from instruct_lab.batching.token_spans import Span, TokenReader
from instruct_lab.cache import Store
from instruct_lab.config.spelling import nearest
from instruct_lab.data import Audit, Conversation
from instruct_lab.data.audit import Drop, watch_drops
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment import Experiment
from instruct_lab.files import user_path
from instruct_lab.inspection.inspected import InspectedRow, cuts
from instruct_lab.inspection.search import find_drops, only_id
from instruct_lab.pages.audit_stages import NAMED_SPLIT, parse_stage
from instruct_lab.template import RefusedConversation
from instruct_lab.training.workspace import Workspace

if TYPE_CHECKING:
    from instruct_lab.training.datamodule import InstructionData

STAGE = "batching"
MAX_EQUAL_IDS = 50
"""Maximum number of conversations with the same id that are compared with an example."""


class Inspector:
    """Reads the prepared data of one experiment, to show its examples and to find the rows that were dropped.

    Args:
        experiment: the checked configuration.
        audit: the list of dropped rows and reasons, which `load` fills.
    """

    def __init__(self, experiment: Experiment, audit: Audit) -> None:
        self._experiment = experiment
        self._audit = audit
        self._cache_path = user_path(experiment.cache_path)
        self._data: InstructionData | None = None

    def load(self) -> None:
        """Load the tokenizer and prepare the data.

        Raises:
            InstructLabError: the data cannot be read, or no training row is left. In the second case, the error is
                `NoRowsLeft`; the dropped rows are in the inspector's audit or, if that is empty, in the error's audit.
        """
        from instruct_lab.training.datamodule import InstructionData

        self._tokenizer = Workspace(self._experiment).tokenizer
        self._reader = TokenReader(self._tokenizer)
        self._encoder = self._experiment.batching.layout_encoder(
            self._experiment.layout, self._experiment.template, self._tokenizer
        )
        self._data = InstructionData(self._experiment, self._tokenizer, self._cache_path, self._audit)

    # ---- examples

    def examples(self, split: str, rows: range) -> list[InspectedRow]:
        """Return the examples of a split at the indices `rows`; indices beyond the end are ignored.

        Raises:
            InstructLabError: there is no such split, or it has no example at the first index.
        """
        assert self._data is not None
        counts = {name: len(found) for name, found in self._data.examples.items()}
        if split not in counts:
            close = nearest(split, counts)
            do = f"choose {close}" if close else f"choose one of {', '.join(counts)}"
            raise InstructLabError(f"There is no split {split!r}", where="--split", do=do)
        if not 0 <= rows.start < counts[split]:
            last = f"name one from 0 to {counts[split] - 1}" if counts[split] else "choose another split"
            what = f"The {split} split has {counts[split]} examples, and so no row {rows.start}"
            raise InstructLabError(what, where="--row", do=last)
        return [self._example(split, index) for index in range(rows.start, min(rows.stop, counts[split]))]

    def _example(self, split: str, index: int) -> InspectedRow:
        assert self._data is not None
        example = _with_python_ints(self._data.examples[split][index])
        conversation, whole = self._origin(split, index, example)
        in_training = random.Random(f"{self._experiment.seed}:0:{index}")  # as in the first epoch, see `BatchLoader`
        corrupted = self._data.corrupt(example, in_training if split == "train" else evaluation_source(example))
        spans, further = self._texts(corrupted)
        return InspectedRow(
            spans=spans,
            further=further,
            example=corrupted,
            split=split,
            index=index,
            source=conversation.source if conversation is not None else "",
            where=conversation.origin if conversation is not None else "",
            cuts=cuts(whole, example.input_ids) if whole is not None else (),
        )

    def _texts(self, example: Example) -> tuple[list[Span], dict[str, list[Span]]]:
        """Decode the text that the model reads, and the other texts of the example.

        The other texts are keyed by name: `decoder writes` (the target of an encoder-decoder) and `rejected` (the
        rejected answer of a preference pair, with the prompt before it unless the model is an encoder-decoder).
        """
        read, written = self._read_and_written(example)
        further = {"decoder writes": written} if written else {}
        if example.rejected is not None:
            read_again, written_again = self._read_and_written(example.rejected)
            further["rejected"] = written_again or read_again
        return read, further

    def _read_and_written(self, example: Example) -> tuple[list[Span], list[Span]]:
        if self._experiment.layout.family != "encoder-decoder":
            return self._reader.spans(example.input_ids, example.labels), []
        read = self._reader.spans(example.input_ids, [IGNORED] * len(example.input_ids))
        return read, self._reader.spans(example.labels, example.labels)

    def _origin(self, split: str, index: int, example: Example) -> tuple[Conversation | None, list[int] | None]:
        """Find the conversation from which an example was made, and the conversation's token ids before cutting.

        Examples have the same order as conversations, but batching may have dropped conversations in between. So, if it
        dropped `n` conversations, the index of the conversation is between `index` and `index + n`. Among these
        conversations, the first one with the example's id and tokens is chosen. If no conversation has its tokens
        (because some were cut out), the first one with its id is chosen.

        Returns:
            The conversation and its token ids; `(None, None)` if no conversation has the example's id.
        """
        assert self._data is not None
        conversations, num_examples = self._data.conversations[split], len(self._data.examples[split])
        found: tuple[Conversation | None, list[int] | None] = (None, None)
        num_equal = 0
        for candidate in range(index, index + len(conversations) - num_examples + 1):
            conversation = conversations[candidate]
            if conversation.id != example.id:
                continue
            whole = self._encode(conversation)
            if whole is None:
                continue
            if whole.input_ids == example.input_ids:
                return conversation, whole.input_ids
            num_equal += 1
            if found[0] is None:
                found = conversation, whole.input_ids
            if num_equal == MAX_EQUAL_IDS:
                break
        return found

    def _encode(self, conversation: Conversation) -> Example | None:
        """Encode a conversation; return `None` if the template cannot render it, or if no example can be made of it."""
        try:
            return self._encoder.encode([conversation])[0]
        except RefusedConversation:
            return None

    # ---- dropped rows

    def dropped(self, text: str, split: str | None, num: int) -> Iterator[InspectedRow]:
        """Yield up to `num` dropped rows for each reason that contains a text; case is ignored.

        Args:
            text: the text to look for in the reasons.
            split: the split whose dropped rows are shown; `None`: every split.
            num: maximum number of rows for each reason.

        Raises:
            InstructLabError: no reason contains the text; the error lists the reasons.
        """
        tallies = [tally for tally in self._audit.tallies.values() if tally.action == "dropped"]
        wanted = text.casefold()
        splits = {id(tally): _split_of(tally.stage, tally.reason) for tally in tallies}
        matching = [
            t for t in tallies if wanted in t.reason.casefold() and splits[id(t)] in (split or splits[id(t)], "")
        ]
        if not matching:
            known = "".join(f"\n  {tally.count:>8,}  {tally.reason}  ({tally.stage})" for tally in tallies)
            raise InstructLabError(
                f"No row of {'the ' + split if split else 'any'} split was dropped for a reason that contains {text!r}",
                do=f"name a part of one of these:{known}" if known else "nothing to do: no row was dropped at all",
            )
        for tally in matching:
            of_split = splits[id(tally)]
            samples = tally.samples[:num]
            ids = [sample.get("id") or "" for sample in samples]
            by_batching = self._dropped_by_batching(of_split, ids) if tally.stage.split("/")[0] == STAGE else {}
            for number, sample in enumerate(samples):
                conversation = by_batching.get(number)
                known = str(sample["before"] or sample.get("after") or "")
                row = self._dropped_row(tally.stage, tally.reason, conversation, known)
                yield dataclasses.replace(
                    row,
                    source=row.source or _source_of(tally.stage),
                    where=sample.get("where") or "",
                    example=dataclasses.replace(row.example, id=ids[number]),
                )

    def _dropped_row(self, stage: str, reason: str, conversation: Conversation | None, sample: str) -> InspectedRow:
        example = (self._encode(conversation) if conversation is not None else None) or Example([], [])
        spans, further = self._texts(example) if example.input_ids else ([], {})
        if conversation is not None and not sample.endswith(text := str(conversation)):
            sample = f"{sample}\n{text}"
        return InspectedRow(
            spans=spans,
            further=further,
            example=example,
            split=_split_of(stage, reason),
            source=conversation.source if conversation is not None else "",
            dropped=reason,
            stage=stage,
            sample=sample,
        )

    def _dropped_by_batching(self, split: str, ids: Sequence[str]) -> dict[int, Conversation]:
        """Find the conversations with the given ids that batching dropped, keyed by the index of the id in `ids`."""
        if self._data is None or split not in self._data.conversations:
            return {}
        wanted: dict[str, list[int]] = {}
        for number, id_ in enumerate(ids):
            wanted.setdefault(id_, []).append(number)
        found: dict[int, Conversation] = {}
        for conversation in _without(self._data.conversations[split], self._data.examples[split]):
            numbers = wanted.get(conversation.id)
            if numbers:
                found[numbers.pop(0)] = conversation
                if len(found) == len(ids):
                    break
        return found

    # ---- rows by id

    def find(self, prefix: str, split: str | None) -> Iterator[InspectedRow]:
        """Find an id by its beginning, and yield all examples and then all dropped rows that have this id.

        Several rows can have one id, because rows with the same texts have the same id.

        Args:
            prefix: the id, or the beginning of it if no other id has the same beginning.
            split: the split to search; `None`: every split.

        Raises:
            InstructLabError: no id begins with the prefix, or several ids do.
        """
        assert self._data is not None
        examples = [
            (name, index, id_)
            for name, rows in self._data.examples.items()
            for index, id_ in enumerate(rows.ids())
            if id_.startswith(prefix)
        ]
        found = dict.fromkeys(id_ for _, _, id_ in examples)
        drops: list[Drop] = []
        if len(found) < 2 or prefix in found:
            drops += find_drops(self._data.conversation_stages, Store(self._cache_path), prefix)
            drops += self._drops_of_batching(prefix)
            found |= dict.fromkeys(drop.id for drop in drops)
        id_ = prefix if prefix in found else only_id(list(found), prefix)
        for name, index, example_id in examples:
            if example_id == id_ and split in (None, name):
                yield self._example(name, index)
        for drop in drops:
            if drop.id == id_ and split in (None, _split_of(drop.stage, drop.reason) or split):
                row = self._dropped_row(drop.stage, drop.reason, drop.row, drop.message or str(drop.row))
                yield dataclasses.replace(
                    row, where=drop.row.origin, example=dataclasses.replace(row.example, id=drop.id)
                )

    def _drops_of_batching(self, prefix: str) -> Iterator[Drop]:
        """Tokenise again the conversations whose id begins with a prefix, and yield those that batching drops."""
        assert self._data is not None
        chosen = self._experiment
        for split, rows in self._data.conversations.items():
            indices = [index for index, id_ in enumerate(rows.ids()) if id_.startswith(prefix)]
            with watch_drops(prefix) as drops:
                again = chosen.batching.encode(
                    (rows[index] for index in indices),
                    chosen.template,
                    self._tokenizer,
                    Audit(),
                    split,
                    chosen.layout,
                    refused=[],
                )
                deque(again, maxlen=0)
            yield from drops


def _without(conversations: Sequence[Conversation], examples: Sequence[Example]) -> Iterator[Conversation]:
    """Yield the conversations from which no example was made; examples must be in the order of their conversations."""
    kept = iter(examples)
    current = next(kept, None)
    for conversation in conversations:
        if current is not None and current.id == conversation.id:
            current = next(kept, None)
        else:
            yield conversation


def _with_python_ints(example: Example) -> Example:
    """Convert an example's integers to Python integers, which can be written as JSON."""
    rejected = None if example.rejected is None else _with_python_ints(example.rejected)
    input_ids, labels = [int(i) for i in example.input_ids], [int(i) for i in example.labels]
    return Example(input_ids, labels, example.id, rejected=rejected, desirable=example.desirable)


def _split_of(stage: str, reason: str) -> str:
    named = NAMED_SPLIT.match(reason)
    return parse_stage(stage)[1] or (named[1] if named is not None and stage.split("/")[0] == STAGE else "")


def _source_of(stage: str) -> str:
    package, _, name = parse_stage(stage)
    return name.removeprefix("source ") if package == "data" and name.startswith("source ") else ""

"""Decontamination: removal of training rows that overlap with evaluation texts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation, SplitName
from instruct_lab.data.words import compared_tokens
from instruct_lab.errors import Refusal
from instruct_lab.preprocessing.base import Context, Need, Part, Splits, Step, train_only
from instruct_lab.preprocessing.duplicates.benchmarks import Benchmark
from instruct_lab.preprocessing.duplicates.protected_splits import evaluation_splits, protected_splits

if TYPE_CHECKING:
    from instruct_lab.preprocessing.duplicates._held_out_index import HeldOutIndex, TextSet

BATCH_ROWS, BATCH_WORDS = 500, 1 << 17


def prompts() -> list[Part]:
    """Return `["prompt"]`: by default, training rows are compared only with the prompts of held-out rows."""
    return ["prompt"]


@component
class Decontaminate(Step):
    """Drops training rows that overlap with the run's own validation and test sets, or with named benchmarks.

    A row overlaps with a held-out text if one of its messages, its prompt or the whole conversation equals the text, or
    if its messages contain enough of the text's n-grams: the share `min_share` of them, or `min_matches` of them. A
    text of fewer than n words is one n-gram. If it has fewer than `min_words_inside` words, it is not searched for
    inside messages, because such texts are often common phrases. Case, punctuation and white space are ignored.
    Operators (`+`), currency signs and emoji count as words. Chinese, Japanese, Thai and similar scripts are compared
    by character. System messages of held-out rows are ignored.

    n-grams in more than `max_texts` held-out texts are assumed to come from a template and are ignored. With at most
    `max_texts` held-out texts, no n-gram is ignored, so training rows that share a long template with these texts are
    dropped; the audit shows such rows. N-grams are found by their hashes and confirmed word for word before a row is
    dropped. A text in several sets is counted for the first set (validation, test, then benchmarks in the order of the
    config).

    Memory: 16 bytes per distinct held-out n-gram (48 while the index is built), 150 per held-out text, none per row.
    Sources: Brown et al., Language Models are Few-Shot Learners, 2020, appendix C (13-grams, `max_texts`); Lambert et
    al., Tulu 3, 2024 (`min_share`).
    """

    splits: Splits = Field(default_factory=train_only)  # splits that the step processes
    against: list[SplitName] = Field(
        default_factory=evaluation_splits
    )  # splits to compare with; each split is compared only with later ones (in the order train, validation, test)
    parts: Annotated[list[Part], Field(min_length=1)] = Field(default_factory=prompts)  # parts of held-out rows to use
    benchmarks: dict[str, Benchmark | None] = Field(default_factory=dict)  # named held-out texts; null removes one
    n: Annotated[int, Field(ge=1)] = 13  # words in an n-gram; below 10, most overlaps are common phrases
    min_share: Annotated[float, Field(gt=0, le=1)] | None = 0.5  # sufficient share of a text's n-grams; null: unused
    min_matches: Annotated[int, Field(ge=1)] | None = 13  # sufficient number of a text's n-grams; null: unused
    max_texts: Annotated[int, Field(ge=1)] | None = 10  # ignore n-grams in more texts than this; null: ignore none
    min_words: Annotated[int, Field(ge=1)] = 1  # held-out texts with fewer words are ignored
    min_words_inside: Annotated[int, Field(ge=1)] = 8  # held-out texts with fewer words are compared only as a whole
    action: Literal["drop", "report"] = "drop"  # report: count the row and keep it

    def __post_init__(self) -> None:
        """Refuse a step without held-out texts or without a minimum overlap, and a benchmark named like a split.

        The minimum overlap is `min_share` or `min_matches`; at least one of them must be set.
        """
        if not self.against and not any(self.benchmarks.values()):
            raise Refusal("against", "is empty, and there is no benchmark: nothing would be compared")
        for name in self.benchmarks:
            if name in self.against:
                raise Refusal("benchmarks", f"{name!r} is also a split of the run: choose another name")
        if self.min_share is None and self.min_matches is None:
            raise Refusal("min_share", "and min_matches are both null: no overlap would be enough")

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """What the step needs: other splits (`splits`) if `against` is set, files (`data`) if there are benchmarks."""
        wanted: list[Need] = []
        if self.against:
            wanted.append("splits")
        if any(self.benchmarks.values()):
            wanted.append("data")
        return frozenset(wanted)

    def data_fingerprint(self, cache_path: Path) -> str:
        """Return a hash of the benchmarks' content."""
        hashes = [f"{name} {benchmark.input(cache_path).sha256}" for name, benchmark in self._benchmarks()]
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the rows that do not overlap with a held-out text; drop the others if `action` is `drop`.

        With the action `report`, the others are yielded too, and the audit reports them.
        """
        from instruct_lab.preprocessing.duplicates._held_out_index import HeldOutIndex, Limits, Rule

        limits = Limits(self.n, self.min_words, self.min_words_inside, self.max_texts)
        index = HeldOutIndex(self._sets(context), limits, Rule(self.min_matches, self.min_share))
        rows_by_set: Counter[str] = Counter()
        for batch in _batches(conversations):
            overlaps = index.find_overlaps([_all_words(messages) for _, messages in batch])
            for row, (conversation, messages) in enumerate(batch):
                equal = index.find_equal(_units(conversation, messages))
                text = overlaps.get(row) if equal is None else equal
                if text is None:
                    yield conversation
                    continue
                name = index.name(text)
                rows_by_set[name] += 1
                reason = f"overlaps with {name}" if equal is None else f"same text as in {name}"
                if self.action == "drop":
                    context.count_dropped(reason, conversation)
                else:
                    context.audit.record(context.stage, "reported", reason, conversation)
                    yield conversation
        self._note(context, index, rows_by_set)

    def _note(self, context: Context, index: HeldOutIndex, rows_by_set: Counter[str]) -> None:
        texts, found = index.num_texts(), index.num_found()
        counts = {name: {"texts": texts[name], "found": found[name], "rows": rows_by_set[name]} for name in texts}
        context.audit.note(context.stage, held_out=counts, ngrams=index.num_ngrams())

    def _benchmarks(self) -> Iterator[tuple[str, Benchmark]]:
        return ((name, benchmark) for name, benchmark in self.benchmarks.items() if benchmark is not None)

    def _sets(self, context: Context) -> list[TextSet]:
        from instruct_lab.preprocessing.duplicates._held_out_index import text_set

        splits = protected_splits(context.split, self.against, context.splits)
        sets = [text_set(name, rows, self._held_out_texts) for name, rows in splits.items()]
        for name, benchmark in self._benchmarks():
            sets.append(text_set(name, list(benchmark.texts(context.cache_path)), lambda text: [text]))
        return sets

    def _held_out_texts(self, conversation: Conversation) -> list[str]:
        """Return the texts of a held-out row that are compared with training rows, without its system messages."""
        prompt = "\n".join(message.content for message in conversation.prompt if message.role != "system")
        texts: list[str] = []
        for part in self.parts:
            if part == "prompt":
                texts.append(prompt)
            elif part == "answer":
                texts.extend(conversation.answers)
            else:
                texts.append("\n".join([prompt, *conversation.answers[:1]]))
        return texts


Messages = list[tuple[str, list[str]]]


def _batches(conversations: Sequence[Conversation]) -> Iterator[list[tuple[Conversation, Messages]]]:
    """Yield batches of rows: each conversation comes with the role and words of each of its texts.

    The texts are its messages, rejected messages and references.
    """
    batch: list[tuple[Conversation, Messages]] = []
    num_words = 0
    for conversation in conversations:
        texts = [(message.role, message.content) for message in (*conversation.messages, *conversation.rejected)]
        texts += [("reference", text) for text in conversation.references]
        messages = [(role, compared_tokens(text)) for role, text in texts]
        batch.append((conversation, messages))
        num_words += sum(len(tokens) for _, tokens in messages)
        if len(batch) >= BATCH_ROWS or num_words >= BATCH_WORDS:
            yield batch
            batch, num_words = [], 0
    if batch:
        yield batch


def _all_words(messages: Messages) -> list[str]:
    return [word for _, tokens in messages for word in tokens]


def _units(conversation: Conversation, messages: Messages) -> Iterator[list[str]]:
    """Yield the words of each text of a row that is compared as a whole with the held-out texts.

    These texts are every message, rejected message and reference, the prompt, and the whole conversation.
    """
    for _, tokens in messages:
        yield tokens
    num_prompt = len(conversation.prompt)
    if num_prompt > 1:
        yield _all_words([message for message in messages[:num_prompt] if message[0] != "system"])
    yield _all_words([message for message in messages[: len(conversation.messages)] if message[0] != "system"])

"""Training rows that hold what the model is measured on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation, SplitName
from instruct_lab.data.words import compared_words
from instruct_lab.errors import Refusal
from instruct_lab.preprocessing.base import Context, Need, Part, Splits, Step, train_alone
from instruct_lab.preprocessing.duplicates._compared import given_way_to
from instruct_lab.preprocessing.duplicates.benchmarks import Benchmark
from instruct_lab.preprocessing.duplicates.deduplicate import measured_splits

if TYPE_CHECKING:
    from instruct_lab.preprocessing.duplicates._held_out import HeldOut, TextSet

BATCH_ROWS, BATCH_WORDS = 500, 1 << 17


def prompts() -> list[Part]:
    """What of a measured row must not be trained on, by default."""
    return ["prompt"]


@component
class Decontaminate(Step):
    """Drops training rows that overlap with the run's own validation and test sets, or with named benchmarks.

    A row overlaps with a held-out text if it has `min_share` of the text's n-grams, or `min_matches` of them, anywhere
    in its messages; or if one of its messages, its prompt or the whole of it is the text. A text of fewer than n words
    is looked for as a whole: inside messages too if it has `min_words_inside`, since shorter ones are common phrases.
    Case, punctuation and white space do not count; Chinese, Japanese, Thai and the like are compared by character.
    n-grams that more than `max_texts` held-out texts share are a template's, and prove nothing; where fewer texts are
    held out than that, a long template drops every row that has it (the audit then shows them all). What hashes find is
    compared word for word before a row is dropped. System messages of held-out rows are not looked for. A text that two
    sets hold counts for the first of them (validation, test, benchmarks in order).
    Memory: 16 bytes for each different held-out n-gram (48 while they are sorted) and some 150 for each text; the
    rows add nothing. Sources: Brown et al., Language Models are Few-Shot Learners, 2020, appendix C (13-grams, and the
    bound on texts that share one); Lambert et al., Tulu 3, 2024 (the share).
    """

    splits: Splits = Field(default_factory=train_alone)  # which splits pass through
    against: list[SplitName] = Field(default_factory=measured_splits)  # of the run's own, those after the one cleaned
    parts: Annotated[list[Part], Field(min_length=1)] = Field(default_factory=prompts)  # of their rows, each a text
    benchmarks: dict[str, Benchmark | None] = Field(default_factory=dict)  # named held-out texts; null: left out
    n: Annotated[int, Field(ge=1)] = 13  # words in an n-gram; under 10, most overlaps are common phrases
    min_share: Annotated[float, Field(gt=0, le=1)] | None = 0.5  # of a text's n-grams that is enough; null: none is
    min_matches: Annotated[int, Field(ge=1)] | None = 13  # n-grams of a text that are enough; null: no number is
    max_texts: Annotated[int, Field(ge=1)] | None = 10  # n-grams that more texts share do not count; null: all count
    min_words: Annotated[int, Field(ge=1)] = 1  # held-out texts of fewer words are not looked for
    min_words_inside: Annotated[int, Field(ge=1)] = 8  # held-out texts of fewer words are not looked for inside others
    action: Literal["drop", "report"] = "drop"  # report: the row stays, and is counted

    def __post_init__(self) -> None:
        """Refuse a step that looks for nothing, and a benchmark named like a split."""
        if not self.against and not any(self.benchmarks.values()):
            raise Refusal("against", "names no split, and there is no benchmark: nothing would be looked for")
        for name in self.benchmarks:
            if name in self.against:
                raise Refusal("benchmarks", f"{name!r} is also a split of the run: choose another name")
        if self.min_share is None and self.min_matches is None:
            raise Refusal("min_share", "and min_matches are both null: no overlap would be enough")

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """The other splits, and the benchmarks' files."""
        wanted: list[Need] = []
        if self.against:
            wanted.append("splits")
        if any(self.benchmarks.values()):
            wanted.append("data")
        return frozenset(wanted)

    def data_fingerprint(self, cache_path: Path) -> str:
        """A hash of the benchmarks' bytes."""
        told = [f"{name} {benchmark.input(cache_path).sha256}" for name, benchmark in self._benchmarks()]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the rows that overlap with no held-out text; counts the others by the set that they overlap with."""
        from instruct_lab.preprocessing.duplicates._held_out import HeldOut, Limits, Rule

        limits = Limits(self.n, self.min_words, self.min_words_inside, self.max_texts)
        held_out = HeldOut(self._sets(context), limits, Rule(self.min_matches, self.min_share))
        rows_by_set: Counter[str] = Counter()
        for batch in _batches(conversations):
            overlapping = held_out.overlapping([_all_words(messages) for _, messages in batch])
            for number, (conversation, messages) in enumerate(batch):
                equal = held_out.equal(_units(conversation, messages))
                text = overlapping.get(number) if equal is None else equal
                if text is None:
                    yield conversation
                    continue
                name = held_out.name(text)
                rows_by_set[name] += 1
                reason = f"overlaps with {name}" if equal is None else f"same text as in {name}"
                if self.action == "drop":
                    context.dropped(reason, conversation)
                else:
                    context.audit.record(context.stage, "reported", reason, conversation)
                    yield conversation
        self._note(context, held_out, rows_by_set)

    def _note(self, context: Context, held_out: HeldOut, rows_by_set: Counter[str]) -> None:
        texts, found = held_out.num_texts(), held_out.num_found()
        told = {name: {"texts": texts[name], "found": found[name], "rows": rows_by_set[name]} for name in texts}
        context.audit.note(context.stage, held_out=told, ngrams=held_out.num_ngrams())

    def _benchmarks(self) -> Iterator[tuple[str, Benchmark]]:
        return ((name, benchmark) for name, benchmark in self.benchmarks.items() if benchmark is not None)

    def _sets(self, context: Context) -> list[TextSet]:
        from instruct_lab.preprocessing.duplicates._held_out import of_rows

        own = given_way_to(context.split, self.against, context.splits)
        sets = [of_rows(name, rows, self._held_out_texts) for name, rows in own.items()]
        for name, benchmark in self._benchmarks():
            sets.append(of_rows(name, list(benchmark.texts(context.cache_path)), lambda text: [text]))
        return sets

    def _held_out_texts(self, conversation: Conversation) -> list[str]:
        """The texts of a row that is measured on, without system messages."""
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
    """Rows with the roles and words of their messages, what is rejected and the references behind them."""
    batch: list[tuple[Conversation, Messages]] = []
    num_words = 0
    for conversation in conversations:
        spoken = [(message.role, message.content) for message in (*conversation.messages, *conversation.rejected)]
        spoken += [("reference", text) for text in conversation.references]
        messages = [(role, compared_words(text)) for role, text in spoken]
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
    """What of a row may be a held-out text as a whole: every message, the prompt, the conversation."""
    for _, tokens in messages:
        yield tokens
    num_prompt = len(conversation.prompt)
    if num_prompt > 1:
        yield _all_words([message for message in messages[:num_prompt] if message[0] != "system"])
    yield _all_words([message for message in messages[: len(conversation.messages)] if message[0] != "system"])

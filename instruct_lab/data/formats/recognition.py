"""Recognition of the format of rows by the names of their columns and the kinds of their values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from instruct_lab.config.spelling import nearest
from instruct_lab.data.formats.base import Format
from instruct_lab.data.formats.chat import Messages, ShareGPT
from instruct_lab.data.formats.column_kinds import ColumnKind, kinds_of
from instruct_lab.data.formats.plain_text import PlainText
from instruct_lab.data.formats.preference import PROMPT_COLUMNS, Preference
from instruct_lab.data.formats.single_turn import Alpaca, Columns, PromptCompletion
from instruct_lab.data.formats.turns import TurnFormat
from instruct_lab.data.formats.unpaired_preference import UnpairedPreference
from instruct_lab.data.formats.unused import LABEL, LABEL_COLUMNS, SYSTEM_COLUMNS, TOOL_COLUMNS
from instruct_lab.data.sources.base import Row

TURN_COLUMNS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns")
PAIRS = (("chosen", "rejected"), ("chosen_response", "rejected_response"), ("accepted", "rejected"))
QUESTIONS = ("prompt", "question", "query", "input", "problem", "user", "human")
ANSWERS = ("completion", "response", "output", "answer", "answers", "solution", "target", "assistant", "reply")
PASSAGES = ("context", "passage")
TASK_INPUTS = ("input", *PASSAGES)
TEXT_PAIRS = (
    ("article", "highlights"),
    ("article", "summary"),
    ("document", "summary"),
    ("dialogue", "summary"),
    ("text", "summary"),
    ("source", "target"),
    ("src", "tgt"),
)
"""Usual pairs of column names: the text that is given, and the text that is written from it, such as a summary."""
PLAIN_TEXTS = ("text", "content")
DESCRIPTIONS = frozenset(
    """id idx index url source title date timestamp time created lang language lang_score language_score meta metadata
    dump file file_path filename path part license author domain topic subset split quality score""".split()  # noqa: SIM905
)
"""Usual names of columns that describe a text and are not trained on."""
ALL_QUESTIONS = (*QUESTIONS, "instruction")
KNOWN_NAMES = frozenset({
    *TURN_COLUMNS, *(name for pair in PAIRS for name in pair), *ALL_QUESTIONS, *ANSWERS, *PASSAGES,
    *(name for pair in TEXT_PAIRS for name in pair), *PLAIN_TEXTS,
})  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Recognized:
    """A format that can read the columns of some rows.

    Args:
        format: the class of the format.
        fields: values of those fields of the format that must differ from its defaults.
        meaning: a phrase that describes what the format reads, and from which columns.
    """

    format: type[Format]
    fields: Mapping[str, Any]
    meaning: str

    def build(self) -> Format:
        """Construct the format with the values in `fields`."""
        return self.format(**self.fields)


def recognize(rows: Sequence[Row]) -> list[Recognized]:
    """Return the formats that can read the rows, judged by the names and values of their columns.

    The list has one entry if the format is clear, several if the columns are ambiguous, and none if no format fits.
    Column names are compared without regard to case, spaces and hyphens.
    """
    return _Table(kinds_of(rows)).formats()


def recognize_misspelled(rows: Sequence[Row]) -> list[Recognized]:
    """Return the formats that would fit if each column with an unknown name had the most similar known name."""
    kinds = kinds_of(rows)
    renamed = dict(kinds)
    for name in kinds.keys() - KNOWN_NAMES:
        close = nearest(name, KNOWN_NAMES - kinds.keys())
        if close is not None:
            renamed[close] = kinds[name]
    return _Table(renamed).formats() if renamed != kinds else []


class _Table:
    """Finds the formats that can read a table with the given columns.

    Args:
        kinds: what each column holds, keyed by the column's normalized name.
    """

    def __init__(self, kinds: Mapping[str, ColumnKind]) -> None:
        self._kinds = kinds

    def formats(self) -> list[Recognized]:
        """Return the formats that fit: one if the format is clear, several if the columns are ambiguous, or none.

        Formats of preference pairs take precedence, and plain text is used only if no other format fits.
        """
        if found := [*self._pairs()]:
            return found
        turns, single = [*self._turns()], [*self._single_turn()]
        labelled = [*self._labelled()]
        if labelled:
            return labelled if self._label_is_certain() else [*labelled, *turns, *single]
        return turns + single or [*self._plain_text()]

    # ---- families of formats

    def _pairs(self) -> Iterator[Recognized]:
        for chosen, rejected in PAIRS:
            kind = self._kinds.get(chosen)
            if kind is None or not kind.is_message or not self._is_message(rejected):
                continue
            prompt = None if kind.has_prompt else next(self._messages_in(PROMPT_COLUMNS), None)
            if kind.has_prompt or prompt is not None:
                names = {"chosen": chosen, "rejected": rejected} | ({"prompt": prompt} if prompt else {})
                yield self._format(Preference, names, "pairs of a chosen and a rejected answer")
            return

    def _labelled(self) -> Iterator[Recognized]:
        label = self._label()
        if label is None:
            return
        meaning = "answers with a label that says whether they are good"
        for prompt in self._turn_columns():
            names = {"prompt": prompt, "completion": None, "label": label}
            yield self._format(UnpairedPreference, names, meaning)
        for prompt, completion in self._questions_and_answers():
            names = {"prompt": prompt, "completion": completion, "label": label}
            yield self._format(UnpairedPreference, names, meaning)

    def _turns(self) -> Iterator[Recognized]:
        for column in self._turn_columns():
            kind = self._kinds[column]
            keys = f"messages with {kind.role_key} and {kind.content_key}"
            if kind.is_openai:
                yield self._format(Messages, {"messages": column}, keys)
            else:
                names = {"conversations": column}
                plain = {"role": kind.role_key, "content": kind.content_key}
                yield self._format(ShareGPT, names, keys, plain)

    def _single_turn(self) -> Iterator[Recognized]:
        found = [*self._instructions(), *self._answered_questions()]
        yield from found
        pairs = (pair for pair in TEXT_PAIRS if all(map(self._is_text, pair)))
        if not found and (pair := next(pairs, None)) is not None:
            names = dict(zip(("prompt", "completion"), pair, strict=True))
            yield self._format(PromptCompletion, names, "a text and what is written from it")

    def _instructions(self) -> Iterator[Recognized]:
        if self._is_text("instruction"):
            names = {"instruction": "instruction"} | ({"input": given} if (given := self._task_input()) else {})
            for answer in filter(self._is_text, ANSWERS):
                yield self._format(Alpaca, {**names, "output": answer}, "an instruction and its answer")

    def _answered_questions(self) -> Iterator[Recognized]:
        has_instruction = self._is_text("instruction")
        questions = [name for name in QUESTIONS if not (has_instruction and name == self._task_input())]
        passage = None if has_instruction else next(filter(self._is_text, PASSAGES), None)
        for question, answer in self._questions_and_answers(questions):
            if passage is not None or self._answer_path(answer):
                yield self._passage_format(passage, question, answer)
            else:
                names = {"prompt": question, "completion": answer}
                yield self._format(PromptCompletion, names, "a question and its answer")

    def _plain_text(self) -> Iterator[Recognized]:
        texts = [*filter(self._is_text, PLAIN_TEXTS)]
        others = [
            name
            for name, kind in self._kinds.items()
            if name not in (*DESCRIPTIONS, *texts) and kind.kind not in ("empty", "number", "truth")
        ]
        for text in texts if not others and not {LABEL, "labels"} & self._kinds.keys() else ():
            yield self._format(PlainText, {"text": text}, "plain texts without questions")

    # ---- columns

    def _task_input(self) -> str | None:
        return next(filter(self._is_text, TASK_INPUTS), None)

    def _questions_and_answers(self, questions: Sequence[str] = ALL_QUESTIONS) -> Iterator[tuple[str, str]]:
        """Yield the names of every pair of a question column and an answer column."""
        answers = [name for name in ANSWERS if self._is_message(name) or (self._has(name) and self._answer_path(name))]
        for question in self._messages_in(questions):
            yield from ((question, answer) for answer in answers)

    def _turn_columns(self) -> Iterator[str]:
        """Yield the names of the columns that hold whole conversations.

        These are the columns that hold lists of turns and have a usual name, such as `messages`. If there are
        none, they are all columns with lists of turns, except those with a usual name for a question, an answer or one
        side of a preference pair.
        """
        known = [name for name in TURN_COLUMNS if self._has(name) and self._kinds[name].kind == "turns"]
        if known:
            yield from known
            return
        taken = (*QUESTIONS, *ANSWERS, *(name for pair in PAIRS for name in pair))
        yield from (name for name, kind in self._kinds.items() if kind.kind == "turns" and name not in taken)

    def _label(self) -> str | None:
        return next((name for name in LABEL_COLUMNS if self._has(name) and self._kinds[name].is_label), None)

    def _label_is_certain(self) -> bool:
        label = self._label()
        return label is not None and (label != LABEL or self._kinds[label].kind == "truth")

    def _passage_format(self, passage: str | None, question: str, answer: str) -> Recognized:
        """Return a format for questions about a passage or, if `passage` is `None`, for questions with several answers.

        Args:
            passage: name of the column of the passage; `None` if the questions are not about a passage.
            question: name of the column of the questions.
            answer: name of the column of the answers.
        """
        path = self._answer_path(answer)
        prompt = f"{{{self._real(question)}}}"
        if passage is not None:
            prompt = f"{{{self._real(passage)}}}\n\n{prompt}"
        fields = {"prompt": prompt, "completion": f"{{{self._real(answer)}{path}}}"}
        if path:
            fields["references"] = f"{self._real(answer)}{path.removesuffix('[0]')}"
        meaning = "questions about a passage" if passage else "questions with several acceptable answers"
        return Recognized(Columns, fields, meaning)

    def _format(
        self, kind: type[Format], names: Mapping[str, str | None], meaning: str, plain: Mapping[str, str] | None = None
    ) -> Recognized:
        """Return a recognised format that sets only the fields whose given values differ from their defaults.

        Args:
            kind: the class of the format.
            names: normalized column name for each field that names a column; `None` for a field that is set to null.
            meaning: a phrase that describes what the format reads.
            plain: values of the other fields, which name no column.
        """
        fields: dict[str, Any] = {field: name and self._real(name) for field, name in names.items()} | dict(plain or {})
        defaults = {field.name: field.default for field in dataclasses.fields(kind)}
        for field, usual in (("system", SYSTEM_COLUMNS), ("tools", TOOL_COLUMNS)):
            found = [name for name in usual if self._has(name)]
            if field in defaults and found and (field == "system" or issubclass(kind, TurnFormat)):
                fields[field] = self._real(found[0])
        return Recognized(kind, {f: value for f, value in fields.items() if value != defaults[f]}, meaning)

    def _messages_in(self, names: Iterable[str]) -> Iterator[str]:
        return filter(self._is_message, names)

    def _has(self, name: str) -> bool:
        return name in self._kinds and self._kinds[name].kind != "empty"

    def _is_text(self, name: str) -> bool:
        return self._has(name) and self._kinds[name].kind == "text"

    def _is_message(self, name: str) -> bool:
        return self._has(name) and self._kinds[name].is_message

    def _answer_path(self, name: str) -> str:
        return self._kinds[name].answer_path

    def _real(self, name: str) -> str:
        return self._kinds[name].column

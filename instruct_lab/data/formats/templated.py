"""A format that renders each row with one of several templates of a task, or with all of them, as in FLAN and P3."""

from __future__ import annotations

import functools
import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.config.spelling import nearest
from instruct_lab.data.conversation import Conversation, Message
from instruct_lab.data.formats.base import Format, to_json_value
from instruct_lab.data.formats.single_turn import column_names, fill, single_turn
from instruct_lab.data.sources.base import Row
from instruct_lab.errors import LimitExceeded, Refusal, one_line

if TYPE_CHECKING:
    import jinja2

SEPARATOR = "|||"
PARTED = "\ue000|||\ue001"  # replaces separators in templates, because a row's text may contain |||
CHOICES = "answer_choices"
CHOICE = re.compile(rf"{CHOICES}\[([^\[\]]+)\]")
NUMBER = re.compile(r"-?\d+")


@component
class Templates(Format):
    """Named templates of one task. Each row is rendered with all of them, or with one that is drawn for the row.

    The draw depends only on the content of the row and the seed.

    A template consists of a prompt, `|||` and an answer. Each additional `|||` begins another acceptable answer. White
    space around the prompt and each answer is removed. With `syntax: columns`, column names are written in braces, as
    in `Columns`. With `syntax: jinja`, a template is a Jinja template as in promptsource (Bach et al., PromptSource,
    2022), rendered in a sandbox. It may use promptsource's filters `choice` and `most_frequent` and the functions `zip`
    and `enumerate`. The results of `choice` and of Jinja's filter `random` depend only on the row and the seed, so that
    a row is always rendered in the same way.

    A template may render an empty prompt or answer for a row that it does not fit, as in P3. The next template in the
    order drawn for the row is then used; a row that fits no template is broken. Adding or removing a template changes
    only the rows that draw it. The metadata of a conversation hold `template` (the name of the template),
    `answer_choices` (the answers among which the model is to choose) and `row` (a hash of the row, which is the same
    for all conversations of the row).
    """

    templates: dict[str, Annotated[str, Field(min_length=1)] | None]  # by name: prompt ||| answer; null removes it
    syntax: Literal["columns", "jinja"] = "columns"  # {column}, or Jinja as in P3
    answer_choices: str | dict[str, str | None] | None = (
        None  # choices separated by |||: one list for all templates, or one for each
    )
    each: Literal["one", "all"] = "one"  # use one template, drawn for each row, or all templates
    seed: Annotated[int, Field(ge=0)] = 0  # seed of the draw

    def __post_init__(self) -> None:
        """Refuse templates that cannot be used.

        This is the case if the config names no template, a template has no answer, the syntax of a template or of its
        answer choices is invalid, or there are answer choices for a template that does not exist.
        """
        if not self._texts():
            raise Refusal("templates", "names no template")
        for name, text in self._texts().items():
            field = f"templates.{name}"
            if SEPARATOR not in text:
                raise Refusal(field, "has no answer: write prompt ||| answer")
            self._names(text, field)
        choices = self.answer_choices if isinstance(self.answer_choices, dict) else {}
        for name in choices:
            if name not in self.templates:
                raise Refusal(f"answer_choices.{name}", "there is no such template", nearest(name, self.templates))
        for name in self._texts():
            if (listed := self._choices_text(name)) is not None:
                self._names(
                    listed, "answer_choices" if isinstance(self.answer_choices, str) else f"answer_choices.{name}"
                )

    def required(self) -> dict[str, list[str]]:
        """Return the columns that the templates and their answer choices name, keyed by field.

        Columns whose presence a Jinja template tests are left out, since rows may lack them.
        """
        columns: dict[str, list[str]] = {}
        for name, text in self._texts().items():
            columns[f"templates.{name}"] = self._names(text, f"templates.{name}")
            if (listed := self._choices_text(name)) is not None:
                columns["answer_choices"] = columns.get("answer_choices", []) + self._names(listed, "answer_choices")
        return {field: list(dict.fromkeys(names)) for field, names in columns.items()}

    def consumed_columns(self) -> set[str | None]:
        """Return an empty set: a template may use only a part of a column, so the metadata keep every column."""
        return set()

    def used_columns(self) -> set[str | None]:
        """Return the columns that the templates and their answer choices name, including columns that rows may lack."""
        texts = [text for name in self._texts() for text in (self.templates[name], self._choices_text(name)) if text]
        tested = [_jinja_names(text, "templates", tested=True) for text in texts] if self.syntax == "jinja" else []
        return {name for names in (*self.required().values(), *tested) for name in names}

    def turns(self, row: Row) -> list[Message]:
        """Return the messages rendered with the template that is drawn for the row."""
        return list(self.conversation(row).messages)

    def conversation(self, row: Row) -> Conversation:
        """Convert a row with the template that is drawn for it.

        Raises:
            InstructLabError: no template fits the row, or a template uses a column that the row does not have.
        """
        return next(self._fitting(row))

    def conversations_of(self, row: Row) -> Iterator[Conversation]:
        """Yield the conversation of the template that is drawn for the row.

        With `each: all`, yield a conversation for every template that fits the row, in the order of the config.

        Raises:
            InstructLabError: no template fits the row, or a template uses a column that the row does not have.
        """
        if self.each == "one":
            yield self.conversation(row)
            return
        order = {name: number for number, name in enumerate(self._texts())}
        yield from sorted(self._fitting(row), key=lambda conversation: order[conversation.metadata["template"]])

    def _fitting(self, row: Row) -> Iterator[Conversation]:
        """Render the row with every template that fits, and yield the conversations in the order drawn for the row.

        Raises:
            InstructLabError: no template fits the row, or a template uses a column that the row does not have.
        """
        identity = _row_hash(row)
        fits = False
        for name in sorted(self._texts(), key=lambda name: _draw_key(self.seed, identity, name), reverse=True):
            draw = random.Random(_draw_key(self.seed, identity, name)) if self.syntax == "jinja" else None
            choices = self._choices(name, row, draw)
            values = row if choices is None else Row({**row.columns, CHOICES: choices}, row.where)
            prompt, *answers = self._parts(name, str(self.templates[name]), values, draw)
            answers = [answer for answer in answers if answer]
            if not prompt or not answers:
                continue
            fits = True
            references = tuple(dict.fromkeys(answers)) if len(answers) > 1 else ()
            metadata = {"template": name, "row": identity} | ({} if choices is None else {CHOICES: choices})
            yield self.make_conversation(row, single_turn("", prompt, answers[0]), references, metadata=metadata)
        if not fits:
            raise row.error(
                "No template gives both a prompt and an answer for the row", do="Remove the row, or add templates"
            )

    def _parts(self, name: str, text: str, row: Row, draw: random.Random | None) -> list[str]:
        if draw is None:
            return [fill(part.strip(), row).strip() for part in text.split(SEPARATOR)]
        return [part.strip() for part in _render(text, row, draw, name).split(PARTED)]

    def _choices(self, name: str, row: Row, draw: random.Random | None) -> list[str] | None:
        text = self._choices_text(name)
        return None if text is None else self._parts(f"{name}, answer_choices", text, row, draw)

    def _texts(self) -> dict[str, str]:
        return {name: text for name, text in self.templates.items() if text is not None}

    def _choices_text(self, name: str) -> str | None:
        return self.answer_choices.get(name) if isinstance(self.answer_choices, dict) else self.answer_choices

    def _names(self, text: str, field: str) -> list[str]:
        """Return the columns that a template uses; the variable `answer_choices` is not a column and is left out.

        Raises:
            Refusal: the template is not valid in the configured `syntax`.
        """
        if self.syntax == "jinja":
            return _jinja_names(text, field)
        names = [name for part in text.split(SEPARATOR) for name in column_names(part.strip(), field)]
        names = [CHOICE.sub(r"\1", name) for name in names]  # answer_choices[label] needs label
        return [name for name in dict.fromkeys(names) if name != CHOICES and not NUMBER.fullmatch(name)]


def _row_hash(row: Row) -> str:
    """Return a short hash of the row's columns, which is the same in every run."""
    try:
        encoded = json.dumps(to_json_value(row.columns), sort_keys=True).encode()
    except RecursionError as error:
        raise row.error("A column is nested too deeply", do="Remove the column") from error
    return hashlib.sha256(encoded).hexdigest()[:16]


def _draw_key(seed: int, identity: str, name: str) -> bytes:
    """Return the sort key of a template for a row; the template with the highest key is drawn (rendezvous hashing).

    Args:
        seed: seed of the draw.
        identity: hash of the row.
        name: name of the template.
    """
    return hashlib.sha256(f"{seed}\n{identity}\n{name}".encode()).digest()


def _most_frequent(values: Sequence[Any]) -> list[Any]:
    counts = Counter(values).most_common()
    return [value for value, count in counts if count == counts[0][1]]


def _choice(context: jinja2.runtime.Context, values: Sequence[Any]) -> Any:
    draw: random.Random = context["__draw__"]
    return draw.choice(list(values))


@functools.cache
def _environment() -> jinja2.Environment:
    """Return Jinja's sandbox, in which templates cannot change a row's values or access Python's internals."""
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from instruct_lab.data.jinja_limits import limit

    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.globals.update(zip=zip, enumerate=enumerate)
    draw = jinja2.pass_context(_choice)
    environment.filters.update(choice=draw, random=draw, most_frequent=_most_frequent)
    return limit(environment)


@functools.lru_cache(maxsize=1024)
def _compiled(text: str) -> jinja2.Template:
    return _environment().from_string(text.replace(SEPARATOR, PARTED))


def _render(text: str, row: Row, draw: random.Random, name: str) -> str:
    import jinja2

    from instruct_lab.data.jinja_limits import TemplateLimitExceeded, render

    location = f"template {name!r}"
    try:
        return row.check_text(render(_compiled(text), {**row.columns, "__draw__": draw}), location)
    except TemplateLimitExceeded as error:
        what = f"The template {name!r} is stopped, because {error}"
        raise LimitExceeded(what, where=row.where, do=f"correct data.format.templates.{name}") from error
    except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        what = f"The template cannot be rendered ({one_line(error, 200)})"
        raise row.error(what, location, "Correct the template or the row") from error
    except RecursionError as error:
        raise row.error("The template recurs too deeply", location, "Correct the template") from error


def _jinja_names(text: str, field: str, tested: bool = False) -> list[str]:
    """Return the columns that every row must have for a Jinja template.

    If `tested`, the result includes the columns that the template uses only if they exist.
    """
    import jinja2
    from jinja2 import meta, nodes

    try:
        parsed = _environment().parse(text.replace(SEPARATOR, PARTED))
        named = meta.find_undeclared_variables(parsed)
    except jinja2.TemplateSyntaxError as error:
        raise Refusal(field, f"line {error.lineno} is not Jinja: {error.message}") from error
    optional = {
        test.node.name
        for test in parsed.find_all(nodes.Test)
        if test.name in ("defined", "undefined") and isinstance(test.node, nodes.Name)
    }
    return sorted(named - (set() if tested else optional) - {CHOICES} - set(_environment().globals))

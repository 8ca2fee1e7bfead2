"""The tokenizer's own chat template, taken apart into contents and the template's text between them."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation, Message
from instruct_lab.errors import InstructLabError, Problem
from instruct_lab.template.base import Segment, Template, TrainOn
from instruct_lab.template.copying import copies_contents
from instruct_lab.template.marking import ALTERNATIVES, before_last_answer, mark
from instruct_lab.template.special_tokens import SpecialTokens, special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Variable = str | bool | int | float
LLAMA_DATE = "26 Jul 2024"
"""The date that Llama 3.1's own template falls back to; without it, later ones print today's."""


SENTINEL = re.compile("\ue000\\d+\ue001")


def _sentinel(index: int) -> str:
    return f"\ue000{index}\ue001"  # private-use characters: no template's text holds them


@component
class ChatTemplate(Template):
    """The tokenizer's own chat template, or a Jinja text in its place.

    Stock templates do not mark what the assistant says. So each is rendered once with a placeholder for every content,
    which gives the template's own text between the contents; then with the contents, and both must agree to the last
    character, white space that the template trims around a content excepted. A template that changes, drops, merges
    or refuses a message is refused here, by role. Placeholders are rendered once for every order of roles; contents
    are not rendered where the template's syntax tree shows that it copies them (see `copies_contents`).
    """

    train_on: TrainOn = "assistant"  # assistant, last_assistant, or all (template text too)
    jinja: str | None = None  # a Jinja chat template in place of the tokenizer's own
    variables: dict[str, Variable] = Field(
        default_factory=lambda: dict[str, Variable](date_string=LLAMA_DATE)
    )  # passed to the template, as enable_thinking to Qwen 3; date_string keeps Llama 3 from printing today's date

    def problems(self) -> Iterator[Problem]:
        """A Jinja text that cannot be parsed."""
        if self.jinja is None or "generation" in self.jinja:  # `{% generation %}` is transformers' own tag
            return
        import jinja2

        try:
            jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(self.jinja)
        except jinja2.TemplateSyntaxError as error:
            yield Problem(key="jinja", reason=f"line {error.lineno} is not Jinja: {error.message}")

    def render(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """See `Template.render`."""
        return self._segments(conversation.messages, self._shared(tokenizer), conversation.id)

    def render_all(
        self, conversations: Sequence[Conversation], tokenizer: PreTrainedTokenizerBase
    ) -> list[list[Segment]]:
        """See `Template.render_all`."""
        shared = self._shared(tokenizer)
        return [self._segments(conversation.messages, shared, conversation.id) for conversation in conversations]

    def render_prompt(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """See `Template.render_prompt`."""
        messages = (*conversation.prompt, Message("assistant", _sentinel(len(conversation.prompt))))
        return before_last_answer(self._segments(messages, self._shared(tokenizer), conversation.id))

    def stop_token_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """See `Template.stop_token_ids`."""
        segments = self._segments((Message("user", "a"), Message("assistant", "b")), self._shared(tokenizer), "")
        answer = next(index for index, segment in enumerate(segments) if segment.starts_answer)
        end_of_turn = special_tokens(tokenizer).ids[segments[answer + 1].text]
        eos = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
        return list(dict.fromkeys([end_of_turn, *eos]))

    def as_jinja(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """See `Template.as_jinja`."""
        return self.jinja

    def _shared(self, tokenizer: PreTrainedTokenizerBase) -> _Shared:
        variables = tuple(sorted(self.variables.items()))
        return _Shared(tokenizer, self._text(tokenizer), variables, special_tokens(tokenizer))

    def _segments(self, messages: Sequence[Message], shared: _Shared, name: str) -> list[Segment]:
        where = f"conversation {name or '(unnamed)'}"
        if not messages:
            raise InstructLabError("The conversation has no messages", where=where, do="leave it out of the data")
        rendering = _Rendering(shared.tokenizer, shared.jinja, shared.variables, where)
        glue = _glue(rendering, tuple(message.role for message in messages))
        if copies_contents(rendering.jinja):
            return mark(messages, glue, self.train_on, shared.special, where)
        shown = _contents_as_shown(rendering.text(messages), messages, glue)
        if shown is None:
            index = _changed(rendering, messages, glue)
            raise InstructLabError(
                f"The chat template changes the content of message {index + 1} ({messages[index].role}), or its own "
                "text beside it, so what is trained cannot be told from what is not",
                where=where,
                do=f"clean that content, or {ALTERNATIVES}",
            )
        placed = [
            dataclasses.replace(message, content=content) for message, content in zip(messages, shown, strict=True)
        ]
        return mark(placed, glue, self.train_on, shared.special, where)

    def _text(self, tokenizer: PreTrainedTokenizerBase) -> str:
        if self.jinja is not None:
            return self.jinja
        if not tokenizer.chat_template:
            raise InstructLabError(
                "The tokenizer has no chat template",
                where="template.jinja",
                do=f"give one as template.jinja, or {ALTERNATIVES}",
            )
        if isinstance(tokenizer.chat_template, dict) and "default" not in tokenizer.chat_template:
            raise InstructLabError(
                f"The tokenizer has chat templates named {sorted(tokenizer.chat_template)} and no default",
                where="template.jinja",
                do=f"give one as template.jinja, or {ALTERNATIVES}",
            )
        text: str = tokenizer.get_chat_template()
        return text


@dataclasses.dataclass(frozen=True, slots=True)
class _Shared:
    """What is the same for all conversations that one tokenizer's template renders."""

    tokenizer: PreTrainedTokenizerBase
    jinja: str
    variables: tuple[tuple[str, Any], ...]
    special: SpecialTokens


@dataclasses.dataclass(frozen=True)
class _Rendering:
    """One Jinja text with its tokenizer; equal ones give equal text for equal messages."""

    tokenizer: PreTrainedTokenizerBase
    jinja: str
    variables: tuple[tuple[str, Any], ...]
    where: str = dataclasses.field(compare=False)

    def text(self, messages: Sequence[Message]) -> str:
        """The messages as the template renders them.

        Raises:
            InstructLabError: the template refuses them.
        """
        import jinja2

        try:
            return self._text(messages)
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, IndexError) as error:
            roles = [message.role for message in messages]
            raise InstructLabError(
                f"The chat template refuses {self._refused_role(messages)}: {error} "
                f"(roles of the conversation: {_listed(roles)})",
                where=self.where,
                do=f"change the conversation's roles, or {ALTERNATIVES}",
            ) from error

    def _text(self, messages: Sequence[Message]) -> str:
        plain = [{"role": message.role, "content": message.content} for message in messages]
        text: str = self.tokenizer.apply_chat_template(
            plain, tokenize=False, chat_template=self.jinja, **dict(self.variables)
        )
        return text

    def _refused_role(self, messages: Sequence[Message]) -> str:
        import jinja2

        for role in sorted({message.role for message in messages} - {"user", "assistant"}):
            others = [message for message in messages if message.role != role]
            try:
                self._text(others)
            except (jinja2.TemplateError, TypeError, ValueError, KeyError, IndexError):
                continue
            return f"messages of role {role!r}"
        return "these messages"


@lru_cache(maxsize=1024)
def _glue(rendering: _Rendering, roles: tuple[str, ...]) -> tuple[str, ...]:
    """The template's text before, between and after contents, for this order of roles."""
    text = rendering.text([Message(role, _sentinel(index)) for index, role in enumerate(roles)])
    glue, start = [], 0
    found = Counter(SENTINEL.findall(text))
    for index, role in enumerate(roles):
        sentinel = _sentinel(index)
        place = text.find(sentinel, start)
        if found[sentinel] != 1 or place < 0:
            did = "drops" if not found[sentinel] else "repeats" if found[sentinel] > 1 else "moves"
            raise InstructLabError(
                f"The chat template {did} the content of message {index + 1} (role {role!r}; roles of the "
                f"conversation: {_listed(roles)})",
                where=rendering.where,
                do=f"change the conversation's roles, or {ALTERNATIVES}",
            )
        glue.append(text[start:place])
        start = place + len(sentinel)
    return (*glue, text[start:])


def _listed(roles: Sequence[str]) -> str:
    return ", ".join(roles[:12]) + (f", … {len(roles)} in all" if len(roles) > 12 else "")


def _contents_as_shown(text: str, messages: Sequence[Message], glue: Sequence[str]) -> list[str] | None:
    """Each content as it stands in the text (trimmed or not), if nothing else was changed."""
    place = len(glue[0])
    if not text.startswith(glue[0]):
        return None
    shown = []
    for index, message in enumerate(messages):
        after = glue[index + 1]
        for content in _trimmings(message.content):
            end = place + len(content) + len(after)
            is_last = index == len(messages) - 1
            if text.startswith(content + after, place) and (end == len(text) if is_last else True):
                shown.append(content)
                place = end
                break
        else:
            return None
    return shown


def _trimmings(content: str) -> dict[str, None]:
    """The content, and what templates make of the white space around it; the longest first."""
    if content == content.strip():
        return {content: None}
    ways = [content, content.rstrip("\n"), content.lstrip("\n"), content.strip("\n")]
    return dict.fromkeys([*ways, content.rstrip(), content.lstrip(), content.strip()])


def _changed(rendering: _Rendering, messages: Sequence[Message], glue: Sequence[str]) -> int:
    """Which message the template changes: the first that does so among placeholders."""
    for index, message in enumerate(messages):
        others = [Message(other.role, _sentinel(place)) for place, other in enumerate(messages)]
        others[index] = message
        if _contents_as_shown(rendering.text(others), others, glue) is None:
            return index
    return 0

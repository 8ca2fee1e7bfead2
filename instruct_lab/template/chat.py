"""The tokenizer's own chat template, separated into contents and the template's text between them."""

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
"""The default date of Llama 3.1's template; without it, later ones print today's date."""


def fixed_date() -> dict[str, Variable]:
    """The default variables of a template: a fixed date, which keeps Llama 3 from printing today's."""
    return {"date_string": LLAMA_DATE}


SENTINEL = re.compile("\ue000\\d+\ue001")


def _sentinel(index: int) -> str:
    return f"\ue000{index}\ue001"  # private-use characters, which no template's text contains


@component
class ChatTemplate(Template):
    """The tokenizer's own chat template, or a Jinja template instead.

    Most templates do not mark what the assistant says. So a conversation is rendered with a placeholder for every
    content, which gives the template's own text between the contents, and then with the contents. Both must agree to
    the last character, except for white space that the template trims around a content. A template that changes,
    drops, merges or refuses a message is an error that names the role. Placeholders are rendered once per order of
    roles; contents are not rendered if the template's syntax tree shows that it copies them (see `copies_contents`).
    """

    train_on: TrainOn = "assistant"  # assistant, last_assistant, or all (template text too)
    jinja: str | None = None  # a Jinja chat template; null: the tokenizer's own
    variables: dict[str, Variable] = Field(default_factory=fixed_date)  # for the template, such as enable_thinking

    def problems(self) -> Iterator[Problem]:
        """A Jinja template that cannot be parsed."""
        if self.jinja is None or "generation" in self.jinja:  # `{% generation %}` is transformers' own tag
            return
        import jinja2

        try:
            jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(self.jinja)
        except jinja2.TemplateSyntaxError as error:
            yield Problem(key="jinja", reason=f"line {error.lineno} is not Jinja: {error.message}")

    def render(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """Contents as segments, and the chat template's text between them."""
        return self._segments(conversation.messages, self._prepare(tokenizer), conversation.id)

    def render_all(
        self, conversations: Sequence[Conversation], tokenizer: PreTrainedTokenizerBase
    ) -> list[list[Segment]]:
        """`render` of each; the template is prepared once."""
        prepared = self._prepare(tokenizer)
        return [self._segments(conversation.messages, prepared, conversation.id) for conversation in conversations]

    def render_prompt(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """The segments before the final answer."""
        messages = (*conversation.prompt, Message("assistant", _sentinel(len(conversation.prompt))))
        return before_last_answer(self._segments(messages, self._prepare(tokenizer), conversation.id))

    def stop_token_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """The token after an answer in the chat template, and the EOS token."""
        segments = self._segments((Message("user", "a"), Message("assistant", "b")), self._prepare(tokenizer), "")
        answer = next(index for index, segment in enumerate(segments) if segment.starts_answer)
        end_of_turn = special_tokens(tokenizer).ids[segments[answer + 1].text]
        eos = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
        return list(dict.fromkeys([end_of_turn, *eos]))

    def as_jinja(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """The template from the config, if there is one."""
        return self.jinja

    def _prepare(self, tokenizer: PreTrainedTokenizerBase) -> _Prepared:
        variables = tuple(sorted(self.variables.items()))
        return _Prepared(tokenizer, self._template_text(tokenizer), variables, special_tokens(tokenizer))

    def _segments(self, messages: Sequence[Message], prepared: _Prepared, name: str) -> list[Segment]:
        where = f"conversation {name or '(unnamed)'}"
        if not messages:
            raise InstructLabError("The conversation has no messages", where=where, do="remove it from the data")
        rendering = _Rendering(prepared.tokenizer, prepared.jinja, prepared.variables, where)
        glue = _glue(rendering, tuple(message.role for message in messages))
        if copies_contents(rendering.jinja):
            return mark(messages, glue, self.train_on, prepared.special, where)
        contents = _rendered_contents(rendering.text(messages), messages, glue)
        if contents is None:
            index = _changed_message(rendering, messages, glue)
            raise InstructLabError(
                f"The chat template changes the content of message {index + 1} ({messages[index].role}), or its own "
                "text beside it, so trained text cannot be separated from the rest",
                where=where,
                do=f"clean that content, or {ALTERNATIVES}",
            )
        rendered = [
            dataclasses.replace(message, content=content) for message, content in zip(messages, contents, strict=True)
        ]
        return mark(rendered, glue, self.train_on, prepared.special, where)

    def _template_text(self, tokenizer: PreTrainedTokenizerBase) -> str:
        if self.jinja is not None:
            return self.jinja
        if not tokenizer.chat_template:
            raise InstructLabError(
                "The tokenizer has no chat template",
                where="template.jinja",
                do=f"set template.jinja, or {ALTERNATIVES}",
            )
        if isinstance(tokenizer.chat_template, dict) and "default" not in tokenizer.chat_template:
            raise InstructLabError(
                f"The tokenizer has the chat templates {sorted(tokenizer.chat_template)} but no default",
                where="template.jinja",
                do=f"set template.jinja, or {ALTERNATIVES}",
            )
        text: str = tokenizer.get_chat_template()
        return text


@dataclasses.dataclass(frozen=True, slots=True)
class _Prepared:
    """What all conversations share that one tokenizer's template renders."""

    tokenizer: PreTrainedTokenizerBase
    jinja: str
    variables: tuple[tuple[str, Any], ...]
    special: SpecialTokens


@dataclasses.dataclass(frozen=True)
class _Rendering:
    """One Jinja template with its tokenizer, hashable so that results can be cached."""

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
                f"(roles of the conversation: {_list_roles(roles)})",
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
    """The template's text before, between and after the contents, for one order of roles."""
    text = rendering.text([Message(role, _sentinel(index)) for index, role in enumerate(roles)])
    glue, start = [], 0
    found = Counter(SENTINEL.findall(text))
    for index, role in enumerate(roles):
        sentinel = _sentinel(index)
        position = text.find(sentinel, start)
        if found[sentinel] != 1 or position < 0:
            did = "drops" if not found[sentinel] else "repeats" if found[sentinel] > 1 else "moves"
            raise InstructLabError(
                f"The chat template {did} the content of message {index + 1} (role {role!r}; roles of the "
                f"conversation: {_list_roles(roles)})",
                where=rendering.where,
                do=f"change the conversation's roles, or {ALTERNATIVES}",
            )
        glue.append(text[start:position])
        start = position + len(sentinel)
    return (*glue, text[start:])


def _list_roles(roles: Sequence[str]) -> str:
    return ", ".join(roles[:12]) + (f", … {len(roles)} in all" if len(roles) > 12 else "")


def _rendered_contents(text: str, messages: Sequence[Message], glue: Sequence[str]) -> list[str] | None:
    """Each content as it is in the text (trimmed or not); `None` if anything else was changed."""
    position = len(glue[0])
    if not text.startswith(glue[0]):
        return None
    contents = []
    for index, message in enumerate(messages):
        after = glue[index + 1]
        for content in _trimmings(message.content):
            end = position + len(content) + len(after)
            is_last = index == len(messages) - 1
            if text.startswith(content + after, position) and (end == len(text) if is_last else True):
                contents.append(content)
                position = end
                break
        else:
            return None
    return contents


def _trimmings(content: str) -> dict[str, None]:
    """The content, and its variants with white space trimmed; the longest first."""
    if content == content.strip():
        return {content: None}
    variants = [content, content.rstrip("\n"), content.lstrip("\n"), content.strip("\n")]
    return dict.fromkeys([*variants, content.rstrip(), content.lstrip(), content.strip()])


def _changed_message(rendering: _Rendering, messages: Sequence[Message], glue: Sequence[str]) -> int:
    """The index of the first message that the template changes, each tried singly among placeholders."""
    for index, message in enumerate(messages):
        others = [Message(other.role, _sentinel(position)) for position, other in enumerate(messages)]
        others[index] = message
        if _rendered_contents(rendering.text(others), others, glue) is None:
            return index
    return 0

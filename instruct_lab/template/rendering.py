"""A tokenizer's chat template applied to messages, and the template's own text between contents."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from instruct_lab.data import Message
from instruct_lab.errors import InstructLabError
from instruct_lab.template.locating import PLACEHOLDER, placeholder
from instruct_lab.template.marking import ALTERNATIVES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AnswersFrom = Literal["content", "generation_prompt"]


@dataclasses.dataclass(frozen=True)
class Rendering:
    """One Jinja template with its tokenizer, hashable so that results can be cached."""

    tokenizer: PreTrainedTokenizerBase
    jinja: str
    variables: tuple[tuple[str, Any], ...]
    where: str = dataclasses.field(compare=False)

    def text(self, messages: Sequence[Message], generation_prompt: bool = False) -> str:
        """The messages as the template renders them.

        Args:
            messages: the conversation.
            generation_prompt: whether to append what opens the next answer, if the template knows of it.

        Raises:
            InstructLabError: the template refuses them.
        """
        import jinja2

        try:
            return self._text(messages, generation_prompt)
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, IndexError) as error:
            roles = [message.role for message in messages]
            raise InstructLabError(
                f"The chat template refuses {self._refused_role(messages)}: {error} "
                f"(roles of the conversation: {list_roles(roles)})",
                where=self.where,
                do=f"change the conversation's roles, or {ALTERNATIVES}",
            ) from error

    def _text(self, messages: Sequence[Message], generation_prompt: bool = False) -> str:
        plain = [{"role": message.role, "content": message.content} for message in messages]
        text: str = self.tokenizer.apply_chat_template(
            plain,
            tokenize=False,
            chat_template=self.jinja,
            add_generation_prompt=generation_prompt,
            **dict(self.variables),
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
def glue_of(rendering: Rendering, roles: tuple[str, ...]) -> tuple[str, ...]:
    """The template's text before, between and after the contents, for one order of roles."""
    text = rendering.text([Message(role, placeholder(index)) for index, role in enumerate(roles)])
    glue, start = [], 0
    found = Counter(match[0] for match in PLACEHOLDER.finditer(text))
    for index, role in enumerate(roles):
        stands_for = placeholder(index)
        position = text.find(stands_for, start)
        if found[stands_for] != 1 or position < 0:
            did = "drops" if not found[stands_for] else "repeats" if found[stands_for] > 1 else "moves"
            raise InstructLabError(
                f"The chat template {did} the content of message {index + 1} (role {role!r}; roles of the "
                f"conversation: {list_roles(roles)})",
                where=rendering.where,
                do=f"change the conversation's roles, or {ALTERNATIVES}",
            )
        glue.append(text[start:position])
        start = position + len(stands_for)
    return (*glue, text[start:])


@lru_cache(maxsize=256)
def opening_of(rendering: Rendering, answers_from: AnswersFrom) -> str:
    """The text before an answer's content that a model writes itself at generation, as the template does not open it.

    White space there (`[/INST] answer`) belongs to the answer's first token, and so always to the answer.
    """
    question = Message("user", placeholder(0))
    try:
        prompt = rendering.text([question], generation_prompt=True)
        opening, header, _ = glue_of(rendering, ("user", "assistant"))
    except InstructLabError:
        return ""
    before_answer = opening + question.content + header
    written = before_answer.removeprefix(prompt) if before_answer.startswith(prompt) else ""
    opens_answers = answers_from == "generation_prompt" and "add_generation_prompt" in rendering.jinja
    return written if opens_answers or written.isspace() else ""


def list_roles(roles: Sequence[str]) -> str:
    """The roles for a message, shortened."""
    return ", ".join(roles[:12]) + (f", … {len(roles)} in all" if len(roles) > 12 else "")


def match_contents(text: str, messages: Sequence[Message], glue: Sequence[str]) -> list[str] | None:
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


def changed_message(rendering: Rendering, messages: Sequence[Message], glue: Sequence[str]) -> int:
    """The index of the first message that the template changes, each tried singly among placeholders."""
    for index, message in enumerate(messages):
        others = [Message(other.role, placeholder(position)) for position, other in enumerate(messages)]
        others[index] = message
        if match_contents(rendering.text(others), others, glue) is None:
            return index
    return 0

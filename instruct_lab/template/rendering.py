"""Rendering messages with a chat template, and finding the template's own text between the contents of messages."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from instruct_lab.data import Message
from instruct_lab.data.formats.turn_keys import think_tags
from instruct_lab.errors import InstructLabError, LimitExceeded
from instruct_lab.template.base import RefusedConversation
from instruct_lab.template.locating import PLACEHOLDER, placeholder
from instruct_lab.template.marking import alternatives, rename_role
from instruct_lab.template.special_tokens import special_tokens

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import SandboxedEnvironment
    from transformers import PreTrainedTokenizerBase

PROBED_REASONING = ("An earlier thought.", "A later\n\nthought.")
"""The reasoning of two answers in a test conversation, whose rendering shows how a template writes reasoning."""
AnswersFrom = Literal["content", "generation_prompt"]


@dataclasses.dataclass(frozen=True)
class Rendering:
    """Renders messages with a Jinja template, a tokenizer's special tokens and the template's variables.

    It is hashable, so that results can be cached.
    """

    tokenizer: PreTrainedTokenizerBase
    jinja: str
    variables: tuple[tuple[str, Any], ...]
    where: str = dataclasses.field(compare=False)

    def text(self, messages: Sequence[Message], generation_prompt: bool = False) -> str:
        """Render messages as text.

        Args:
            messages: the messages of a conversation.
            generation_prompt: whether to append the header of the next answer, if the template supports this.

        Raises:
            InstructLabError: the template raises an error for these messages.
        """
        import jinja2

        try:
            return self._text(messages, generation_prompt)
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, IndexError) as error:
            roles = [message.role for message in messages]
            role = self._refused_role(messages)
            refused = f"messages of role {role!r}" if role is not None else "these messages"
            raise RefusedConversation(
                f"The chat template refuses {refused}: {error} (roles of the conversation: {list_roles(roles)})",
                where=self.where,
                do=f"{rename_role(role) if role is not None else order_roles(roles)}, or {self.alternatives}",
            ) from error

    def prompt(self, messages: Sequence[Message]) -> str:
        """Render messages with the generation prompt; return an empty text if the template refuses the messages."""
        try:
            return self.text(messages, generation_prompt=True)
        except LimitExceeded:
            raise
        except InstructLabError:
            return ""

    @property
    def alternatives(self) -> str:
        """The advice to choose another template, for error messages."""
        return alternatives(special_tokens(self.tokenizer))

    def reasoning_text(self, tagged: bool) -> str:
        """Render a test conversation whose answers have reasoning.

        Args:
            tagged: whether each answer's reasoning is in `<think>` tags before its text; otherwise, it is in the
                message's fields `thinking` and `reasoning_content`.
        """
        turns = []
        for thought in PROBED_REASONING:
            turns.append({"role": "user", "content": "A question."})
            content, key = "An answer.", {} if tagged else dict.fromkeys(("thinking", "reasoning_content"), thought)
            turns.append({"role": "assistant", "content": think_tags(thought, content) if tagged else content, **key})
        return self._apply(turns, generation_prompt=False)

    def _text(self, messages: Sequence[Message], generation_prompt: bool = False) -> str:
        return self._apply([{"role": one.role, "content": one.content} for one in messages], generation_prompt)

    def _apply(self, plain: list[dict[str, str]], generation_prompt: bool) -> str:
        """Render messages as transformers' `apply_chat_template` does, but with limits, as templates may be malicious.

        Args:
            plain: the messages, each with the keys `role` and `content`; a message whose reasoning is separate also has
                the keys `thinking` and `reasoning_content`.
            generation_prompt: whether to append the header of the next answer.

        Raises:
            LimitExceeded: the template needs more time or memory than allowed.
        """
        from instruct_lab.data.jinja_limits import TemplateLimitExceeded, render

        fixed = {"messages": plain, "tools": None, "documents": None, "add_generation_prompt": generation_prompt}
        try:
            return render(_compiled(self.jinja), {**self.tokenizer.special_tokens_map, **dict(self.variables), **fixed})
        except TemplateLimitExceeded as error:
            what = f"The chat template is stopped, because {error}"
            raise LimitExceeded(what, where=self.where, do=f"correct the template, or {self.alternatives}") from error

    def _refused_role(self, messages: Sequence[Message]) -> str | None:
        """Find a role that the template does not support; `None` if no single role is the cause.

        The template refuses the conversation, but renders it if the messages of this role are removed.
        """
        import jinja2

        for role in sorted({message.role for message in messages} - {"user", "assistant"}):
            others = [message for message in messages if message.role != role]
            try:
                self._text(others)
            except (jinja2.TemplateError, TypeError, ValueError, KeyError, IndexError):
                continue
            return role
        return None


@lru_cache(maxsize=1)
def _environment() -> SandboxedEnvironment:
    """Return the Jinja environment of transformers for chat templates, with limits on time and memory."""
    from transformers.utils import chat_template_utils

    from instruct_lab.data.jinja_limits import limit

    return limit(chat_template_utils._compile_jinja_template("").environment)


@lru_cache(maxsize=256)
def _compiled(jinja: str) -> Template:
    return _environment().from_string(jinja)


@lru_cache(maxsize=1024)
def glue_of(rendering: Rendering, roles: tuple[str, ...]) -> tuple[str, ...]:
    """Return the template's own text before, between and after the contents of messages with these roles.

    Raises:
        InstructLabError: the template refuses these roles, or drops, repeats or moves the content of a message.
    """
    text = rendering.text([Message(role, placeholder(index)) for index, role in enumerate(roles)])
    glue, start = [], 0
    found = Counter(match[0] for match in PLACEHOLDER.finditer(text))
    for index in range(len(roles)):
        stands_for = placeholder(index)
        position = text.find(stands_for, start)
        if found[stands_for] != 1 or position < 0:
            did = "drops" if not found[stands_for] else "repeats" if found[stands_for] > 1 else "moves"
            if did == "moves":  # the template moves an earlier message to a position after this one
                index = next(i for i in range(index) if text.find(placeholder(i)) > text.find(stands_for))
            do = order_roles(roles) if roles[index] in ("user", "assistant") else rename_role(roles[index])
            raise RefusedConversation(
                f"The chat template {did} the content of message {index + 1} (role {roles[index]!r}; roles of "
                f"the conversation: {list_roles(roles)})",
                where=rendering.where,
                do=f"{do}, or {rendering.alternatives}",
            )
        glue.append(text[start:position])
        start = position + len(stands_for)
    return (*glue, text[start:])


@lru_cache(maxsize=256)
def opening_of(rendering: Rendering, answers_from: AnswersFrom) -> str:
    """Return the text that the model has to generate between the generation prompt and the content of an answer.

    If `answers_from` is `generation_prompt` and the template uses `add_generation_prompt`, this is all the text that
    the template writes there. Otherwise, this text is returned only if it is white space (as in `[/INST] answer`),
    because white space is a part of the answer's first token. In all other cases, the result is an empty text.
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


def order_roles(roles: Sequence[str]) -> str:
    """Return the advice, for error messages, to correct the order of roles with a preprocessing step."""
    if any(first == second for first, second in itertools.pairwise(roles)):
        return "set preprocessing.steps.normalize.merge_consecutive=true to join consecutive messages of one role"
    return "set preprocessing.steps.clean.role_order=repair to bring the messages into order"


def list_roles(roles: Sequence[str]) -> str:
    """List roles for an error message: the first twelve and, if there are more, the number of all."""
    return ", ".join(roles[:12]) + (f", … {len(roles)} in all" if len(roles) > 12 else "")


def match_contents(text: str, messages: Sequence[Message], glue: Sequence[str]) -> list[str] | None:
    """Find each content in the rendered text, even if the template has trimmed white space at the content's ends.

    Args:
        text: the rendered conversation.
        messages: the messages of the conversation.
        glue: the template's own text before, between and after the contents.

    Returns:
        The content of each message as it stands in the text; `None` if the template has changed a content in another
        way, for example by removing words.
    """
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
    """Return the content, then variants stripped of line feeds, then of all white space, at one or both ends."""
    if content == content.strip():
        return {content: None}
    variants = [content, content.rstrip("\n"), content.lstrip("\n"), content.strip("\n")]
    return dict.fromkeys([*variants, content.rstrip(), content.lstrip(), content.strip()])


def changed_message(rendering: Rendering, messages: Sequence[Message], glue: Sequence[str]) -> int:
    """Return the index of the first message whose content the template changes, or 0 if there is no such message.

    A content that the template only trims counts as unchanged. Each message is rendered together with placeholders as
    the contents of all other messages.
    """
    for index, message in enumerate(messages):
        others = [Message(other.role, placeholder(position)) for position, other in enumerate(messages)]
        others[index] = message
        if match_contents(rendering.text(others), others, glue) is None:
            return index
    return 0

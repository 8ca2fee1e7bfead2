"""Rendering with the tokenizer's own chat template; finds out which parts of the rendered text are message contents."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation, Message
from instruct_lab.errors import InstructLabError, Problem, Refusal
from instruct_lab.template.base import RefusedConversation, Segment, Template, TrainOn, check_has_messages
from instruct_lab.template.copying import copies_contents
from instruct_lab.template.dates import fix_date
from instruct_lab.template.locating import locate, parse_template, placeholder
from instruct_lab.template.marking import Marker, alternatives, before_last_answer
from instruct_lab.template.rendering import (
    PROBED_REASONING,
    AnswersFrom,
    Rendering,
    changed_message,
    glue_of,
    match_contents,
    opening_of,
)
from instruct_lab.template.special_tokens import SpecialTokens, special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Variable = str | bool | int | float


@component
class ChatTemplate(Template):
    """Renders conversations with the tokenizer's own chat template, or with another Jinja template.

    Most templates do not mark which text is the assistant's. To find out, a conversation is rendered twice: with a
    placeholder for the content of each message, which reveals the text that the template adds, and with the contents.
    The first rendering is done only once for conversations with the same order of roles. The second one is omitted if
    the template's syntax tree shows that the template copies contents unchanged. A template may also change a content,
    for example remove its `<think>` block. What remains of the content is then located in the rendered text, so that
    the model is trained on exactly what the template writes. An error is raised if a message cannot be located, or if
    the template drops, repeats or refuses a message.

    A template may add text, such as an empty `<think>` block, between the generation prompt and an answer. By default,
    the model is not trained on this text; before generation, the text is appended to the prompt. With `answers_from:
    generation_prompt`, the text is part of the answer: the model is trained on it and has to generate it. Use this
    setting to train on reasoning with such a template.
    """

    train_on: TrainOn = "assistant"  # assistant, last_assistant, or all (template text too)
    jinja: str | None = None  # Jinja chat template; null: the tokenizer's chat template
    variables: dict[str, Variable] = Field(default_factory=dict)  # variables for the template, such as enable_thinking
    date: str = "2024-07-26"  # date that a template prints as today's date, so that texts do not change daily
    answers_from: AnswersFrom = "content"  # start of an answer: its content, or the end of the generation prompt

    def __post_init__(self) -> None:
        """Refuse a `date` that is not a valid calendar date."""
        try:
            datetime.date.fromisoformat(self.date)
        except ValueError as error:
            raise Refusal("date", f"not a date, year-month-day: {error}", "2024-07-26") from error

    def problems(self) -> Iterator[Problem]:
        """Report a syntax error in the Jinja template that the field `jinja` contains."""
        if self.jinja is None:
            return
        import jinja2

        try:
            parse_template(self.jinja)
        except jinja2.TemplateSyntaxError as error:
            yield Problem(key="jinja", reason=f"line {error.lineno} is not Jinja: {error.message}")

    def render(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """Render a whole conversation as segments: contents of messages, and the text that the template adds."""
        (segments,) = self.render_all([conversation], tokenizer)
        return segments

    def render_all(
        self, conversations: Sequence[Conversation], tokenizer: PreTrainedTokenizerBase
    ) -> list[list[Segment]]:
        """Render several conversations; the template and its variables are read only once."""
        prepared = self._prepare(tokenizer)
        rendered = []
        for conversation in conversations:
            check_has_messages(conversation)
            rendered.append(self._segments(conversation.messages, prepared, conversation.where))
        return rendered

    def render_prompt(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """Render the prompt: the messages before the final answer, and the template's text directly before it."""
        answer = conversation.messages[len(conversation.prompt) :] or (Message("assistant", placeholder(0)),)
        prepared = self._prepare(tokenizer)
        return before_last_answer(self._segments((*conversation.prompt, *answer), prepared, conversation.where))

    def stop_token_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the ids of the special token with which the chat template ends an answer, and of the EOS token."""
        segments = self.render(Conversation((Message("user", "a"), Message("assistant", "b"))), tokenizer)
        answer = next(index for index, segment in enumerate(segments) if segment.role == "assistant")
        end_of_turn = special_tokens(tokenizer).ids[segments[answer + 1].text.lstrip()]
        eos = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
        return list(dict.fromkeys([end_of_turn, *eos]))

    def check_reasoning(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Check that the template writes the reasoning in `reasoning_content` as if it stood in `<think>` tags.

        For this, a conversation is rendered in both forms.

        Raises:
            InstructLabError: the two texts differ, or the template does not use `reasoning_content`.
        """
        prepared = self._prepare(tokenizer)
        rendering = Rendering(tokenizer, prepared.jinja, prepared.variables, "a conversation with reasoning")
        separate, joined = (rendering.reasoning_text(tagged) for tagged in (False, True))
        if PROBED_REASONING[-1] not in separate:
            raise self.refuse_reasoning("The chat template takes no reasoning_content")
        if separate != joined:
            raise self.refuse_reasoning("The chat template writes reasoning_content in another form than <think> tags")

    def as_jinja(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """Return the template in the field `jinja`; `None` if the tokenizer's own chat template is used."""
        return self.jinja

    def _prepare(self, tokenizer: PreTrainedTokenizerBase) -> _Prepared:
        date = datetime.date.fromisoformat(self.date)
        variables = {"date_string": date.strftime("%d %b %Y"), **self.variables}  # read by Llama 3's template
        jinja = fix_date(self._template_text(tokenizer), date)
        return _Prepared(tokenizer, jinja, tuple(sorted(variables.items())), special_tokens(tokenizer))

    def _segments(self, messages: Sequence[Message], prepared: _Prepared, where: str) -> list[Segment]:
        rendering = Rendering(prepared.tokenizer, prepared.jinja, prepared.variables, where)
        glue: Sequence[str] = glue_of(rendering, tuple(message.role for message in messages))
        marker = Marker(self.train_on, prepared.special, where, opening_of(rendering, self.answers_from))
        if copies_contents(rendering.jinja):
            return marker.mark(messages, glue)
        text = rendering.text(messages)
        contents = match_contents(text, messages, glue)
        if contents is not None:
            return marker.mark(_with_contents(messages, contents), glue)
        located = locate(rendering.text, messages, text, rendering.jinja)
        if located is not None:
            located = located.with_openings(messages, glue, lambda index: rendering.prompt(messages[:index]))
            return marker.mark(_with_contents(messages, located.contents), located.glue, located)
        index = changed_message(rendering, messages, glue)
        raise RefusedConversation(
            f"The chat template changes the content of message {index + 1} ({messages[index].role}), or its own "
            "text beside it, so trained text cannot be separated from the rest",
            where=where,
            do=f"clean that content, or {alternatives(prepared.special)}",
        )

    def _template_text(self, tokenizer: PreTrainedTokenizerBase) -> str:
        if self.jinja is not None:
            return self.jinja
        if not tokenizer.chat_template:
            raise InstructLabError(
                "The tokenizer has no chat template",
                where="template.jinja",
                do=f"set template.jinja, or {alternatives(special_tokens(tokenizer))}",
            )
        if isinstance(tokenizer.chat_template, dict) and "default" not in tokenizer.chat_template:
            raise InstructLabError(
                f"The tokenizer has the chat templates {sorted(tokenizer.chat_template)} but no default",
                where="template.jinja",
                do=f"set template.jinja, or {alternatives(special_tokens(tokenizer))}",
            )
        text: str = tokenizer.get_chat_template()
        return text


@dataclasses.dataclass(frozen=True, slots=True)
class _Prepared:
    """The inputs of rendering that are the same for all conversations: tokenizer, chat template and variables."""

    tokenizer: PreTrainedTokenizerBase
    jinja: str
    variables: tuple[tuple[str, Any], ...]
    special: SpecialTokens


def _with_contents(messages: Sequence[Message], contents: Sequence[str]) -> list[Message]:
    return [dataclasses.replace(message, content=content) for message, content in zip(messages, contents, strict=True)]

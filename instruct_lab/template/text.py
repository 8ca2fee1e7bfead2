"""Templates written as plain text patterns in a YAML file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from instruct_lab.config import component
from instruct_lab.data import Conversation, Message
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.template.base import Segment, Template, TrainOn
from instruct_lab.template.marking import before_last_answer, mark
from instruct_lab.template.special_tokens import special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONTENT = "{content}"


@component
class TextTemplate(Template):
    """One text pattern a role, as settings only: needs no chat template in the tokenizer.

    An answer follows `assistant_header` and is closed by `turn_end`, which is trained with it. A new wording is a new
    YAML file.
    """

    train_on: TrainOn = "assistant"  # assistant, last_assistant, or all (template text too)
    system: str | None = "{content}\n\n"  # around a system message; null: conversations may have none
    user: str = "{content}\n"  # around a user message
    tool: str | None = None  # around a tool's result; null: conversations may have none
    assistant_header: str = ""  # opens an answer
    turn_end: str | None = None  # the special token that closes an answer; null: the tokenizer's eos token
    turn_separator: str = "\n"  # between a closed answer and the next message; untrained
    default_system: str | None = None  # the system message of a conversation that has none; null: none

    def __post_init__(self) -> None:
        for field in ("system", "user", "tool"):
            pattern = getattr(self, field)
            if pattern is not None and pattern.count(CONTENT) != 1:
                raise Refusal(field, f"the pattern must hold {CONTENT} exactly once")
        if CONTENT in self.assistant_header:
            raise Refusal("assistant_header", f"the answer follows the header: it holds no {CONTENT}")
        if self.turn_end == "":
            raise Refusal("turn_end", "an answer must be closed by a token", "null")
        if self.default_system is not None and self.system is None:
            raise Refusal("default_system", "it needs the pattern of system messages, and system is null")

    def render(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """See `Template.render`."""
        return self._segments(conversation.messages, tokenizer, conversation.id)

    def render_prompt(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """See `Template.render_prompt`."""
        messages = (*conversation.prompt, Message("assistant", ""))
        return before_last_answer(self._segments(messages, tokenizer, conversation.id))

    def stop_token_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """See `Template.stop_token_ids`."""
        eos = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
        return list(dict.fromkeys([special_tokens(tokenizer).ids[self._turn_end(tokenizer)], *eos]))

    def as_jinja(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """See `Template.as_jinja`."""
        header, end = json.dumps(self.assistant_header), json.dumps(self._turn_end(tokenizer))
        separator = json.dumps(self.turn_separator)
        opening = ""
        if self.default_system is not None and self.system is not None:
            default = json.dumps(self.system.replace(CONTENT, self.default_system))
            opening = "{% if messages[0]['role'] != 'system' %}{{ " + default + " }}{% endif %}"
        roles = [
            f"{{% elif message['role'] == '{role}' %}}{{{{ {before} + message['content'] + {after} }}}}"
            for role in ("system", "user", "tool")
            if (pattern := getattr(self, role)) is not None
            for before, after in [map(json.dumps, pattern.split(CONTENT))]
        ]
        bos = tokenizer.bos_token_id
        begins = bos is not None and list(tokenizer("")["input_ids"])[:1] == [bos]
        return "".join(
            [
                "{{ bos_token }}" if begins else "",
                opening,
                "{% for message in messages %}",
                "{% if not loop.first and loop.previtem['role'] == 'assistant' %}{{ " + separator + " }}{% endif %}",
                "{% if message['role'] == 'assistant' %}{{ " + header + " + message['content'] + " + end + " }}",
                *roles,
                "{% else %}{{ raise_exception('no pattern for role ' + message['role']) }}{% endif %}",
                "{% endfor %}{% if add_generation_prompt %}",
                "{% if messages[-1]['role'] == 'assistant' %}{{ " + separator + " }}{% endif %}",
                "{{ " + header + " }}{% endif %}",
            ]
        )

    def _segments(self, messages: tuple[Message, ...], tokenizer: PreTrainedTokenizerBase, name: str) -> list[Segment]:
        where = f"conversation {name or '(unnamed)'}"
        if not messages:
            raise InstructLabError("The conversation has no messages", where=where, do="leave it out of the data")
        turn_end = self._turn_end(tokenizer)
        text = ""  # the template's own text since the last content
        if self.default_system is not None and self.system is not None and messages[0].role != "system":
            text = self.system.replace(CONTENT, self.default_system)
        glue = []
        for index, message in enumerate(messages):
            before, after = self._around(message.role, turn_end, where)
            separator = self.turn_separator if index and messages[index - 1].role == "assistant" else ""
            glue.append(text + separator + before)
            text = after
        return mark(messages, [*glue, text], self.train_on, special_tokens(tokenizer), where)

    def _around(self, role: str, turn_end: str, where: str) -> tuple[str, str]:
        if role == "assistant":
            return self.assistant_header, turn_end
        patterns = {"system": self.system, "user": self.user, "tool": self.tool}
        pattern = patterns.get(role)
        if pattern is None:
            known = ", ".join(name for name, known in patterns.items() if known is not None)
            raise InstructLabError(
                f"The template has no pattern for messages of role {role!r} (it has {known}, assistant)",
                where=where,
                do=f"give template.{role}, or map the role to another"
                if role in patterns
                else "map it to another role",
            )
        before, after = pattern.split(CONTENT)
        return before, after

    def _turn_end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        token = self.turn_end if self.turn_end is not None else tokenizer.eos_token
        if token is None:
            raise InstructLabError(
                "The tokenizer has no eos token to close an answer with",
                where="template.turn_end",
                do="name one of the tokenizer's special tokens as template.turn_end",
            )
        if token not in special_tokens(tokenizer).ids:
            known = ", ".join(list(special_tokens(tokenizer).ids)[:12]) or "none"
            raise InstructLabError(
                f"{token!r}, which closes an answer, is no special token of this tokenizer (it has {known})",
                where="template.turn_end",
                do="name one of them as template.turn_end, set it to null for the eos token, or choose "
                "template=alpaca or template=plain",
            )
        return str(token)

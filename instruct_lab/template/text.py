"""Templates that are defined as text patterns in a YAML file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from instruct_lab.config import component
from instruct_lab.data import Conversation, Message
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.template.base import RefusedConversation, Segment, Template, TrainOn, check_has_messages
from instruct_lab.template.marking import Marker, before_last_answer, rename_role
from instruct_lab.template.special_tokens import special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONTENT = "{content}"


@component
class TextTemplate(Template):
    """A template with one text pattern for each role, defined in the config; the tokenizer needs no chat template.

    The text before an answer is `assistant_header`. The token `turn_end` follows the answer, and the model is trained
    on both the answer and this token. To change the wording, write a new YAML file.
    """

    train_on: TrainOn = "assistant"  # assistant, last_assistant, or all (template text too)
    system: str | None = "{content}\n\n"  # pattern of a system message; null: system messages are refused
    user: str = "{content}\n"  # pattern of a user message
    tool: str | None = None  # pattern of a tool result; null: tool results are refused
    assistant_header: str = ""  # text before an answer
    turn_end: str | None = None  # the special token that ends an answer; null: the tokenizer's EOS token
    turn_separator: str = "\n"  # text between an answer and the next message; not trained
    default_system: str | None = None  # system message of conversations that have none; null: no system message

    def __post_init__(self) -> None:
        for field in ("system", "user", "tool"):
            pattern = getattr(self, field)
            if pattern is not None and pattern.count(CONTENT) != 1:
                raise Refusal(field, f"the pattern must contain {CONTENT} exactly once")
        if CONTENT in self.assistant_header:
            raise Refusal("assistant_header", f"the answer follows the header, which must not contain {CONTENT}")
        if self.turn_end == "":
            raise Refusal("turn_end", "an answer must end with a token", "null")
        if self.default_system is not None and self.system is None:
            raise Refusal("default_system", "needs a pattern for system messages, but system is null")

    def render(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """Render every message with the pattern of its role."""
        check_has_messages(conversation)
        return self._segments(conversation.messages, tokenizer, conversation.where)

    def render_prompt(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """Render the messages before the final answer, followed by `assistant_header`."""
        messages = (*conversation.prompt, Message("assistant", ""))
        return before_last_answer(self._segments(messages, tokenizer, conversation.where))

    def stop_token_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the ids of the tokens that end a generated answer: `turn_end` and the EOS token."""
        eos = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
        return list(dict.fromkeys([special_tokens(tokenizer).ids[self._turn_end(tokenizer)], *eos]))

    def as_jinja(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """Convert the patterns of all roles to one Jinja chat template, for the tokenizer of an exported model."""
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
        adds_bos = bos is not None and list(tokenizer("")["input_ids"])[:1] == [bos]
        return "".join(
            [
                "{{ bos_token }}" if adds_bos else "",
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

    def _segments(self, messages: tuple[Message, ...], tokenizer: PreTrainedTokenizerBase, where: str) -> list[Segment]:
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
        return Marker(self.train_on, special_tokens(tokenizer), where).mark(messages, [*glue, text])

    def _around(self, role: str, turn_end: str, where: str) -> tuple[str, str]:
        if role == "assistant":
            return self.assistant_header, turn_end
        patterns = {"system": self.system, "user": self.user, "tool": self.tool}
        pattern = patterns.get(role)
        if pattern is None:
            known = ", ".join(name for name, value in patterns.items() if value is not None)
            raise RefusedConversation(
                f"The template has no pattern for messages of role {role!r} (it has {known}, assistant)",
                where=where,
                do=(f"set template.{role}, or " if role in patterns else "") + rename_role(role),
            )
        before, after = pattern.split(CONTENT)
        return before, after

    def _turn_end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        token = self.turn_end if self.turn_end is not None else tokenizer.eos_token
        if token is None:
            raise InstructLabError(
                "The tokenizer has no EOS token to end an answer with",
                where="template.turn_end",
                do="set template.turn_end to one of the tokenizer's special tokens",
            )
        if token not in special_tokens(tokenizer).ids:
            known = ", ".join(list(special_tokens(tokenizer).ids)[:12]) or "none"
            raise InstructLabError(
                f"{token!r}, which ends an answer, is not a special token of this tokenizer (it has {known})",
                where="template.turn_end",
                do="set template.turn_end to one of them, or to null for the EOS token, or choose "
                "template=alpaca or template=plain",
            )
        return str(token)

"""A template that renders only the contents of messages, for models that are not trained on chats."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from instruct_lab.config import component
from instruct_lab.data import Conversation, Message
from instruct_lab.template.base import Segment, Template, TrainOn, check_has_messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@component
class Contents(Template):
    """A template that joins the contents of the messages with `separator` and writes no roles.

    This template is for encoders, and for encoder-decoder models, whose decoder generates only the answer. It writes no
    text that marks the end of an answer: only the tokenizer adds special tokens, at the start and the end of the whole
    text. A decoder-only model would therefore not learn where an answer ends.
    """

    families: ClassVar = frozenset({"encoder-decoder", "encoder"})

    prefix: str = ""  # text before the first message, such as "translate English to French: "
    separator: str = "\n"  # text between two messages
    train_on: TrainOn = "assistant"  # assistant, last_assistant, or all

    def render(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """Render the prefix, the content of each message and the separators between them as segments."""
        check_has_messages(conversation)
        return self._segments(conversation.messages)

    def render_prompt(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """Render all messages before the final answer; the result is one empty segment if there are none."""
        return self._segments(conversation.prompt) or [Segment("", False)]

    def stop_token_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the tokenizer's EOS id in a list, which is empty if there is no EOS token."""
        return [tokenizer.eos_token_id] if isinstance(tokenizer.eos_token_id, int) else []

    def _segments(self, messages: tuple[Message, ...]) -> list[Segment]:
        answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
        by_policy = set(answers[-1:] if self.train_on == "last_assistant" else answers)
        segments = []
        for index, message in enumerate(messages):
            between = self.separator if index else self.prefix
            segments.append(Segment(between, self.train_on == "all"))
            trained = self.train_on == "all" or index in by_policy if message.trained is None else message.trained
            is_answer = message.role == "assistant"
            segments.append(Segment(message.content, trained, message.role, starts_answer=is_answer))
        return [segment for segment in segments if segment.text or segment.role is not None]

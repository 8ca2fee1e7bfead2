"""The base class of templates, and the segments that they render."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from instruct_lab.config import Component
from instruct_lab.data import Conversation
from instruct_lab.errors import InstructLabError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TrainOn = Literal["assistant", "last_assistant", "all"]


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the rendered text.

    Args:
        text: the text of the piece.
        trained: whether its tokens are targets.
        role: the role of the message whose content this is; `None` for the template's own text. The characters of a
            special token stand for this token in the template's own text, but are ordinary text in a content.
        starts_answer: whether the piece starts an assistant's content. No token crosses this start, so the ids of the
            prompt are the same as at inference.
        has_tokens: whether, as an exception, the characters of a special token stand for this token in this content.
    """

    text: str
    trained: bool
    role: str | None = None
    starts_answer: bool = False
    has_tokens: bool = False


class RefusedConversation(InstructLabError):
    """Raised if a template cannot render one conversation; it may be able to render others."""


class Template(Component, ABC):
    """Renders a conversation as segments."""

    @abstractmethod
    def render(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """Render the whole conversation; `train_on` selects the answers to train on, with their end-of-turn tokens.

        Raises:
            RefusedConversation: the template cannot render these messages, or changes their content.
            InstructLabError: the template does not end an assistant turn with a special token.
        """

    def render_all(
        self, conversations: Sequence[Conversation], tokenizer: PreTrainedTokenizerBase
    ) -> list[list[Segment]]:
        """Render several conversations; a template may override this to do shared work only once.

        Raises:
            InstructLabError: for the reasons given at `render`.
        """
        return [self.render(conversation, tokenizer) for conversation in conversations]

    @abstractmethod
    def render_prompt(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """Render the messages before the final answer, followed by the header that opens the answer."""

    @abstractmethod
    def stop_token_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the ids of the tokens that end a generated answer: the end-of-turn token and the EOS token."""

    def check_reasoning(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Check that the template writes the reasoning before an answer in `<think>` tags, as the data formats do.

        Raises:
            InstructLabError: the template writes reasoning in another way, or not at all.
        """
        raise self.refuse_reasoning(f"{type(self).__name__} takes no reasoning_content")

    def refuse_reasoning(self, what: str) -> InstructLabError:
        """Return the error for a template that does not write reasoning in `<think>` tags; `what` is its message."""
        do = "set it to think_tags to train it as <think>…</think>, or to drop; or choose another template"
        return InstructLabError(what, where="data.format.reasoning=template", do=do)

    def as_jinja(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """Return this template as a Jinja chat template for an exported tokenizer; `None` keeps the tokenizer's own."""
        return None


def check_has_messages(conversation: Conversation) -> None:
    """Check that a conversation has messages.

    Raises:
        RefusedConversation: the conversation has no messages.
    """
    if not conversation.messages:
        what, where = "The conversation has no messages", conversation.where
        raise RefusedConversation(what, where=where, do="remove it from the data")

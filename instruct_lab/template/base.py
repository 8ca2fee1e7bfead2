"""The base class of templates, and the segments of text that they return."""

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
    """A substring of a rendered conversation: the content of a message, or text that the template adds.

    A string such as `<|im_end|>` in text that the template adds becomes a special token. In the content of a message it
    is tokenized as ordinary text, because it comes from the data.

    Args:
        text: the substring.
        trained: whether its tokens are target tokens.
        role: the role of the message whose content this is; `None` for text that the template adds.
        starts_answer: whether an answer starts here. The text before it is then tokenized separately, so that the ids
            of the prompt are the same as at inference.
        has_tokens: whether special tokens are recognised in this segment although it is the content of a message.
    """

    text: str
    trained: bool
    role: str | None = None
    starts_answer: bool = False
    has_tokens: bool = False


class RefusedConversation(InstructLabError):
    """Raised if a template cannot render a conversation, although it may be able to render other conversations."""


class Template(Component, ABC):
    """Base class of templates, which render a conversation as segments of text."""

    @abstractmethod
    def render(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """Render a whole conversation, and mark the segments to train on.

        The template's option `train_on` selects them; a message's own `trained` takes precedence. The token that ends
        an answer is trained on if the answer is.

        Raises:
            RefusedConversation: the template cannot render these messages, or changes their content.
            InstructLabError: the template does not end an answer with a special token.
        """

    def render_all(
        self, conversations: Sequence[Conversation], tokenizer: PreTrainedTokenizerBase
    ) -> list[list[Segment]]:
        """Render several conversations; a template may override this method to do common work only once.

        Raises:
            RefusedConversation: the template cannot render a conversation, or changes the content of a message.
            InstructLabError: the template does not end an answer with a special token.
        """
        return [self.render(conversation, tokenizer) for conversation in conversations]

    @abstractmethod
    def render_prompt(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """Render the prompt: the messages before the final answer, and the text that the template writes next.

        This text, such as `<|im_start|>assistant`, stands directly before the answer.
        """

    @abstractmethod
    def stop_token_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the ids of the tokens at which generation stops: the template's end-of-turn token, and EOS."""

    def check_reasoning(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Check that the template accepts reasoning in `reasoning_content` and writes it in `<think>` tags.

        Raises:
            InstructLabError: the template writes reasoning in another way, or not at all. The base class always raises
                this error; a template that supports reasoning overrides this method.
        """
        raise self.refuse_reasoning(f"{type(self).__name__} takes no reasoning_content")

    def refuse_reasoning(self, what: str) -> InstructLabError:
        """Return the error for a template that does not write reasoning in `<think>` tags.

        Args:
            what: the error message.
        """
        do = "set it to think_tags to train it as <think>…</think>, or to drop; or choose another template"
        return InstructLabError(what, where="data.format.reasoning=template", do=do)

    def as_jinja(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """Return this template as a Jinja chat template, which is stored with the tokenizer of an exported model.

        The result is `None` if the tokenizer's own chat template is to be kept.
        """
        return None


def check_has_messages(conversation: Conversation) -> None:
    """Check that a conversation has messages.

    Raises:
        RefusedConversation: the conversation has no messages.
    """
    if not conversation.messages:
        what, where = "The conversation has no messages", conversation.where
        raise RefusedConversation(what, where=where, do="remove it from the data")

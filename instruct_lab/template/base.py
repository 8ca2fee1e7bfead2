"""What a template is: a conversation as text segments, each marked trained or not."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from instruct_lab.config import Component
from instruct_lab.data import Conversation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TrainOn = Literal["assistant", "last_assistant", "all"]


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the rendered text.

    Args:
        text: the piece.
        trained: whether its tokens are targets.
        role: whose content this is; `None` for text of the template itself. In content, text that spells a
            special token is ordinary text; in template text it is the token.
        starts_answer: the piece opens an assistant turn's content: tokens never merge across its start, so that
            the prompt's ids are those seen at inference.
    """

    text: str
    trained: bool
    role: str | None = None
    starts_answer: bool = False


class Template(Component, ABC):
    """Conversation to segments."""

    @abstractmethod
    def render(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """The whole conversation; trained: assistant content and its end-of-turn token, by `train_on`.

        Raises:
            InstructLabError: the template cannot render these messages, changes their content, or closes an
                assistant turn without a special token.
        """

    def render_all(
        self, conversations: Sequence[Conversation], tokenizer: PreTrainedTokenizerBase
    ) -> list[list[Segment]]:
        """`render` of each; what is the same for all of them may be looked up once.

        Raises:
            InstructLabError: as `render`.
        """
        return [self.render(conversation, tokenizer) for conversation in conversations]

    @abstractmethod
    def render_prompt(self, conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[Segment]:
        """The messages before the final answer, up to and including the header that opens it."""

    @abstractmethod
    def stop_token_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Ids that end an answer at generation: the template's end-of-turn token and the tokenizer's eos."""

    def as_jinja(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """This template as a Jinja chat template, for a tokenizer that leaves the house; none: the tokenizer's own."""
        return None

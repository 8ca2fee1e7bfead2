"""Rendering of conversations as text, in segments that are marked as trained on or not.

Input: a `Conversation` and the tokenizer. Output: `Segment`s, whose concatenated text is the text that the model sees.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

# not on demand: a later import of the module would replace the function of the same name
from instruct_lab.template.special_tokens import SpecialTokens, special_tokens

if TYPE_CHECKING:
    from instruct_lab.template.base import RefusedConversation, Segment, Template, TrainOn
    from instruct_lab.template.chat import ChatTemplate
    from instruct_lab.template.contents import Contents
    from instruct_lab.template.text import TextTemplate

__all__ = [
    "ChatTemplate",
    "Contents",
    "RefusedConversation",
    "Segment",
    "SpecialTokens",
    "Template",
    "TextTemplate",
    "TrainOn",
    "special_tokens",
]

__getattr__ = names_on_demand(__name__)

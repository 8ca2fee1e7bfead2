"""The text by which conversations are compared, for exact and for near duplicates."""

from __future__ import annotations

from instruct_lab.data import Conversation
from instruct_lab.data.conversation import format_label
from instruct_lab.preprocessing.base import Part


def compared_turns(conversation: Conversation, by: Part) -> list[tuple[str, str]]:
    """Return the roles and texts by which a conversation is compared with others; empty if all texts are blank.

    With `by="conversation"`, the list has a role and a text for each message and each rejected message. If the messages
    do not end with an answer, it also has the first reference. If the answer is marked as desirable or undesirable, it
    also has this mark.
    """
    if by == "answer":
        turns = [("assistant", answer) for answer in conversation.answers[:1]]
    else:
        messages = conversation.prompt if by == "prompt" else conversation.messages
        turns = [(message.role, message.content) for message in messages]
        if by == "conversation":
            if len(conversation.prompt) == len(conversation.messages):
                turns += [("assistant", answer) for answer in conversation.answers[:1]]
            turns += [("rejected", message.content) for message in conversation.rejected]
    if not any(text and not text.isspace() for _, text in turns):
        return []
    is_labelled = by == "conversation" and conversation.desirable is not None
    return [*turns, ("label", format_label(bool(conversation.desirable)))] if is_labelled else turns


def compared_text(conversation: Conversation, by: Part) -> str:
    """Return the text by which a conversation is compared: the texts of `compared_turns`, joined by newlines."""
    return "\n".join(text for _, text in compared_turns(conversation, by))


def num_characters(conversation: Conversation) -> int:
    """Count the characters of a conversation, including rejected messages and references."""
    texts = (message.content for message in (*conversation.messages, *conversation.rejected))
    return sum(map(len, texts)) + sum(map(len, conversation.references))

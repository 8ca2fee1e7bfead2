"""Cutting of conversations that are longer than the maximum number of tokens.

The content of one message at a time is cut at token boundaries, and the shorter conversation is rendered and encoded
again. So the template's text around each message (header and end-of-turn token) is always complete.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from instruct_lab.batching.example import Example
from instruct_lab.batching.layouts import LayoutEncoder
from instruct_lab.data import Conversation, Message
from instruct_lab.template import Segment

Overlong = Literal["error", "drop", "truncate_prompt", "truncate_response"]
MIN_TOKENS = {"truncate_prompt": 2, "truncate_response": 1}
"""Minimum number of tokens that a cut leaves of a message's content: one at each end, or one at the beginning."""


@dataclasses.dataclass(frozen=True)
class Shortened:
    """A conversation that was cut to fit.

    Args:
        conversation: the conversation with its shortened messages.
        example: the example of the cut conversation.
        before: the content of the message that was cut first, as it was before the cut.
        after: the content of this message after all cuts.
    """

    conversation: Conversation
    example: Example
    before: str
    after: str


def shorten(conversation: Conversation, policy: Overlong, max_tokens: int, encoder: LayoutEncoder) -> Shortened | None:
    """Cut the contents of messages, starting with the longest, until the conversation fits into `max_tokens`.

    `truncate_prompt` cuts the middle of untrained contents and keeps both ends, where instructions usually are (Bai et
    al., LongBench, 2023). `truncate_response` cuts the end of trained contents.

    Returns:
        The shorter conversation, or `None` if it is still too long after all cuts that the policy permits.
    """
    cut: list[tuple[int, str]] = []  # index of each cut message, and its content before the cut
    exhausted: set[int] = set()
    while True:
        (example,) = encoder.encode([conversation])
        assert example is not None
        excess = _excess(encoder.excess(example, max_tokens), policy)
        if excess is None:
            return None
        if excess <= 0:
            index, before = cut[0] if cut else (0, conversation.messages[0].content)
            return Shortened(conversation, example, before, conversation.messages[index].content)
        contents = [segment for segment in encoder.segments(conversation) if segment.role is not None]
        index, spans = _longest(contents, policy, exhausted, encoder)
        if len(spans) <= MIN_TOKENS[policy]:
            return None
        content = contents[index].text
        shorter = _cut_to(content, spans, len(spans) - excess, policy)
        if shorter is None:
            exhausted.add(index)
        else:
            cut.append((index, content))
            conversation = _with_content(conversation, index, shorter)


def _excess(excess: tuple[int, int], policy: Overlong) -> int | None:
    """Return the number of tokens to cut, or `None` if the policy does not permit the cut that would be needed.

    Args:
        excess: the number of tokens by which the input exceeds the limit, and the number by which the target text of an
            encoder-decoder exceeds it.
        policy: `truncate_prompt`, which never cuts the target text, or `truncate_response`.
    """
    read, predicted = excess
    if policy == "truncate_prompt":
        return None if predicted > 0 else read
    return predicted if predicted > 0 or read <= 0 else read


def _longest(
    contents: Sequence[Segment], policy: Overlong, exhausted: set[int], encoder: LayoutEncoder
) -> tuple[int, list[tuple[int, int]]]:
    """Find the longest message content that the policy permits to cut.

    Args:
        contents: the contents of the messages.
        policy: whether trained contents may be cut (`truncate_response`) or untrained ones (`truncate_prompt`).
        exhausted: indices of contents that cannot be cut further, which are skipped.
        encoder: encoder that finds the tokens of a content.

    Returns:
        The index of the content, and the start and end offset, in characters, of each of its tokens; no offsets if
        there is no such content.
    """
    cuts_trained = policy == "truncate_response"
    best, best_spans = 0, list[tuple[int, int]]()
    for index, segment in enumerate(contents):
        if segment.trained is cuts_trained and index not in exhausted:
            spans = encoder.content_spans(segment.text)
            if len(spans) > len(best_spans):
                best, best_spans = index, spans
    return best, best_spans


def _cut_to(content: str, spans: list[tuple[int, int]], keep: int, policy: Overlong) -> str | None:
    """Cut the content of a message to at most `keep` tokens; return `None` if no permitted cut makes it shorter.

    Args:
        content: the content of the message.
        spans: start and end offset, in characters, of each token of the content.
        keep: the number of tokens to keep; at least the policy's minimum is kept.
        policy: which part is cut: the middle, or with `truncate_response` the end.
    """
    for fewer in range(max(keep, MIN_TOKENS[policy]), MIN_TOKENS[policy] - 1, -1):
        shorter = _cut(content, spans, fewer, policy)
        if len(shorter) < len(content):
            return shorter
    return None


def _cut(content: str, spans: list[tuple[int, int]], keep: int, policy: Overlong) -> str:
    if policy == "truncate_response":
        return content[: spans[keep - 1][1]]
    tail = keep // 2
    head_end = spans[keep - tail - 1][1]
    tail_start = spans[len(spans) - tail - 1][1] if tail else len(content)  # the end of the last removed token
    return content[:head_end] + content[max(head_end, tail_start) :]


def _with_content(conversation: Conversation, index: int, content: str) -> Conversation:
    messages: list[Message] = list(conversation.messages)
    messages[index] = dataclasses.replace(messages[index], content=content)
    return dataclasses.replace(conversation, messages=tuple(messages))

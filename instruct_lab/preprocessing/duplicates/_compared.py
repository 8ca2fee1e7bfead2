"""What is compared of a conversation: the same for duplicates, near duplicates and contamination."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from instruct_lab.data import Conversation, SplitName
from instruct_lab.preprocessing.base import Part

ORDER: tuple[SplitName, ...] = ("train", "validation", "test")


def said(conversation: Conversation, by: Part) -> list[tuple[str, str]]:
    """Roles and texts of what is compared; nothing where the conversation lacks the part.

    The whole is what was asked, the answer (the first reference where no message answers), and what is rejected.
    """
    if by == "answer":
        found = [("assistant", answer) for answer in conversation.answers[:1]]
    else:
        messages = conversation.prompt if by == "prompt" else conversation.messages
        found = [(message.role, message.content) for message in messages]
        if by == "conversation":
            if len(conversation.prompt) == len(conversation.messages):
                found += [("assistant", answer) for answer in conversation.answers[:1]]
            found += [("rejected", message.content) for message in conversation.rejected]
    return found if any(text and not text.isspace() for _, text in found) else []


def compared_text(conversation: Conversation, by: Part) -> str:
    """The texts of what is compared, joined by newlines."""
    return "\n".join(text for _, text in said(conversation, by))


def num_characters(conversation: Conversation) -> int:
    """How long a conversation is, for keeping the longest."""
    texts = (message.content for message in (*conversation.messages, *conversation.rejected))
    return sum(map(len, texts)) + sum(map(len, conversation.references))


def given_way_to(
    split: str, named: Iterable[SplitName], splits: Mapping[str, Sequence[Conversation]]
) -> dict[str, Sequence[Conversation]]:
    """The splits among those named that a split gives way to, with their rows: those after it.

    A row in two splits so leaves only one of them: training before validation, validation before test.
    """
    after = ORDER[ORDER.index(split) + 1 :] if split in ORDER else ()
    return {name: splits[name] for name in after if name in named and name in splits}


def clusters_told(sizes: Mapping[int, int], largest: Iterable[tuple[int, str]]) -> dict[str, object]:
    """What the audit says of clusters of duplicates.

    Args:
        sizes: how many clusters there are of each size (two rows and more).
        largest: size and sample text of the largest.
    """
    histogram: dict[str, int] = {}
    for size, count in sorted(sizes.items()):
        shown = str(size) if size < 10 else f"{10 ** (len(str(size)) - 1):,} to {10 ** len(str(size)) - 1:,}"
        histogram[shown] = histogram.get(shown, 0) + count
    return {
        "num_clusters": sum(sizes.values()),
        "num_rows": sum(size * count for size, count in sizes.items()),
        "sizes": histogram,
        "largest": [{"rows": size, "sample": _shortened(text)} for size, text in largest],
    }


def _shortened(text: str, most: int = 200) -> str:
    text = text if len(text) <= most else text[:most] + "…"
    return text.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be written down

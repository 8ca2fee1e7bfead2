"""Texts that are damaged, and rows that say nothing."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation
from instruct_lab.data.split import is_plain_text
from instruct_lab.errors import Refusal
from instruct_lab.preprocessing.base import Context, Need, Step
from instruct_lab.preprocessing.text import characters, roles
from instruct_lab.preprocessing.text.markup import without_html
from instruct_lab.preprocessing.text.mojibake import repaired
from instruct_lab.preprocessing.text.refusals import AnswerPatterns, compiled

KINDS = (
    "mojibake",
    "control characters",
    "lost characters",
    "HTML",
    "white space",
    "repeated message",
    "empty message",
    "roles",
)
"""What a row is changed for, in the order in which an audit's reason names it."""
Change = tuple[str, Callable[[str], str]]


@component
class Clean(Step):
    """Mends damaged texts (encoding, control characters, white space, HTML) and turns; drops rows that say nothing.

    As it stands it changes only what is surely damage, and is safe on code. Invisible format characters (zero-width
    joiner, direction marks) stay: scripts need them. Mojibake, lost characters, refusals and boilerplate are dropped of
    training alone; in what is measured on they are reported. What rows were changed for is counted by kind, too. Source
    of the repair of encodings: ftfy (Speer, 2019).
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"data"})
    row_by_row: ClassVar[bool] = True

    strip: bool = True  # white space around each text
    keep_indentation: bool = True  # of a first line by four spaces or a tab, which is code; where `strip` is on
    trailing_spaces: Literal["remove", "keep"] = "keep"  # at line ends outside code; in Markdown, two break the line
    max_blank_lines: Annotated[int, Field(ge=0, le=100)] | None = None  # in a row, outside code; null: any number
    control_characters: Literal["remove", "keep"] = "remove"  # terminal colours, byte order marks, odd line ends too
    mojibake: Literal["repair", "drop", "keep"] = "repair"  # text in UTF-8 that was read in another encoding
    lost_characters: Literal["remove", "drop", "keep"] = "keep"  # U+FFFD, where something could not be decoded
    html: Literal["remove", "keep"] = "keep"  # comments, tags and entities of HTML, outside code
    repeated_messages: Literal["merge", "drop", "keep"] = "merge"  # one role says the same twice in a row
    empty_messages: Literal["remove", "drop", "keep"] = "keep"  # those before the last one
    role_order: Literal["repair", "drop", "keep"] = "keep"  # system first, then user and assistant in turns
    empty_prompt: Literal["drop", "keep"] = "drop"  # a conversation without any text before the answer
    empty_answer: Literal["drop", "keep"] = "drop"  # a conversation whose answer is missing or empty
    empty_words: list[str] = Field(default_factory=list)  # texts that say as little as none, for example <noinput>
    refusals: Literal["drop", "report", "keep"] = "keep"  # an answer that declines ("I'm sorry, but I can't")
    refusal_patterns: list[str] = Field(default_factory=list)  # your own, as regular expressions
    boilerplate: Literal["drop", "report", "keep"] = "keep"  # an answer that speaks of itself ("As an AI model")
    boilerplate_patterns: list[str] = Field(default_factory=list)  # your own, as regular expressions

    def __post_init__(self) -> None:
        """Refuse patterns that are none, or that nothing would look for."""
        for kind in ("refusal", "boilerplate"):
            patterns, policy = getattr(self, f"{kind}_patterns"), "refusals" if kind == "refusal" else kind
            if patterns and getattr(self, policy) == "keep":
                raise Refusal(f"{kind}_patterns", f"nothing looks for them while {policy} is keep", "drop or report")
            for pattern in patterns:
                try:
                    compiled(pattern)
                except re.error as error:
                    reason = f"{pattern!r} is no regular expression: {error}"
                    raise Refusal(f"{kind}_patterns", reason) from error

    def data_fingerprint(self, cache_path: Path) -> str:
        """The version of ftfy, which decides what is repaired."""
        from importlib.metadata import version

        return version("ftfy")

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield cleaned conversations; counts those changed, dropped and reported."""
        changes, patterns = self._changes(), AnswerPatterns(self.refusal_patterns, self.boilerplate_patterns)
        empty_words = frozenset(word.strip().casefold() for word in self.empty_words)
        rows_of_kind: Counter[str] = Counter()
        for conversation in conversations:
            kinds: dict[str, None] = {}
            cleaned = self._with_turns(_with_texts(conversation, changes, kinds), kinds, empty_words)
            if isinstance(cleaned, str) or (reason := self._emptiness(cleaned, empty_words)):
                context.dropped(cleaned if isinstance(cleaned, str) else reason, conversation)
                continue
            flaws = list(self._flaws(cleaned, kinds, patterns))
            to_drop = [flaw for policy, flaw in flaws if policy == "drop" and context.split == "train"]
            if to_drop:
                context.dropped(to_drop[0], conversation)
                continue
            if kinds:
                rows_of_kind.update(list(kinds))
                context.changed(", ".join(kind for kind in KINDS if kind in kinds), conversation, cleaned)
            for _, flaw in flaws:
                context.audit.record(context.stage, "reported", flaw, cleaned)
            yield cleaned
        if rows_of_kind:
            context.audit.add(context.stage, rows_changed_for=rows_of_kind)

    def _changes(self) -> list[Change]:
        """What is done to every text, in order, and the kind it is counted as."""
        changes: list[Change] = []
        if self.control_characters == "remove":
            changes.append(("control characters", characters.without_ascii_control))
        if self.mojibake != "keep":
            changes.append(("mojibake", repaired))
        if self.control_characters == "remove":
            changes.append(("control characters", self._revealing(characters.without_other_control)))
        if self.lost_characters == "remove":
            changes.append(("lost characters", characters.without_lost))
        if self.html == "remove":
            changes.append(("HTML", without_html))
        if self.trailing_spaces == "remove":
            changes.append(("white space", characters.without_trailing_spaces))
        if self.max_blank_lines is not None:
            changes.append(("white space", partial(characters.with_blank_lines, maximum=self.max_blank_lines)))
        if self.strip:
            stripped = partial(characters.stripped, keep_indentation=self.keep_indentation)
            changes.append(("white space", self._revealing(stripped)))
        return changes

    def _revealing(self, mend: Callable[[str], str]) -> Callable[[str], str]:
        """A change that takes characters away; what their going lets be seen as mojibake is repaired too."""
        return partial(_settled, mend) if self.mojibake == "repair" else mend

    def _with_turns(
        self, conversation: Conversation, kinds: dict[str, None], empty_words: frozenset[str]
    ) -> Conversation | str:
        """The conversation with its turns mended, or why it cannot be."""
        messages = conversation.messages
        if self.repeated_messages != "keep":
            messages = roles.without_repeats(messages)
            if messages is not conversation.messages:
                if self.repeated_messages == "drop":
                    return "repeated message"
                kinds["repeated message"] = None
        if self.empty_messages != "keep" and any(_is_empty(message.content, empty_words) for message in messages[:-1]):
            if self.empty_messages == "drop":
                return "empty message"
            kinds["empty message"] = None
            said = tuple(message for message in messages[:-1] if not _is_empty(message.content, empty_words))
            messages = (*said, messages[-1])
        if messages is not conversation.messages:
            conversation = dataclasses.replace(conversation, messages=messages)
        return conversation if self.role_order == "keep" else self._with_roles(conversation, kinds)

    def _with_roles(self, conversation: Conversation, kinds: dict[str, None]) -> Conversation | str:
        open_end = bool(conversation.references)
        ordered = roles.repaired(conversation.messages, open_end)
        if ordered == conversation.messages and _pair_in_order(conversation):
            return conversation
        if self.role_order == "drop":
            return "roles out of order"
        if ordered is None:
            return "roles out of order, beyond repair"
        mended = dataclasses.replace(conversation, messages=ordered)
        if conversation.rejected and not (ordered[-1] == conversation.messages[-1] and _pair_in_order(mended)):
            return "roles out of order, beyond repair"
        kinds["roles"] = None
        return mended

    def _emptiness(self, conversation: Conversation, empty_words: frozenset[str]) -> str:
        said = (message.content for message in conversation.prompt if message.role != "system")
        asks = self.empty_prompt == "drop" and not is_plain_text(conversation)  # a plain text has no prompt to be empty
        if asks and all(_is_empty(text, empty_words) for text in said):
            return "empty prompt"
        if self.empty_answer == "drop" and all(_is_empty(answer, empty_words) for answer in conversation.answers):
            return "empty answer"
        return ""

    def _flaws(
        self, conversation: Conversation, kinds: dict[str, None], patterns: AnswerPatterns
    ) -> Iterator[tuple[str, str]]:
        """What a row may be dropped or reported for, with the policy that says so."""
        if self.mojibake == "drop" and "mojibake" in kinds:
            yield self.mojibake, "mojibake"
        if self.lost_characters == "drop" and any(characters.LOST in text for text in _texts(conversation)):
            yield self.lost_characters, "lost characters"
        if self.refusals != "keep" and any(map(patterns.is_refusal, _answers(conversation))):
            yield self.refusals, "refusal"
        if self.boilerplate != "keep" and any(map(patterns.is_boilerplate, _answers(conversation))):
            yield self.boilerplate, "boilerplate"


def _with_texts(conversation: Conversation, changes: Sequence[Change], kinds: dict[str, None]) -> Conversation:
    def change(role: str, text: str) -> str:
        for kind, mend in changes:
            mended = mend(text)
            if mended != text:
                kinds[kind] = None
                text = mended
        return text

    return conversation.map_text(change)


def _settled(mend: Callable[[str], str], text: str) -> str:
    found = mend(text)
    while found != text:
        text, found = found, mend(repaired(found))
    return found


def _texts(conversation: Conversation) -> Iterator[str]:
    yield from (message.content for message in (*conversation.messages, *conversation.rejected))
    yield from conversation.references


def _is_empty(text: str, empty_words: frozenset[str]) -> bool:
    return not text or text.isspace() or (len(text) <= 100 and text.strip().casefold() in empty_words)


def _answers(conversation: Conversation) -> Iterator[str]:
    """Everything that stands as an answer; what is rejected may well decline."""
    yield from (message.content for message in conversation.messages if message.role == "assistant")
    yield from conversation.references


def _pair_in_order(conversation: Conversation) -> bool:
    return not conversation.rejected or roles.in_order((*conversation.prompt, *conversation.rejected))

"""Repair of damaged texts, and removal of rows whose prompt or answer is empty."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from unicodedata import is_normalized, normalize

from pydantic import Field

from instruct_lab.config import Regex, component
from instruct_lab.data import Conversation
from instruct_lab.data.split import is_plain_text
from instruct_lab.errors import Refusal
from instruct_lab.preprocessing.base import Context, Need, Step
from instruct_lab.preprocessing.text import characters, roles
from instruct_lab.preprocessing.text.markup import is_about_markup, remove_html
from instruct_lab.preprocessing.text.mojibake import is_about_encodings, looks_damaged, repair_encoding
from instruct_lab.preprocessing.text.refusals import AnswerPatterns

KINDS = (
    "mojibake",
    "control characters",
    "lost characters",
    "HTML",
    "white space",
    "repeated message",
    "empty message",
    "unanswered last turn",
    "roles",
)
"""Kinds of changes, in the order in which the audit names them."""
LEFT_OUT: tuple[tuple[str, ...], ...] = ((), ("mojibake",), ("HTML",), ("mojibake", "HTML"))
"""All combinations of the kinds of changes that can be omitted for a row, because the row discusses such damage."""
Change = tuple[str, Callable[[str], str]]


@component
class Clean(Step):
    """Repairs damaged texts (encoding, control characters, white space, HTML) and the order of roles; drops empty rows.

    The defaults repair only unambiguous damage and are safe on code. Invisible format characters (zero-width joiner,
    direction marks) stay, because some scripts need them. Mojibake (text that was decoded with a wrong encoding) stays
    in a row whose text is about encodings or also contains the correct form of a damaged character. HTML stays in a row
    whose text is about markup. The preprocessing audit reports such rows. Rows with mojibake, lost characters (U+FFFD),
    refusals or boilerplate (phrases in which a model speaks about itself) are dropped if the field of that name is
    `drop`, but only from training; in validation and test the audit reports them. The audit also counts the changed
    rows by kind of change. The encoding is repaired by ftfy (Speer, 2019).
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"data"})
    row_by_row: ClassVar[bool] = True

    strip: bool = True  # remove white space around each text
    keep_indentation: bool = True  # with `strip`: keep a first line's indentation of four spaces or a tab (code)
    trailing_spaces: Literal["remove", "keep"] = "keep"  # at line ends outside code; two break a line in Markdown
    max_blank_lines: Annotated[int, Field(ge=0, le=100)] | None = None  # maximum in a row, outside code; null: no bound
    control_characters: Literal["remove", "keep"] = "remove"  # also terminal colours, byte order marks, odd line ends
    mojibake: Literal["repair", "drop", "keep"] = "repair"  # UTF-8 text that was decoded with another encoding
    lost_characters: Literal["remove", "drop", "keep"] = "keep"  # U+FFFD, which replaces undecodable bytes
    html: Literal["remove", "keep"] = "keep"  # HTML comments, tags and entities outside code
    repeated_messages: Literal["merge", "drop", "keep"] = "merge"  # equal messages of one role in a row
    empty_messages: Literal["remove", "drop", "keep"] = "keep"  # messages without text, except the last
    unanswered_end: Literal["remove", "drop", "keep"] = "remove"  # messages after the last answer; never trained
    role_order: Literal["repair", "drop", "keep"] = "keep"  # system first, then user and assistant alternate
    empty_prompt: Literal["drop", "keep"] = "drop"  # a conversation without any text before the answer
    empty_answer: Literal["drop", "keep"] = "drop"  # a conversation whose answer is missing or empty
    empty_words: list[str] = Field(default_factory=list)  # texts that count as empty, for example <noinput>
    refusals: Literal["drop", "report", "keep"] = "keep"  # answers that decline ("I'm sorry, but I can't")
    refusal_patterns: list[Regex] = Field(default_factory=list)  # further patterns, as regular expressions
    boilerplate: Literal["drop", "report", "keep"] = "keep"  # answers about the model itself ("As an AI model")
    boilerplate_patterns: list[Regex] = Field(default_factory=list)  # further patterns, as regular expressions

    def __post_init__(self) -> None:
        """Refuse patterns that have no effect.

        `refusal_patterns` are not used while `refusals` is `keep`, and `boilerplate_patterns` are not used while
        `boilerplate` is `keep`.
        """
        for kind in ("refusal", "boilerplate"):
            patterns, policy = getattr(self, f"{kind}_patterns"), "refusals" if kind == "refusal" else kind
            if patterns and getattr(self, policy) == "keep":
                raise Refusal(f"{kind}_patterns", f"not used while {policy} is keep", "drop or report")

    def data_fingerprint(self, cache_path: Path) -> str:
        """Return the installed version of ftfy, the package that repairs encodings, because results depend on it."""
        from importlib.metadata import version

        return version("ftfy")

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the cleaned conversations; count the changed, dropped and reported rows in the audit."""
        changes = {left_out: self._changes(left_out) for left_out in LEFT_OUT}
        patterns = AnswerPatterns(self.refusal_patterns, self.boilerplate_patterns)
        empty_words = frozenset(word.strip().casefold() for word in self.empty_words)
        rows_of_kind: Counter[str] = Counter()
        for conversation in conversations:
            kinds: dict[str, None] = {}
            repaired = _clean_texts(conversation, changes[()], kinds)
            meant = _kinds_meant(conversation, kinds)
            if meant:
                kinds = {}
                repaired = _clean_texts(conversation, changes[meant], kinds)
            cleaned = self._clean_turns(repaired, kinds, empty_words)
            if isinstance(cleaned, str) or (reason := self._empty_part(cleaned, empty_words)):
                context.count_dropped(cleaned if isinstance(cleaned, str) else reason, conversation)
                continue
            flaws = list(self._flaws(cleaned, kinds, patterns))
            to_drop = [flaw for policy, flaw in flaws if policy == "drop" and context.split == "train"]
            if to_drop:
                context.count_dropped(to_drop[0], conversation)
                continue
            if kinds:
                rows_of_kind.update(list(kinds))
                context.count_changed(", ".join(kind for kind in KINDS if kind in kinds), conversation, cleaned)
            reported = [flaw for _, flaw in flaws]
            if "HTML" in meant:
                reported.append("HTML kept, because the row is about markup")
            for flaw in reported:
                context.audit.record(context.stage, "reported", flaw, cleaned)
            yield cleaned
        if rows_of_kind:
            context.audit.add(context.stage, rows_changed_for=rows_of_kind)

    def _changes(self, left_out: tuple[str, ...]) -> list[Change]:
        """Return the changes to apply to every text, in order, as pairs (kind of change, function).

        Args:
            left_out: kinds of changes to omit, such as `HTML`.
        """
        changes: list[Change] = []
        repairs = self.mojibake != "keep" and "mojibake" not in left_out
        revealing = self._revealing if repairs else lambda change: change
        if self.control_characters == "remove":
            changes.append(("control characters", characters.remove_ascii_control))
        if repairs:
            changes.append(("mojibake", repair_encoding))
        if self.control_characters == "remove":
            changes.append(("control characters", revealing(characters.remove_other_control)))
        if self.lost_characters == "remove":
            changes.append(("lost characters", characters.remove_lost))
        if self.html == "remove" and "HTML" not in left_out:
            changes.append(("HTML", remove_html))
        if self.trailing_spaces == "remove":
            changes.append(("white space", characters.remove_trailing_spaces))
        if self.max_blank_lines is not None:
            changes.append(("white space", partial(characters.limit_blank_lines, maximum=self.max_blank_lines)))
        if self.strip:
            strip = partial(characters.strip_text, keep_indentation=self.keep_indentation)
            changes.append(("white space", revealing(strip)))
        return changes

    def _revealing(self, change: Callable[[str], str]) -> Callable[[str], str]:
        """Return a function that applies `change` and then repairs mojibake again.

        Some mojibake can be recognised only after `change` has removed other characters. If the field `mojibake` is not
        `repair`, return `change` itself.
        """
        return partial(_change_and_repair, change) if self.mojibake == "repair" else change

    def _clean_turns(
        self, conversation: Conversation, kinds: dict[str, None], empty_words: frozenset[str]
    ) -> Conversation | str:
        """Repair the list of messages, as far as the step's fields demand it.

        The repairs remove repeated, empty and unanswered messages, and put the roles in order.

        Args:
            conversation: the conversation.
            kinds: the kinds of changes so far, as the keys of a dictionary; the kinds of the repairs are added to it.
            empty_words: texts that count as empty.

        Returns:
            The repaired conversation. If the conversation has to be dropped instead, the reason as a text.
        """
        messages = conversation.messages
        if self.repeated_messages != "keep":
            messages = roles.remove_repeats(messages)
            if messages is not conversation.messages:
                if self.repeated_messages == "drop":
                    return "repeated message"
                kinds["repeated message"] = None
        if self.empty_messages != "keep" and any(_is_empty(message.content, empty_words) for message in messages[:-1]):
            if self.empty_messages == "drop":
                return "empty message"
            kinds["empty message"] = None
            filled = (message for message in messages[:-1] if not _is_empty(message.content, empty_words))
            messages = (*filled, messages[-1])
        if self.unanswered_end != "keep" and not conversation.references:
            answered = roles.remove_unanswered_end(messages)
            if answered is not messages:
                if self.unanswered_end == "drop":
                    return f"ends with a {messages[-1].role} turn, without an answer"
                kinds["unanswered last turn"] = None
                messages = answered
        if messages is not conversation.messages:
            conversation = dataclasses.replace(conversation, messages=messages)
        return conversation if self.role_order == "keep" else self._repair_roles(conversation, kinds)

    def _repair_roles(self, conversation: Conversation, kinds: dict[str, None]) -> Conversation | str:
        open_end = bool(conversation.references)
        ordered = roles.repair_order(conversation.messages, open_end)
        if ordered == conversation.messages and _is_pair_in_order(conversation):
            return conversation
        if self.role_order == "drop":
            return "roles out of order"
        if ordered is None:
            return "roles out of order, not repairable"
        repaired = dataclasses.replace(conversation, messages=ordered)
        if conversation.rejected and not (ordered[-1] == conversation.messages[-1] and _is_pair_in_order(repaired)):
            return "roles out of order, not repairable"
        kinds["roles"] = None
        return repaired

    def _empty_part(self, conversation: Conversation, empty_words: frozenset[str]) -> str:
        questions = (message.content for message in conversation.prompt if message.role != "system")
        needs_prompt = self.empty_prompt == "drop" and not is_plain_text(conversation)  # a plain text has no prompt
        if needs_prompt and all(_is_empty(text, empty_words) for text in questions):
            return "empty prompt"
        if self.empty_answer == "drop":
            answers = conversation.answers or [m.content for m in conversation.messages if m.role == "assistant"]
            if all(_is_empty(answer, empty_words) for answer in answers):
                return "empty answer" if answers else "no answer"
        return ""

    def _flaws(
        self, conversation: Conversation, kinds: dict[str, None], patterns: AnswerPatterns
    ) -> Iterator[tuple[str, str]]:
        """Yield a pair for each flaw of a conversation: what to do (`drop` or `report`), and the flaw's name.

        Flaws are mojibake, lost characters, refusals and boilerplate. What to do is the value of the step's field for
        the flaw. Mojibake that the step finds but cannot repair is always reported, unless the field is `keep`.
        """
        if self.mojibake == "drop" and "mojibake" in kinds:
            yield self.mojibake, "mojibake"
        elif self.mojibake != "keep" and any(map(looks_damaged, _texts(conversation))):
            yield "report", "possible mojibake, not changed"
        if self.lost_characters == "drop" and any(characters.LOST in text for text in _texts(conversation)):
            yield self.lost_characters, "lost characters"
        if self.refusals != "keep" and any(map(patterns.is_refusal, _answers(conversation))):
            yield self.refusals, "refusal"
        if self.boilerplate != "keep" and any(map(patterns.is_boilerplate, _answers(conversation))):
            yield self.boilerplate, "boilerplate"


def _clean_texts(conversation: Conversation, changes: Sequence[Change], kinds: dict[str, None]) -> Conversation:
    """Apply `changes` to every text of a conversation; a text that was in Unicode form NFC is in this form afterwards.

    Args:
        conversation: the conversation.
        changes: the changes, as pairs (kind of change, function).
        kinds: a dictionary; if a change affects a text, the kind of this change becomes one of its keys.
    """

    def change_all(text: str) -> str:
        for kind, change in changes:
            before, text = text, change(text)
            if text != before:
                kinds[kind] = None
        return text

    def clean(role: str, text: str) -> str:
        changed = change_all(text)
        while changed != text and not is_normalized("NFC", changed) and is_normalized("NFC", text):
            changed = change_all(normalize("NFC", changed))
        return changed

    return conversation.map_text(clean)


def _kinds_meant(conversation: Conversation, kinds: dict[str, None]) -> tuple[str, ...]:
    """Return which of the kinds `mojibake` and `HTML` a row contains on purpose, because its text is about them.

    Args:
        conversation: the row.
        kinds: the kinds of changes that cleaning would make in this row, as the keys of a dictionary.
    """
    texts = list(_texts(conversation)) if "mojibake" in kinds or "HTML" in kinds else []
    is_meant = {
        "mojibake": lambda: is_about_encodings(texts, map(repair_encoding, texts)),
        "HTML": lambda: is_about_markup(texts),
    }
    return tuple(kind for kind, is_true in is_meant.items() if kind in kinds and is_true())


def _change_and_repair(change: Callable[[str], str], text: str) -> str:
    """Apply `change`, then repair the encoding and apply `change` again, until the text no longer changes."""
    result = change(text)
    while result != text:
        text, result = result, change(repair_encoding(result))
    return result


def _texts(conversation: Conversation) -> Iterator[str]:
    yield from (message.content for message in (*conversation.messages, *conversation.rejected))
    yield from conversation.references


def _is_empty(text: str, empty_words: frozenset[str]) -> bool:
    return not text or text.isspace() or (len(text) <= 100 and text.strip().casefold() in empty_words)


def _answers(conversation: Conversation) -> Iterator[str]:
    """Yield the answers that a model learns to give: the assistant's messages and the references.

    Rejected answers and answers marked as undesirable are left out. They may be refusals, because a model learns to
    avoid them.
    """
    messages = conversation.prompt if conversation.desirable is False else conversation.messages
    yield from (message.content for message in messages if message.role == "assistant")
    yield from conversation.references


def _is_pair_in_order(conversation: Conversation) -> bool:
    return not conversation.rejected or roles.is_in_order((*conversation.prompt, *conversation.rejected))

"""Normalization of texts (Unicode form, quotes, spaces, numbers and others) and of message roles."""

from __future__ import annotations

import dataclasses
import itertools
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation, Message, Role
from instruct_lab.errors import Refusal
from instruct_lab.preprocessing.base import Context, Need, Step
from instruct_lab.preprocessing.text import spelling
from instruct_lab.preprocessing.text.code_spans import change_outside_code
from instruct_lab.preprocessing.text.roles import merge_consecutive

Change = tuple[str, Callable[[str], str]]
KINDS = (
    "Unicode NFC",
    "Unicode NFKC",
    "full-width forms",
    "quotes",
    "dashes",
    "spaces",
    "lower case",
    "numbers",
    "punctuation",
    "roles",
)
"""Kinds of changes, in the order in which the audit names them."""
Roles = Annotated[list[Role], Field(min_length=1)]


def every_role() -> list[Role]:
    """Return a list of all roles, the default of the field `of_roles` of steps that change messages."""
    return ["system", "user", "assistant", "tool"]


@component
class Normalize(Step):
    """Unifies the characters of texts (Unicode form, quotes, spaces, case, numbers and others) and renames roles.

    NFC changes how characters are stored, not how they look. NFKC also replaces look-alikes (full-width letters,
    ligatures, superscripts). NFC is applied to code too; all other changes skip fenced blocks and inline code unless
    `in_code` is true. Placeholders such as <EMAIL> are unchanged. `of_roles: [user]` normalizes questions but not
    answers. Full-width characters and normal forms are defined in Unicode Standard Annexes 11 and 15.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"data"})
    row_by_row: ClassVar[bool] = True

    of_roles: Roles = Field(default_factory=every_role)  # roles to change; assistant: also references, rejected answers
    form: Literal["NFC", "NFKC", "none"] = "NFC"  # Unicode normal form
    quotes: Literal["ascii", "keep"] = "keep"  # ascii: “ ” « » ‘ ’ and similar become " and '
    dashes: Literal["ascii", "keep"] = "keep"  # ascii: – — − and similar become -
    spaces: Literal["ascii", "keep"] = "keep"  # ascii: no-break, thin and ideographic spaces become an ordinary space
    full_width: Literal["letters", "all", "keep"] = "keep"  # letters: Ａ１ become ASCII; all: also the punctuation ，！
    lower_case: bool = False  # convert by Unicode's rules, independent of the language
    punctuation: Literal["space", "remove", "keep"] = "keep"  # and symbols; both stay inside a word (don't, 3.5)
    numbers: Literal["mask", "digits", "keep"] = "keep"  # mask: becomes number_mask; digits: each digit becomes 0
    number_mask: Annotated[str, Field(min_length=1)] = "<NUM>"  # replaces a number
    in_code: bool = False  # change code too
    roles: dict[Role, Role | None] = Field(default_factory=dict)  # roles to rename, for example {system: user}
    merge_consecutive: bool = False  # join consecutive messages of one role by an empty line, except tool results

    def __post_init__(self) -> None:
        """Refuse a `number_mask` that contains a digit: if the step ran twice, it would mask that digit again."""
        if any(character.isdigit() for character in self.number_mask):
            raise Refusal("number_mask", "it has a digit, so a second pass would mask it again", "<NUM>")

    def data_fingerprint(self, cache_path: Path) -> str:
        """Return the version of the Unicode data in Python, which determines the normal forms."""
        return unicodedata.unidata_version

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the normalized conversations; count the changed rows in the audit, by kind of change."""
        changes = self._changes()
        rows_of_kind: Counter[str] = Counter()
        for conversation in conversations:
            kinds: dict[str, None] = {}
            normalized = conversation.map_text(partial(self._normalize_text, changes, kinds))
            renamed = self._rename_roles(normalized)
            if renamed is not normalized:
                kinds["roles"] = None
            if kinds:
                rows_of_kind.update(list(kinds))
                context.count_changed(", ".join(kind for kind in KINDS if kind in kinds), conversation, renamed)
            yield renamed
        if rows_of_kind:
            context.audit.add(context.stage, rows_changed_for=rows_of_kind)

    def _changes(self) -> list[Change]:
        """Return the changes that the step's fields choose, in order, as pairs (kind of change, function).

        The conversion to NFC is not among them.
        """
        mask = partial(spelling.mask_numbers, mask=self.number_mask)
        remove = partial(spelling.remove_punctuation, instead=" " if self.punctuation == "space" else "")
        chosen: list[tuple[str, bool, Callable[[str], str]]] = [
            ("Unicode NFKC", self.form == "NFKC", partial(unicodedata.normalize, "NFKC")),
            ("full-width forms", self.full_width == "letters", spelling.narrow_letters),
            ("full-width forms", self.full_width == "all", spelling.narrow_forms),
            ("quotes", self.quotes == "ascii", spelling.to_ascii_quotes),
            ("dashes", self.dashes == "ascii", spelling.to_ascii_dashes),
            ("spaces", self.spaces == "ascii", spelling.to_ascii_spaces),
            ("lower case", self.lower_case, partial(self._change, change=str.lower)),
            ("numbers", self.numbers == "digits", partial(self._change, change=spelling.zero_digits)),
            ("numbers", self.numbers == "mask", partial(self._change, change=mask)),
            ("punctuation", self.punctuation != "keep", partial(self._change, change=remove)),
        ]
        return [(kind, change) for kind, is_on, change in chosen if is_on]

    def _change(self, text: str, change: Callable[[str], str]) -> str:
        return spelling.change_outside_placeholders(text, change, self.number_mask if self.numbers == "mask" else "")

    def _normalize_text(self, changes: Sequence[Change], kinds: dict[str, None], role: str, text: str) -> str:
        if role not in self.of_roles:
            return text

        def change_piece(piece: str) -> str:
            for kind, change in changes:
                before, piece = piece, change(piece)
                if piece != before:
                    kinds[kind] = None
            return piece

        if changes:
            text = change_piece(text) if self.in_code else change_outside_code(text, change_piece)
        if self.form == "none" or unicodedata.is_normalized("NFC", text):
            return text
        kinds["Unicode NFC"] = None
        return unicodedata.normalize("NFC", text)

    def _rename_roles(self, conversation: Conversation) -> Conversation:
        messages, rejected = (self._rename(part) for part in (conversation.messages, conversation.rejected))
        if messages is conversation.messages and rejected is conversation.rejected:
            return conversation
        return dataclasses.replace(conversation, messages=messages, rejected=rejected)

    def _rename(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        renamed = messages
        if self.roles and any(self._role(message.role) != message.role for message in messages):
            renamed = tuple(dataclasses.replace(m, role=self._role(m.role)) for m in messages)
        if self.merge_consecutive and any(first.role == second.role for first, second in itertools.pairwise(renamed)):
            joined = merge_consecutive(renamed)
            renamed = joined if len(joined) < len(renamed) else renamed
        return renamed

    def _role(self, role: str) -> str:
        return self.roles.get(role) or role  # type: ignore[call-overload]

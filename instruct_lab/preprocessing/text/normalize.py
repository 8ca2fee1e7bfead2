"""One way to write what is the same."""

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
from instruct_lab.preprocessing.text.code_spans import outside_code
from instruct_lab.preprocessing.text.roles import merged

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
"""What a row is changed for, in the order in which an audit's reason names it."""
Roles = Annotated[list[Role], Field(min_length=1)]


def every_role() -> list[Role]:
    """The default of steps that change what anybody says."""
    return ["system", "user", "assistant", "tool"]


@component
class Normalize(Step):
    """One way to write what is the same: Unicode form, quotes, dashes, widths, case, punctuation, numbers; and roles.

    NFC changes how characters are stored and not how they look; NFKC also replaces look-alikes (full-width letters,
    ligatures, superscripts), which changes about 8% of texts. NFC reaches code as well; all else leaves fenced blocks
    and inline code alone, unless `in_code` is true. Placeholders such as <EMAIL> stay whole. `of_roles: [user]`
    normalizes questions and leaves answers alone. Source: Unicode Standard Annexes 11 and 15.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"data"})
    row_by_row: ClassVar[bool] = True

    of_roles: Roles = Field(default_factory=every_role)  # whose texts; references and rejected answers: assistant
    form: Literal["NFC", "NFKC", "none"] = "NFC"  # Unicode normal form
    quotes: Literal["ascii", "keep"] = "keep"  # ascii: “ ” « » ‘ ’ and their kin become " and '
    dashes: Literal["ascii", "keep"] = "keep"  # ascii: – — − and their kin become -
    spaces: Literal["ascii", "keep"] = "keep"  # ascii: no-break, thin and ideographic spaces become an ordinary space
    full_width: Literal["letters", "all", "keep"] = "keep"  # become ASCII; all: Ａ１ and the punctuation ，！ as well
    lower_case: bool = False  # Unicode's, which depends on no language
    punctuation: Literal["space", "remove", "keep"] = "keep"  # and symbols; inside a word (don't, 3.5) they stay
    numbers: Literal["mask", "digits", "keep"] = "keep"  # mask: a number becomes number_mask; digits: each digit a 0
    number_mask: Annotated[str, Field(min_length=1)] = "<NUM>"  # what stands for a number
    in_code: bool = False  # whether code is changed, too
    roles: dict[Role, Role | None] = Field(default_factory=dict)  # roles to rename, for example {system: user}
    merge_consecutive: bool = False  # joins messages of one role in a row by an empty line; tool results stay apart

    def __post_init__(self) -> None:
        """Refuse a mask that the next pass would mask again."""
        if any(character.isdigit() for character in self.number_mask):
            raise Refusal("number_mask", "it holds a digit, so it would be masked again", "<NUM>")

    def data_fingerprint(self, cache_path: Path) -> str:
        """The version of Unicode's tables, which decide what is the same."""
        return unicodedata.unidata_version

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield normalized conversations; counts those changed, by what was changed."""
        changes = self._changes()
        rows_of_kind: Counter[str] = Counter()
        for conversation in conversations:
            kinds: dict[str, None] = {}
            formed = conversation.map_text(partial(self._text, changes, kinds))
            renamed = self._with_roles(formed)
            if renamed is not formed:
                kinds["roles"] = None
            if kinds:
                rows_of_kind.update(list(kinds))
                context.changed(", ".join(kind for kind in KINDS if kind in kinds), conversation, renamed)
            yield renamed
        if rows_of_kind:
            context.audit.add(context.stage, rows_changed_for=rows_of_kind)

    def _changes(self) -> list[Change]:
        """What is done to text, in order, and the kind it counts as; NFC comes last and reaches code, too."""
        masked = partial(spelling.with_masked_numbers, mask=self.number_mask)
        unpunctuated = partial(spelling.without_punctuation, instead=" " if self.punctuation == "space" else "")
        chosen: list[tuple[str, bool, Callable[[str], str]]] = [
            ("Unicode NFKC", self.form == "NFKC", partial(unicodedata.normalize, "NFKC")),
            ("full-width forms", self.full_width == "letters", spelling.with_narrow_letters),
            ("full-width forms", self.full_width == "all", spelling.with_narrow_forms),
            ("quotes", self.quotes == "ascii", spelling.with_ascii_quotes),
            ("dashes", self.dashes == "ascii", spelling.with_ascii_dashes),
            ("spaces", self.spaces == "ascii", spelling.with_ascii_spaces),
            ("lower case", self.lower_case, partial(self._changed, change=str.lower)),
            ("numbers", self.numbers == "digits", partial(self._changed, change=spelling.with_zeros)),
            ("numbers", self.numbers == "mask", partial(self._changed, change=masked)),
            ("punctuation", self.punctuation != "keep", partial(self._changed, change=unpunctuated)),
        ]
        return [(kind, change) for kind, is_on, change in chosen if is_on]

    def _changed(self, text: str, change: Callable[[str], str]) -> str:
        return spelling.outside_placeholders(text, change, self.number_mask if self.numbers == "mask" else "")

    def _text(self, changes: Sequence[Change], kinds: dict[str, None], role: str, text: str) -> str:
        if role not in self.of_roles:
            return text

        def changed(piece: str) -> str:
            for kind, change in changes:
                before, piece = piece, change(piece)
                if piece != before:
                    kinds[kind] = None
            return piece

        if changes:
            text = changed(text) if self.in_code else outside_code(text, changed)
        if self.form == "none" or unicodedata.is_normalized("NFC", text):
            return text
        kinds["Unicode NFC"] = None
        return unicodedata.normalize("NFC", text)

    def _with_roles(self, conversation: Conversation) -> Conversation:
        messages, rejected = (self._renamed(found) for found in (conversation.messages, conversation.rejected))
        if messages is conversation.messages and rejected is conversation.rejected:
            return conversation
        return dataclasses.replace(conversation, messages=messages, rejected=rejected)

    def _renamed(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        renamed = messages
        if self.roles and any(self._role(message.role) != message.role for message in messages):
            renamed = tuple(dataclasses.replace(m, role=self._role(m.role)) for m in messages)
        if self.merge_consecutive and any(first.role == second.role for first, second in itertools.pairwise(renamed)):
            joined = merged(renamed)
            renamed = joined if len(joined) < len(renamed) else renamed
        return renamed

    def _role(self, role: str) -> str:
        return self.roles.get(role) or role  # type: ignore[call-overload]

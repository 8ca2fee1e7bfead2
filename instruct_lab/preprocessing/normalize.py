"""One way to write what is the same."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Audit, Conversation, Message, Role
from instruct_lab.preprocessing.base import Step, shown


@component
class Normalize(Step):
    """Unicode normal form, and roles: renamed for models that lack one, merged where one speaks twice in a row.

    NFC changes how characters are stored and not how they look; NFKC also replaces look-alikes (full-width letters,
    ligatures, superscripts), which changes about 8% of texts. Source: Unicode Standard Annex 15.
    """

    form: Literal["NFC", "NFKC", "none"] = "NFC"  # Unicode normal form
    roles: dict[Role, Role | None] = Field(default_factory=dict)  # roles to rename, for example {system: user}
    merge_consecutive: bool = False  # joins messages of one role in a row by an empty line

    def apply(self, conversations: Iterable[Conversation], stage: str, audit: Audit) -> Iterator[Conversation]:
        """Yield normalized conversations; counts those changed, by reason."""
        for conversation in conversations:
            formed = self._formed(conversation)
            if formed != conversation:
                audit.record(stage, "changed", f"Unicode {self.form}", shown(conversation), shown(formed))
            renamed = dataclasses.replace(formed, messages=self._renamed(formed.messages))
            if renamed != formed:
                audit.record(stage, "changed", "roles", shown(formed), shown(renamed))
            yield renamed

    def _formed(self, conversation: Conversation) -> Conversation:
        messages = tuple(
            dataclasses.replace(message, content=self._text(message.content)) for message in conversation.messages
        )
        return dataclasses.replace(
            conversation, messages=messages, references=tuple(map(self._text, conversation.references))
        )

    def _text(self, text: str) -> str:
        return text if self.form == "none" else unicodedata.normalize(self.form, text)

    def _renamed(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        renamed: list[Message] = []
        for message in messages:
            role = self.roles.get(message.role) or message.role  # type: ignore[call-overload]
            last = renamed[-1] if renamed else None
            if self.merge_consecutive and last and (last.role, last.trained) == (role, message.trained):
                renamed[-1] = dataclasses.replace(last, content=f"{last.content}\n\n{message.content}")
            else:
                renamed.append(dataclasses.replace(message, role=role))
        return tuple(renamed)

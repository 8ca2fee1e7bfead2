"""The base class of judges."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from instruct_lab.cache import describe
from instruct_lab.config import Component


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """A judge's reply to one question.

    Args:
        text: the text of the reply; empty if there is none.
        fault: the reason why there is no reply; empty if there is one.
    """

    text: str = ""
    fault: str = ""


class Judge(Component, ABC):
    """Base class of judges, which answer questions about pairs of answers."""

    explains: ClassVar[bool]
    """Whether the judge is asked to explain its verdict before it gives it."""

    not_science: ClassVar[frozenset[str]] = frozenset()
    """Fields that do not change replies, such as a time limit."""

    @property
    @abstractmethod
    def label(self) -> str:
        """A short name of the judge for signatures and reports, without secrets."""

    @property
    def signature(self) -> str:
        """The label, followed by a hash of the settings that change replies.

        The address of a server is not part of the hash, because the label already names the host.
        """
        settings = json.dumps(describe(self, self.not_science | {"url"}), sort_keys=True)
        return f"{self.label}#{hashlib.sha256(settings.encode()).hexdigest()[:8]}"

    def key(self, cache_path: Path) -> str:
        """Return the SHA-256 of everything that determines the judge's replies to a question.

        Args:
            cache_path: the folder for downloads.
        """
        return hashlib.sha256(json.dumps(self._depends_on(cache_path), sort_keys=True).encode()).hexdigest()

    def _depends_on(self, cache_path: Path) -> Any:
        return describe(self, self.not_science)

    @abstractmethod
    def replies(self, texts: Sequence[str], cache_path: Path, device: Any) -> Iterator[tuple[int, Reply]]:
        """Answer questions, and yield each reply with the index of its question as soon as it is known.

        A question that cannot be answered gets a `Reply` with a fault; nothing is raised for it.

        Args:
            texts: the messages to the judge.
            cache_path: the folder for downloads.
            device: the device of a local model.
        """

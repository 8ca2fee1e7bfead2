"""The base class of judges, which say which of two answers to a prompt is better."""

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
    """Names of the judge's fields that do not change its replies, such as a time limit."""

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
        """Return a SHA-256 by which replies are cached: it changes with everything on which the judge's replies depend.

        Args:
            cache_path: the folder for downloads, such as the weights of a local judge.
        """
        return hashlib.sha256(json.dumps(self._depends_on(cache_path), sort_keys=True).encode()).hexdigest()

    def _depends_on(self, cache_path: Path) -> Any:
        return describe(self, self.not_science)

    @abstractmethod
    def replies(self, texts: Sequence[str], cache_path: Path, device: Any) -> Iterator[tuple[int, Reply]]:
        """Answer questions, and yield each reply with the index of its question as soon as it is known.

        A question that cannot be answered gets a `Reply` with a fault; nothing is raised for it.

        Args:
            texts: the questions, each as the whole message to the judge.
            cache_path: the folder for downloads, such as the weights of a local judge.
            device: the device on which a local judge computes; a judge on a server ignores it.
        """

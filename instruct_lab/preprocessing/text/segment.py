"""Texts as words or sub-words with spaces between them."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation
from instruct_lab.errors import Problem, Refusal
from instruct_lab.preprocessing.base import Context, Need, Step
from instruct_lab.preprocessing.text.code_spans import pieces
from instruct_lab.preprocessing.text.normalize import Roles, every_role
from instruct_lab.preprocessing.text.spelling import PLACEHOLDER

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Method = Literal["whitespace", "chinese_characters", "moses", "jieba", "subwords"]
Words = Callable[[str], list[str]]

PACKAGES = {"moses": "sacremoses", "jieba": "jieba"}
WHOLE = re.compile(f"({PLACEHOLDER})")
HAN = re.compile(
    "([\u2e80-\u2fdf\u3001-\u3003\u3005-\u3011\u3014-\u301b\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\U00020000-\U0003134f])"
)
"""Ideographs, kana, and the punctuation that goes with them."""


@component
class Segment(Step):
    """Words, or sub-words, with one space between them: what classic systems and metrics take as their input.

    The inverse is not kept. Placeholders such as <EMAIL> stay one word; code stays as it is, unless `in_code` is true.
    Two steps with other `of_roles` segment questions and answers in different languages. Sources: the tokenizer of
    Moses (Koehn et al., 2007) as sacremoses has it; jieba; the run's own tokenizer, its pieces marked as in
    subword-nmt (Sennrich et al., 2016).
    """

    method: Method = "whitespace"  # moses: words and punctuation; jieba: Chinese words; subwords: the run's tokenizer
    of_roles: Roles = Field(default_factory=every_role)  # whose texts; references and rejected answers: assistant
    language: Annotated[str, Field(pattern="^[a-z]{2,3}$")] = "en"  # whose rules moses follows, for example fr
    keep_lines: bool = True  # line ends stay; without them a text becomes one line
    continued: Annotated[str, Field(min_length=1)] = "@@"  # ends a sub-word that the next one continues
    in_code: bool = False  # whether code is segmented, too

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """The tokenizer for sub-words, otherwise the version of the package that knows words."""
        return frozenset({"tokenizer"} if self.method == "subwords" else {"data"})

    def __post_init__(self) -> None:
        """Refuse a mark of continuation that would be a word."""
        if re.search(r"\s", self.continued):
            raise Refusal("continued", "white space cannot mark what continues", "@@")

    def problems(self) -> Iterator[Problem]:
        """The package that knows words, where it is not there."""
        package = PACKAGES.get(self.method)
        if package and importlib.util.find_spec(package) is None:
            install = "pip install 'instruct-lab[preprocessing]'"
            reason = f"the step segment needs the package {package}, which is not installed: {install}"
            yield Problem(key="method", value=self.method, reason=reason, kind="unavailable_here")

    def data_fingerprint(self, cache_path: Path) -> str:
        """The version of the package that knows words."""
        from importlib.metadata import version

        package = PACKAGES.get(self.method)
        return f"{package} {version(package)}" if package else ""

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield segmented conversations; counts those changed."""
        words, of_roles = self._words(context), frozenset[str](self.of_roles)
        for conversation in conversations:
            segmented = conversation.map_text(lambda role, text: self._text(text, words) if role in of_roles else text)
            if segmented is not conversation:
                context.changed(f"segmented by {self.method}", conversation, segmented)
            yield segmented

    def _words(self, context: Context) -> Words:
        if self.method == "moses":
            return moses_words(self.language)
        if self.method == "jieba":
            return jieba_words(context.cache_path)
        if self.method == "subwords":
            return partial(subwords, tokenizer=context.tokenizer(), continued=self.continued)
        return chinese_characters if self.method == "chinese_characters" else str.split

    def _text(self, text: str, words: Words) -> str:
        if self.in_code:
            return self._prose(text, words)
        parts = [piece if is_code else self._prose(piece, words) for is_code, piece in pieces(text)]
        if len(parts) == 1:
            return parts[0]
        return _joined([part for part in parts if part])

    def _prose(self, text: str, words: Words) -> str:
        if not self.keep_lines:
            return _segmented(text, words)
        return "\n".join(_segmented(line, words) for line in text.split("\n"))


def _joined(parts: list[str]) -> str:
    """Code and what surrounds it, with a space between them where a line goes on."""
    pairs = zip(parts, ["\n", *parts], strict=False)
    return "".join(part if part[0].isspace() or before[-1].isspace() else f" {part}" for part, before in pairs)


def _segmented(text: str, words: Words) -> str:
    if "<" not in text:
        return " ".join(words(text))
    found: list[str] = []
    for place, piece in enumerate(WHOLE.split(text)):
        found += [piece] if place % 2 else words(piece)
    return " ".join(found)


def chinese_characters(text: str) -> list[str]:
    """Each Chinese or Japanese character by itself, all else by white space: as sacrebleu does for Chinese."""
    return (text if text.isascii() else HAN.sub(r" \1 ", text)).split()


def moses_words(language: str) -> Words:
    """Words and punctuation by the rules of Moses, nothing escaped.

    A language that Moses has no list of abbreviations for follows the English one.
    """
    from sacremoses import MosesTokenizer

    tokenizer = MosesTokenizer(lang=language)
    return lambda text: list(tokenizer.tokenize(text, escape=False)) if text else []


def jieba_words(cache_path: Path) -> Words:
    """Chinese words; other scripts by white space and punctuation.

    Args:
        cache_path: where jieba keeps its dictionary once it is read.
    """
    import logging

    import jieba

    jieba.setLogLevel(logging.WARNING)
    tokenizer = jieba.Tokenizer()
    tokenizer.tmp_dir = str(cache_path / "jieba")
    (cache_path / "jieba").mkdir(parents=True, exist_ok=True)
    return lambda text: [word for word in tokenizer.cut(text) if not word.isspace()]


def subwords(text: str, tokenizer: PreTrainedTokenizerBase, continued: str) -> list[str]:
    """The pieces of a text that a tokenizer makes, those that go on in the next one marked.

    A character that takes several tokens is one piece; white space is none.
    """
    found: list[tuple[int, int]] = []
    for start, stop in tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]:
        start = max(start, found[-1][1] if found else 0)
        piece = text[start:stop]
        if piece.strip():
            start += len(piece) - len(piece.lstrip())
            found.append((start, start + len(piece.strip())))
    begins = {start for start, _ in found}
    return [text[start:stop] + (continued if stop in begins else "") for start, stop in found]

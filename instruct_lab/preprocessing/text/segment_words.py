"""Segmentation of texts into words or subwords, which are then separated by spaces."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation
from instruct_lab.errors import Problem, Refusal
from instruct_lab.optional_packages import missing_packages
from instruct_lab.preprocessing.base import Context, Need, Step
from instruct_lab.preprocessing.text.code_spans import split_code
from instruct_lab.preprocessing.text.normalize import Roles, every_role
from instruct_lab.preprocessing.text.spelling import PLACEHOLDER

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Method = Literal["whitespace", "chinese_characters", "moses", "jieba", "subwords"]
Splitter = Callable[[str], list[str]]

PACKAGES = {"moses": "sacremoses", "jieba": "jieba"}
PLACEHOLDERS = re.compile(f"({PLACEHOLDER})")
HAN = re.compile(
    "([\u2e80-\u2fdf\u3001-\u3003\u3005-\u3011\u3014-\u301b\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\U00020000-\U0003134f])"
)
"""Matches a Chinese or Japanese character (ideograph or kana) or punctuation mark."""


@component
class SegmentWords(Step):
    """Separates words or subwords by one space, as older translation systems and some metrics require.

    The original text cannot be restored. A placeholder such as <EMAIL> is one word; code is unchanged unless `in_code`
    is true. To segment questions and answers in different languages, use two steps with different `of_roles`. The
    method `moses` is the tokenizer of Moses (Koehn et al., 2007), as implemented in sacremoses; `jieba` is the package
    of that name; `subwords` uses the run's own tokenizer and marks subwords as subword-nmt does (Sennrich et al.,
    2016).
    """

    method: Method = "whitespace"  # moses: words and punctuation; jieba: Chinese words; subwords: the run's tokenizer
    of_roles: Roles = Field(default_factory=every_role)  # roles to change; assistant: also references, rejected answers
    language: Annotated[str, Field(pattern="^[a-z]{2,3}$")] = "en"  # language of the Moses rules, for example fr
    keep_lines: bool = True  # keep line ends; if false, a text becomes one line
    continued: Annotated[str, Field(min_length=1)] = "@@"  # mark at the end of a subword whose word continues
    in_code: bool = False  # segment code too

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """What the step needs besides its rows: `tokenizer` for the method `subwords`, `data` for all other methods.

        `tokenizer` is the run's tokenizer. `data` means files or packages whose content can change the result: here the
        package that segments.
        """
        return frozenset({"tokenizer"} if self.method == "subwords" else {"data"})

    def __post_init__(self) -> None:
        """Refuse white space in `continued`, the mark after an incomplete word: white space separates the subwords."""
        if re.search(r"\s", self.continued):
            raise Refusal("continued", "a continuation mark cannot have white space", "@@")

    def problems(self) -> Iterator[Problem]:
        """Report that the package of the chosen method (sacremoses or jieba) is not installed."""
        package = PACKAGES.get(self.method)
        if package:
            yield from missing_packages(package, subject="the step segment", key="method", value=self.method)

    def data_fingerprint(self, cache_path: Path) -> str:
        """Return the name and version of the package of the chosen method; empty for a method without a package."""
        from importlib.metadata import version

        package = PACKAGES.get(self.method)
        return f"{package} {version(package)}" if package else ""

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the segmented conversations; count the changed rows in the audit."""
        split, of_roles = self._splitter(context), frozenset[str](self.of_roles)
        for conversation in conversations:
            segmented = conversation.map_text(
                lambda role, text: self._segment(text, split) if role in of_roles else text
            )
            if segmented is not conversation:
                context.count_changed(f"segmented by {self.method}", conversation, segmented)
            yield segmented

    def _splitter(self, context: Context) -> Splitter:
        if self.method == "moses":
            return moses_splitter(self.language)
        if self.method == "jieba":
            return jieba_splitter(context.cache_path)
        if self.method == "subwords":
            return partial(split_subwords, tokenizer=context.tokenizer(), continued=self.continued)
        return split_chinese_characters if self.method == "chinese_characters" else str.split

    def _segment(self, text: str, split: Splitter) -> str:
        if self.in_code:
            return self._segment_prose(text, split)
        parts = [piece if is_code else self._segment_prose(piece, split) for is_code, piece in split_code(text)]
        if len(parts) == 1:
            return parts[0]
        return _join([part for part in parts if part])

    def _segment_prose(self, text: str, split: Splitter) -> str:
        if not self.keep_lines:
            return _segment_line(text, split)
        return "\n".join(_segment_line(line, split) for line in text.split("\n"))


def _join(parts: list[str]) -> str:
    """Join the parts of a text, which are alternately code and prose.

    A space is added between two parts if no white space separates them.
    """
    pairs = zip(parts, ["\n", *parts], strict=False)
    return "".join(part if part[0].isspace() or before[-1].isspace() else f" {part}" for part, before in pairs)


def _segment_line(text: str, split: Splitter) -> str:
    if "<" not in text:
        return " ".join(split(text))
    words: list[str] = []
    for index, piece in enumerate(PLACEHOLDERS.split(text)):
        words += [piece] if index % 2 else split(piece)
    return " ".join(words)


def split_chinese_characters(text: str) -> list[str]:
    """Make each Chinese or Japanese character a word, and split the rest at white space, as sacrebleu does."""
    return (text if text.isascii() else HAN.sub(r" \1 ", text)).split()


def moses_splitter(language: str) -> Splitter:
    """Return a function that splits words and punctuation by the rules of Moses.

    Special characters are not escaped (`&` does not become `&amp;`). A language for which Moses has no list of
    abbreviations uses the English list.
    """
    from sacremoses import MosesTokenizer

    tokenizer = MosesTokenizer(lang=language)
    return lambda text: list(tokenizer.tokenize(text, escape=False)) if text else []


def jieba_splitter(cache_path: Path) -> Splitter:
    """Return a function that splits Chinese into words with jieba, and other scripts at white space and punctuation.

    Args:
        cache_path: folder for jieba's compiled dictionary.
    """
    import logging

    import jieba

    jieba.setLogLevel(logging.WARNING)
    tokenizer = jieba.Tokenizer()
    tokenizer.tmp_dir = str(cache_path / "jieba")
    (cache_path / "jieba").mkdir(parents=True, exist_ok=True)
    return lambda text: [word for word in tokenizer.cut(text) if not word.isspace()]


def split_subwords(text: str, tokenizer: PreTrainedTokenizerBase, continued: str) -> list[str]:
    """Split a text into the subwords that its tokens stand for, without white space.

    If a word continues in the next subword, `continued` is appended. If several tokens together encode one character,
    they become one subword.
    """
    spans: list[tuple[int, int]] = []
    for start, stop in tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]:
        start = max(start, spans[-1][1] if spans else 0)
        piece = text[start:stop]
        if piece.strip():
            start += len(piece) - len(piece.lstrip())
            spans.append((start, start + len(piece.strip())))
    starts = {start for start, _ in spans}
    return [text[start:stop] + (continued if stop in starts else "") for start, stop in spans]

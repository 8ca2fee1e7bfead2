"""Encoding of segments (the pieces of a rendered conversation) as token ids and labels.

The rendered text is cut where a trained segment meets an untrained one and where an answer starts, so that no token
crosses these positions and the ids of a prompt are the same as at inference. Between the cuts, adjacent segments are
encoded as one text, so their tokens are the same as at inference. The content of a message in which a special token is
written out is encoded separately, as ordinary text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from instruct_lab.batching.example import IGNORED, Example
from instruct_lab.batching.text_ids import TextIds
from instruct_lab.errors import InstructLabError
from instruct_lab.template import Segment, special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Key = tuple[str, bool, str | None]
"""The values that determine the token ids of a `Piece`: its `text`, `ordinary` and `after`."""

ANCHORS = ("\n", ".", ";", "0", "~", "a")
"""Candidates for a text that is put before a piece if the tokenizer treats the start of a text differently.

One of them is chosen for a tokenizer, and its ids are removed from the result."""


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """A text that is encoded in one call.

    Args:
        text: the text, never empty.
        trained: whether its tokens are targets.
        ordinary: whether special tokens that are written out in the text are encoded as ordinary text.
        after: the special token directly before this text in the rendered conversation; `""` at the start of the
            conversation, `None` after ordinary text.
    """

    text: str
    trained: bool
    ordinary: bool
    after: str | None

    @property
    def key(self) -> Key:
        """The values that determine the token ids of the piece: `text`, `ordinary` and `after`."""
        return self.text, self.ordinary, self.after


class SegmentEncoder:
    """An encoder of conversations, given as segments, that calls the tokenizer only a few times for many of them.

    Args:
        tokenizer: a fast tokenizer (from the `tokenizers` library).
        parses_special: whether a special token that is written out in a message's content is encoded as this token;
            otherwise, it is encoded as ordinary text.

    Raises:
        InstructLabError: the tokenizer is a slow one (written in Python).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, parses_special: bool = False) -> None:
        self._parses_special = parses_special
        self._texts = TextIds(tokenizer)
        self._normalizer = tokenizer.backend_tokenizer.normalizer
        self._special = special_tokens(tokenizer)
        self._special_ids = set(self._special.ids.values()) - {tokenizer.unk_token_id}
        self._normalizes_special = self._normalizer is not None and any(
            token.normalized for token in tokenizer.added_tokens_decoder.values() if token.special
        )
        opening = list(tokenizer("")["input_ids"])
        bos = tokenizer.bos_token_id
        self._bos: int | None = bos if bos is not None and opening[:1] == [bos] else None
        self._probe()

    def _probe(self) -> None:
        """Find out, by encoding short texts, whether the tokenizer treats the start of a text differently.

        For example, some tokenizers add a space there. The attributes that are set here decide how texts are joined and
        cut before they are encoded.
        """
        at_start, after_newline, newline = self._texts.ids_of(["a b", "\na b", "\n"])
        self._marks_start = after_newline != [*newline, *at_start]
        self._is_contextual = self._marks_start or bool(self._special.swallowing)
        # tokenizers first cut out special tokens and then encode the texts between them separately
        self._cuts_at_special = not self._is_contextual and self._normalizer is None
        self._anchors = list(ANCHORS)
        if self._marks_start:
            for token, number in self._special.ids.items():  # the best anchor if text after it is not a start
                (ids,) = self._texts.ids_of([f"{token}a b"])
                if ids[:1] == [number] and ids[1:] != at_start and token not in self._special.swallowing:
                    self._anchors.insert(0, token)
                    break

    def encode(self, conversations: Sequence[Sequence[Segment]], names: Sequence[str] | None = None) -> list[Example]:
        """Encode each list of segments as one example.

        Args:
            conversations: the segments of each conversation.
            names: the id for each example; `None`: every id is empty.

        Raises:
            InstructLabError: the text begins with two BOS tokens, or a special token that is written out in a message's
                content cannot be encoded as ordinary text.
        """
        cut = [self.pieces(segments) for segments in conversations]
        known = self._ids_by_key(piece for pieces in cut for piece in pieces)
        examples = []
        for index, pieces in enumerate(cut):
            input_ids: list[int] = []
            labels: list[int] = []
            for piece in pieces:
                ids = known[piece.key]
                input_ids += ids
                labels += ids if piece.trained else [IGNORED] * len(ids)
            name = names[index] if names is not None else ""
            examples.append(self._with_one_bos(Example(input_ids, labels, name)))
        return examples

    def pieces(self, segments: Sequence[Segment]) -> list[Piece]:
        """Join the segments of a conversation into texts that can be encoded independently of each other."""
        pieces: list[Piece] = []
        texts: list[str] = []
        current: tuple[bool, bool] | None = None  # trained, ordinary
        after: str | None = ""
        closing: str | None = None  # the special token at the end of the text so far
        must_cut = follows_content = False

        def close() -> None:
            nonlocal texts, after
            if texts and current is not None:
                pieces.append(Piece("".join(texts), *current, after))
                texts, after = [], closing

        for segment in segments:
            must_cut = must_cut or segment.starts_answer
            if not segment.text:
                continue
            is_text = segment.role is not None and not segment.has_tokens and not self._parses_special
            ordinary = is_text and self._spells_special(segment.text)
            if must_cut or ordinary or current != (segment.trained, ordinary):
                close()
            current, must_cut = (segment.trained, ordinary), False
            text = segment.text
            if closing is not None and follows_content and segment.role is None and segment.trained:
                text = text.removeprefix(closing)  # an answer that spells its end token gets no second one
            if (
                self._cuts_at_special
                and segment.role is None
                and 0 < (end := self._special.end_of_last(text)) < len(text)
            ):
                texts.append(text[:end])  # many conversations have this text in common, so it is encoded only once
                closing, text = self._special.closing(text[:end]), text[end:]
                close()
            texts.append(text)
            closing = (None if is_text else self._special.closing(text)) if text else closing
            follows_content = segment.role is not None
        close()
        return pieces

    def _spells_special(self, content: str) -> bool:
        if self._special.pattern.search(content):
            return True
        if not self._normalizes_special:
            return False
        normal = self._normalizer.normalize_str(content)
        return any(self._normalizer.normalize_str(token) in normal for token in self._special.ids)

    def _with_one_bos(self, example: Example) -> Example:
        if self._bos is None:
            return example
        ids, labels = example.input_ids, example.labels
        if ids[:1] != [self._bos]:
            ids, labels = [self._bos, *ids], [IGNORED, *labels]
        if ids[1:2] == [self._bos]:
            raise InstructLabError(
                "The text begins with two BOS tokens",
                where=f"conversation {example.id or '(unnamed)'}",
                do="remove one from the template: the tokenizer adds one if the text has none",
            )
        return Example(ids, labels, example.id)

    def _ids_by_key(self, pieces: Iterable[Piece]) -> dict[Key, list[int]]:
        """Encode every piece, and return the token ids keyed by `Piece.key`; equal pieces are encoded only once."""
        known: dict[Key, list[int]] = {}
        wanted = dict.fromkeys(piece.key for piece in pieces)
        for ordinary in (False, True):
            keys = [key for key in wanted if key[1] is ordinary]
            at_start = [key for key in keys if key[2] == "" or not self._is_contextual]
            known |= zip(at_start, self._texts.ids_of([key[0] for key in at_start], ordinary=ordinary), strict=True)
            inside = [key for key in keys if key not in known]
            known |= zip(inside, self._ids_inside([(t, after) for t, _, after in inside], ordinary), strict=True)
        for key in wanted:
            if key[1] and not self._special_ids.isdisjoint(known[key]):
                known[key] = self._split_special(key[0], key[2])
        return known

    def _ids_inside(self, texts: Sequence[tuple[str, str | None]], ordinary: bool) -> list[list[int]]:
        """Encode texts from the middle of a rendered text, and return the token ids of each.

        Each text is encoded with a special token or a short text before it, whose ids are then removed.

        Args:
            texts: each text, and the special token before it; the token is `None` or empty if there is none.
            ordinary: whether special tokens that are written out in the text are encoded as ordinary text.
        """
        if not texts:
            return []
        result: list[list[int] | None] = [None] * len(texts)
        special = [i for i, (_, after) in enumerate(texts) if after] if not ordinary else []
        joined = self._texts.ids_of([f"{texts[i][1]}{texts[i][0]}" for i in special])
        for i, ids in zip(special, joined, strict=True):
            if ids[:1] == [self._special.ids[str(texts[i][1])]]:
                result[i] = ids[1:]
        for anchor in self._anchors if self._marks_start else []:
            left = [i for i, ids in enumerate(result) if ids is None]
            anchored = anchor if not (ordinary and anchor in self._special.ids) else "\n"
            opening, *joined = self._texts.ids_of(
                [anchored, *(anchored + texts[i][0] for i in left)], ordinary=ordinary
            )
            for i, ids in zip(left, joined, strict=True):
                if ids[: len(opening)] == opening:
                    result[i] = ids[len(opening) :]
        left = [i for i, ids in enumerate(result) if ids is None]
        for i, ids in zip(left, self._texts.ids_of([texts[i][0] for i in left], ordinary=ordinary), strict=True):
            result[i] = ids
        return [ids if ids is not None else [] for ids in result]

    def _split_special(self, text: str, after: str | None) -> list[int]:
        """Encode a text that has special tokens written out in it, so that they become ordinary tokens.

        The text is cut in the middle of each written-out special token, and the parts are encoded one by one.

        Args:
            text: the text.
            after: the special token directly before the text; `""` at the start of the conversation, `None` after
                ordinary text.

        Raises:
            InstructLabError: the tokenizer cannot encode the text without a special token.
        """
        cuts = [
            (match.start() + match.end()) // 2 for match in self._special.pattern.finditer(text) if len(match[0]) > 1
        ]
        if not cuts:
            raise InstructLabError(
                f"The tokenizer has no way to write {text[:60]!r} without a special token",
                do="clean that text out of the data",
            )
        parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        pieces = [Piece(part, False, True, after if index == 0 else None) for index, part in enumerate(parts)]
        known = self._ids_by_key(pieces)
        return [number for piece in pieces for number in known[piece.key]]

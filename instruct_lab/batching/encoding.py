"""Segments to token ids and labels.

Text is cut where a token may not reach across: where `trained` changes, and where an answer starts, so that the ids of
a prompt are those at inference. Between the cuts adjacent segments are one text, so that merges are those of inference
too. Content that spells a special token is cut out and encoded as ordinary text.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from instruct_lab.batching.base import IGNORED, Example
from instruct_lab.batching.word_ids import WordIds, word_ids
from instruct_lab.errors import InstructLabError
from instruct_lab.template import Segment, special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANCHORS = ("\n", ".", ";", "0", "~", "a")
"""Put before a piece of a longer text, and taken away again, where a tokenizer treats the start of a text apart."""


MANY = 256
"""Texts of one call that are worth asking the tokenizer how it cuts them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """A text that is encoded as one.

    Args:
        text: never empty.
        trained: whether its tokens are targets.
        ordinary: whether text that spells a special token is ordinary text.
        after: the special token that stands before it, `""` at the start of the whole text, `None` after other text.
    """

    text: str
    trained: bool
    ordinary: bool
    after: str | None


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 over all of a tokenizer that decides text and ids: its files' content, and its chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    told = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab())
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    further = [tokenizer.chat_template, special, list(tokenizer("")["input_ids"])]
    return _fingerprint(type(tokenizer).__name__, told, json.dumps(further))


@functools.lru_cache(maxsize=4)
def _fingerprint(name: str, told: str, further: str) -> str:
    backend = json.loads(told)
    backend |= {"truncation": None, "padding": None}  # transformers leaves here what its last call asked for
    return hashlib.sha256(json.dumps([name, backend, *json.loads(further)], sort_keys=True).encode()).hexdigest()


class Encoder:
    """Encodes many conversations' segments in few calls of one tokenizer.

    Args:
        tokenizer: a fast one (of the `tokenizers` library).

    Raises:
        InstructLabError: the tokenizer is a slow one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None or not hasattr(backend, "encode_batch_fast"):
            raise InstructLabError(
                f"{type(tokenizer).__name__} is a slow tokenizer: batches and character offsets need a fast one",
                where="model",
                do="use a model with a tokenizer.json, or convert its tokenizer with transformers",
            )
        self._tokenizer = tokenizer
        self._backend: Any = backend
        self._lock = threading.Lock()  # the backend's switch for special tokens is set for one call at a time
        self._threads = ThreadPoolExecutor(2, "tokenizer")  # one reads ids from what it has, the other has encoded
        self._special = special_tokens(tokenizer)
        self._special_ids = set(self._special.ids.values()) - {tokenizer.unk_token_id}
        self._named_loosely = backend.normalizer is not None and any(
            token.normalized for token in tokenizer.added_tokens_decoder.values() if token.special
        )
        opening = list(tokenizer("")["input_ids"])
        bos = tokenizer.bos_token_id
        self._bos: int | None = bos if bos is not None and opening[:1] == [bos] else None
        self._probe()

    def _probe(self) -> None:
        """Find out whether the start of a text is encoded apart (a space is put before it, say)."""
        alone, after_newline, newline = self._ids(["a b", "\na b", "\n"], ordinary=False)
        self._starts_apart = after_newline != [*newline, *alone]
        self._contextual = self._starts_apart or bool(self._special.swallowing)
        # the tokenizer itself takes special tokens out first and encodes what is between them piece by piece
        self._cuts_at_special = not self._contextual and self._backend.normalizer is None
        self._anchors = list(ANCHORS)
        if self._starts_apart:
            for token, number in self._special.ids.items():  # the best anchor, where text after it is not a start
                (ids,) = self._ids([f"{token}a b"], ordinary=False)
                if ids[:1] == [number] and ids[1:] != alone and token not in self._special.swallowing:
                    self._anchors.insert(0, token)
                    break

    def encode(self, conversations: Sequence[Sequence[Segment]], names: Sequence[str] | None = None) -> list[Example]:
        """One example for each list of segments, in order.

        Args:
            conversations: segments of each.
            names: the examples' ids.

        Raises:
            InstructLabError: the text begins with two BOS tokens, or content cannot be told from a special token.
        """
        return self.begin(conversations, names)()

    def begin(
        self, conversations: Sequence[Sequence[Segment]], names: Sequence[str] | None = None
    ) -> Callable[[], list[Example]]:
        """Start to encode, in another thread; what is returned waits and gives the examples, as `encode` does.

        The tokenizer's own threads work without Python's lock, so the next conversations can be rendered meanwhile.
        """
        cut = [self.pieces(segments) for segments in conversations]
        encoded = self._threads.submit(self._encoded, [piece for pieces in cut for piece in pieces])
        return lambda: self._examples(cut, encoded.result(), names)

    def _examples(
        self, cut: list[list[Piece]], known: dict[tuple[str, bool, str | None], list[int]], names: Sequence[str] | None
    ) -> list[Example]:
        examples = []
        for index, pieces in enumerate(cut):
            input_ids: list[int] = []
            labels: list[int] = []
            for piece in pieces:
                ids = known[piece.text, piece.ordinary, piece.after]
                input_ids += ids
                labels += ids if piece.trained else [IGNORED] * len(ids)
            name = names[index] if names is not None else ""
            examples.append(self._with_one_bos(Example(input_ids, labels, name)))
        return examples

    def pieces(self, segments: Sequence[Segment]) -> list[Piece]:
        """Segments joined up to where a token may not reach across."""
        pieces: list[Piece] = []
        texts: list[str] = []
        current: tuple[bool, bool] | None = None  # trained, ordinary
        after: str | None = ""
        closing: str | None = None  # the special token that the text so far ends with
        must_cut = False

        def close() -> None:
            nonlocal texts, after
            if texts and current is not None:
                pieces.append(Piece("".join(texts), *current, after))
                texts, after = [], closing

        for segment in segments:
            must_cut = must_cut or segment.starts_answer
            if not segment.text:
                continue
            ordinary = segment.role is not None and self._spells_special(segment.text)
            if must_cut or ordinary or current != (segment.trained, ordinary):
                close()
            current, must_cut = (segment.trained, ordinary), False
            text = segment.text
            if (
                self._cuts_at_special
                and segment.role is None
                and 0 < (end := self._special.end_of_last(text)) < len(text)
            ):
                texts.append(text[:end])  # what stands before is the same in many conversations, and so encoded once
                closing, text = self._special.closing(text[:end]), text[end:]
                close()
            texts.append(text)
            closing = self._special.closing(text) if segment.role is None else None
        close()
        return pieces

    def content_spans(self, content: str) -> list[tuple[int, int]]:
        """Start and end of each token of a content, in characters of it."""
        with self._switched(ordinary=True):
            spans: list[tuple[int, int]] = self._backend.encode(content, add_special_tokens=False).offsets
        return spans

    def _spells_special(self, content: str) -> bool:
        if self._special.pattern.search(content):
            return True
        if not self._named_loosely:
            return False
        normal = self._backend.normalizer.normalize_str(content)
        return any(self._backend.normalizer.normalize_str(token) in normal for token in self._special.ids)

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
                do="take one out of the template: the tokenizer adds one where the text has none",
            )
        return Example(ids, labels, example.id)

    def _encoded(self, pieces: Iterable[Piece]) -> dict[tuple[str, bool, str | None], list[int]]:
        """The ids of every piece; equal ones are encoded once."""
        known: dict[tuple[str, bool, str | None], list[int]] = {}
        wanted = dict.fromkeys((piece.text, piece.ordinary, piece.after) for piece in pieces)
        for ordinary in (False, True):
            keys = [key for key in wanted if key[1] is ordinary]
            plain = [key for key in keys if key[2] == "" or not self._contextual]
            known |= zip(plain, self._ids([text for text, _, _ in plain], ordinary=ordinary), strict=True)
            if len(plain) < len(keys):
                within = [key for key in keys if key not in known]
                known |= zip(within, self._ids_within([(t, a) for t, _, a in within], ordinary), strict=True)
        for key in wanted:
            if key[1] and not self._special_ids.isdisjoint(known[key]):
                known[key] = self._cut_inside(key[0], key[2])
        return known

    def _ids(self, texts: Sequence[str], *, ordinary: bool) -> list[list[int]]:
        if not ordinary and len(texts) >= MANY and self._words is not None:
            return self._words(texts, functools.partial(self._whole_ids, ordinary=False))
        return self._whole_ids(texts, ordinary)

    @functools.cached_property
    def _words(self) -> WordIds | None:
        """Gives the ids of whole texts faster than the tokenizer does, where it encodes words apart."""
        return word_ids(self._tokenizer) if self._cuts_at_special else None

    def _whole_ids(self, texts: Sequence[str], ordinary: bool) -> list[list[int]]:
        if not texts:
            return []
        with self._switched(ordinary):
            encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    @contextlib.contextmanager
    def _switched(self, ordinary: bool) -> Iterator[None]:
        """The backend, whole texts as they are, with special tokens' text as ordinary text or not."""
        with self._lock:
            self._backend.no_truncation()  # transformers sets both again at each of its own calls
            self._backend.no_padding()
            self._backend.encode_special_tokens = ordinary
            try:
                yield
            finally:
                self._backend.encode_special_tokens = False

    def _ids_within(self, places: Sequence[tuple[str, str | None]], ordinary: bool) -> list[list[int]]:
        """Ids of texts that do not start the whole text, each with the special token before it, if one is.

        Each is encoded after something else, whose own ids are then taken away.
        """
        result: list[list[int] | None] = [None] * len(places)
        special = [i for i, (_, after) in enumerate(places) if after] if not ordinary else []
        joined = self._ids([f"{places[i][1]}{places[i][0]}" for i in special], ordinary=False)
        for i, ids in zip(special, joined, strict=True):
            if ids[:1] == [self._special.ids[str(places[i][1])]]:
                result[i] = ids[1:]
        for anchor in self._anchors if self._starts_apart else []:
            left = [i for i, ids in enumerate(result) if ids is None]
            anchored = anchor if not (ordinary and anchor in self._special.ids) else "\n"
            (opening,) = self._ids([anchored], ordinary=ordinary)
            for i, ids in zip(left, self._ids([anchored + places[i][0] for i in left], ordinary=ordinary), strict=True):
                if ids[: len(opening)] == opening:
                    result[i] = ids[len(opening) :]
        left = [i for i, ids in enumerate(result) if ids is None]
        for i, ids in zip(left, self._ids([places[i][0] for i in left], ordinary=ordinary), strict=True):
            result[i] = ids
        return [ids if ids is not None else [] for ids in result]

    def _cut_inside(self, text: str, after: str | None) -> list[int]:
        """Ids of a text whose vocabulary holds special tokens as ordinary pieces: each is cut in two."""
        cuts = [
            (match.start() + match.end()) // 2 for match in self._special.pattern.finditer(text) if len(match[0]) > 1
        ]
        if not cuts:
            raise InstructLabError(
                f"The tokenizer knows no way to write {text[:60]!r} without a special token",
                do="clean that text out of the data",
            )
        parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        pieces = [Piece(part, False, True, after if index == 0 else None) for index, part in enumerate(parts)]
        known = self._encoded(pieces)
        return [number for piece in pieces for number in known[piece.text, piece.ordinary, piece.after]]

"""Decoding of examples token by token: the text of each token, whether it is a target, and whether it is special.

The text is decoded from the ids, so it is exactly the text that the model sees. If a character consists of several
tokens, these tokens form one span, and the last of them has the character as its text.
"""

from __future__ import annotations

import codecs
import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from instruct_lab.batching.example import IGNORED
from instruct_lab.template import special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """One token, or adjacent tokens that together form one character.

    Args:
        texts: the text of each token; empty if the token does not complete a character.
        ids: the id of each token.
        trained: whether the tokens are targets.
        special: whether the span is a special token, and not ordinary text that looks like one.
        predicts: the text that the labels of the span spell, if the labels are other ids than `ids`, as for a masked
            token; otherwise empty.
    """

    texts: tuple[str, ...]
    ids: tuple[int, ...]
    trained: bool
    special: bool
    predicts: str = ""

    @property
    def text(self) -> str:
        """The text of all tokens of the span."""
        return "".join(self.texts)


class TokenReader:
    """A decoder that turns the token ids of one tokenizer into text, in which special tokens are written out.

    Args:
        tokenizer: a fast tokenizer (from the `tokenizers` library), byte-level or not.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._backend: Any = tokenizer.backend_tokenizer
        self._special = {number: text for text, number in special_tokens(tokenizer).ids.items()}
        self._added = {number: token.content for number, token in tokenizer.added_tokens_decoder.items()}
        decoder = self._backend.decoder
        kind = decoder.__getstate__() if decoder is not None else b""
        self._byte_level = b'"ByteLevel"' in kind
        self._byte_fallback = b'"ByteFallback"' in kind
        self._bytes_of_letters = _bytes_of_letters() if self._byte_level else {}

    def text(self, ids: Sequence[int]) -> str:
        """Decode token ids to text; special tokens are written out."""
        return "".join(span.text for span in self._spans(ids, ids))

    def spans(self, input_ids: Sequence[int], labels: Sequence[int]) -> list[Span]:
        """Divide an example into spans, in order; no span has both trained and untrained tokens.

        Args:
            input_ids: the token ids of the example.
            labels: the label of each token, not shifted.
        """
        spans, start = self._spans(input_ids, labels), 0
        for index, span in enumerate(spans):
            span_labels = labels[start : start + len(span.ids)]
            start += len(span.ids)
            if span.trained and tuple(span_labels) != span.ids:
                spans[index] = dataclasses.replace(span, predicts=self.text(span_labels))
        return spans

    def _spans(self, input_ids: Sequence[int], labels: Sequence[int]) -> list[Span]:
        spans: list[Span] = []
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        texts: list[str] = []
        ids: list[int] = []
        previous: int | None = None

        def close(trained: bool, special: bool = False) -> None:
            if ids:
                texts[-1] += decoder.decode(b"", final=True)
                spans.append(Span(tuple(texts), tuple(ids), trained, special))
                texts.clear()
                ids.clear()

        was_trained = False
        for number, label in zip(input_ids, labels, strict=True):
            trained = label != IGNORED
            text = None if number in self._special else self._decode(number, previous)
            if trained != was_trained or not isinstance(text, bytes):
                close(was_trained)
            ids.append(number)
            if isinstance(text, bytes):
                texts.append(decoder.decode(text))
                if not decoder.getstate()[0]:  # no incomplete character
                    close(trained)
            else:
                texts.append(self._special[number] if text is None else text)
                close(trained, special=text is None)
            previous, was_trained = number, trained
        close(was_trained)
        return spans

    def _decode(self, number: int, previous: int | None) -> bytes | str:
        """Return the text that a token adds after the previous one, or its bytes if it may be a part of a character.

        Args:
            number: the id of the token.
            previous: the id of the token before it; `None` at the start of a text.
        """
        if number in self._added:
            return str(self._added[number])
        token = str(self._backend.id_to_token(number) or "")
        if self._byte_level:
            return b"".join(self._bytes_of_letters.get(letter, letter.encode()) for letter in token)
        if self._byte_fallback and (match := BYTE.fullmatch(token)):
            return bytes([int(match[1], 16)])
        if previous is None:
            return str(self._backend.decode([number], skip_special_tokens=False))
        before = str(self._backend.decode([previous], skip_special_tokens=False))
        both = str(self._backend.decode([previous, number], skip_special_tokens=False))
        return both[len(before) :] if both.startswith(before) else token


def _bytes_of_letters() -> dict[str, bytes]:
    """Return a dictionary from each character in byte-level vocabularies such as GPT-2's to the byte it stands for."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    letters = {chr(byte): bytes([byte]) for byte in printable}
    return letters | {chr(256 + index): bytes([byte]) for index, byte in enumerate(others)}

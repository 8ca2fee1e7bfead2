"""An example read back: what each of its tokens writes, what is trained, and what is a special token.

Text is read back from the ids alone, so it is what the model sees, whatever was meant. A character of several tokens
belongs to the token that completes it, and these tokens are one span.
"""

from __future__ import annotations

import codecs
import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from instruct_lab.batching.base import IGNORED
from instruct_lab.template import special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring tokens that can only be shown together: one token, or those of a character made of several.

    Args:
        texts: what each token writes; empty where it only begins a character. Joined, they are the text.
        ids: as many.
        trained: whether they are targets.
        special: whether it is a special token: text that merely spells one is not.
        predicts: where they are targets of something else than themselves, as masked tokens are: what that is.
    """

    texts: tuple[str, ...]
    ids: tuple[int, ...]
    trained: bool
    special: bool
    predicts: str = ""

    @property
    def text(self) -> str:
        """What the tokens write together."""
        return "".join(self.texts)


class TokenReader:
    """Reads ids back as text with one tokenizer, byte-level or not, special tokens included.

    Args:
        tokenizer: a fast one.
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
        """What ids write, special tokens spelled out."""
        return "".join(span.text for span in self._spans(ids, ids))

    def spans(self, input_ids: Sequence[int], labels: Sequence[int]) -> list[Span]:
        """The spans of an example, in order; no span holds both trained and untrained tokens.

        Args:
            input_ids: of the example.
            labels: as many, unshifted.
        """
        spans, place = self._spans(input_ids, labels), 0
        for number, span in enumerate(spans):
            wanted = labels[place : place + len(span.ids)]
            place += len(span.ids)
            if span.trained and tuple(wanted) != span.ids:
                spans[number] = dataclasses.replace(span, predicts=self.text(wanted))
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
            written = None if number in self._special else self._written(number, previous)
            if trained != was_trained or not isinstance(written, bytes):
                close(was_trained)
            ids.append(number)
            if isinstance(written, bytes):
                texts.append(decoder.decode(written))
                if not decoder.getstate()[0]:  # no character is left half written
                    close(trained)
            else:
                texts.append(self._special[number] if written is None else written)
                close(trained, special=written is None)
            previous, was_trained = number, trained
        close(was_trained)
        return spans

    def _written(self, number: int, previous: int | None) -> bytes | str:
        """What a token adds to the text: bytes where it may hold parts of characters."""
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
    """The letters that byte-level tokenizers write bytes with (as GPT-2 does), and the byte of each."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(shown)]
    letters = {chr(byte): bytes([byte]) for byte in shown}
    return letters | {chr(256 + index): bytes([byte]) for index, byte in enumerate(hidden)}

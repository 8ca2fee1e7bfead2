"""Streaming of an answer: its text in pieces, while the model generates its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from transformers.generation.streamers import BaseStreamer

UNFINISHED = "�"
"""The character with which a decoded text ends if its last bytes are not yet a whole character."""


class TextStream(BaseStreamer):
    """A streamer of transformers that decodes one answer and passes on each new piece of its text.

    Args:
        tokenizer: tokenizer that decodes the answer.
        stop_token_ids: tokens that end the answer and are not part of it.
        on_text: function that gets each new piece.
    """

    def __init__(self, tokenizer: Any, stop_token_ids: Sequence[int], on_text: Callable[[str], None]) -> None:
        self._tokenizer, self._stops, self._on_text = tokenizer, set(stop_token_ids), on_text
        self._ids: list[int] = []
        self._passed_on = ""
        self._is_prompt = True

    def put(self, value: Any) -> None:
        """Decode the next token, and pass on the new text; ignore the first call, which contains the prompt."""
        if self._is_prompt:
            self._is_prompt = False
            return
        (token,) = value.reshape(-1).tolist()
        if token in self._stops:
            return
        self._ids.append(token)
        text = str(self._tokenizer.decode(self._ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        if not text.endswith(UNFINISHED):
            self._pass_on(text)

    def end(self) -> None:
        """Do nothing: `finish` passes on the rest of the text."""

    def finish(self, text: str) -> None:
        """Pass on the part of the whole answer that was not passed on yet.

        Args:
            text: the text of the whole answer, with the part that was already passed on.
        """
        self._pass_on(text)

    def _pass_on(self, text: str) -> None:
        if text.startswith(self._passed_on) and text != self._passed_on:
            piece, self._passed_on = text[len(self._passed_on) :], text
            self._on_text(piece)

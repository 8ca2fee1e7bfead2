"""Streaming of an answer: new parts of its text are passed on while the model still generates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from transformers.generation.streamers import BaseStreamer

UNFINISHED = "�"
"""The last character of a decoded text whose last bytes are only the beginning of a character."""


class TextStream(BaseStreamer):
    """A streamer of transformers that decodes one answer and passes each new part of its text to a function.

    Args:
        tokenizer: tokenizer that decodes the answer.
        stop_token_ids: tokens that end the answer and are not part of it.
        on_text: function that is called with each new part of the text.
    """

    def __init__(self, tokenizer: Any, stop_token_ids: Sequence[int], on_text: Callable[[str], None]) -> None:
        self._tokenizer, self._stops, self._on_text = tokenizer, set(stop_token_ids), on_text
        self._ids: list[int] = []
        self._passed_on = ""
        self._is_prompt = True

    def put(self, value: Any) -> None:
        """Decode the next token, and pass the new part of the answer's text to `on_text`.

        The first call does nothing, because transformers calls this method first with the prompt.
        """
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
        """Do nothing at the end of the answer, since `finish` passes on the rest of the text."""

    def finish(self, text: str) -> None:
        """Pass on the part of the answer's text that was not passed on yet.

        Args:
            text: the text of the whole answer, including what was already passed on.
        """
        self._pass_on(text)

    def _pass_on(self, text: str) -> None:
        if text.startswith(self._passed_on) and text != self._passed_on:
            piece, self._passed_on = text[len(self._passed_on) :], text
            self._on_text(piece)

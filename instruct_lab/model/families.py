"""The three families of language models: decoders, encoder-decoders and encoders."""

from __future__ import annotations

from typing import ClassVar

from instruct_lab.config import component
from instruct_lab.model.base import Model


@component
class Decoder(Model):
    """A causal language model (Llama, GPT-2), which reads from left to right and predicts the next token."""

    family: ClassVar[str] = "decoder"
    auto_class: ClassVar[str] = "AutoModelForCausalLM"


@component
class EncoderDecoder(Model):
    """A sequence-to-sequence model (T5, BART, Marian), which reads a text and writes another one from left to right."""

    family: ClassVar[str] = "encoder-decoder"
    auto_class: ClassVar[str] = "AutoModelForSeq2SeqLM"


@component
class Encoder(Model):
    """A masked language model (BERT), which reads a whole text at once and predicts masked tokens."""

    family: ClassVar[str] = "encoder"
    auto_class: ClassVar[str] = "AutoModelForMaskedLM"

"""The three families of language models."""

from __future__ import annotations

import importlib.util
from abc import ABC
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from instruct_lab.assets import Input
from instruct_lab.config import component
from instruct_lab.errors import InstructLabError, Problem
from instruct_lab.model.base import Model
from instruct_lab.model.tokenizer import Tokenizer
from instruct_lab.model.weights import GGUF, Loading, Weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@component
class LanguageModel(Model, ABC):
    """What the families share: weights, a tokenizer, and how they are loaded."""

    auto_class: ClassVar[str]
    """The class of transformers that picks the architecture."""

    weights: Weights  # where the weights and their tokenizer come from
    tokenizer: Tokenizer = Field(default_factory=Tokenizer)  # what is changed about the tokenizer
    attention: Literal["sdpa", "eager", "flash_attention_2", "flex_attention"] = "sdpa"  # which implementation
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the weights in memory
    gradient_checkpointing: bool = False  # compute activations twice instead of keeping them: less memory, more time
    allow_pickle: bool = False  # take pickled weights where there are no safetensors: unpickling can run code
    trust_remote_code: bool = False  # run the Python files that come with the weights

    def problems(self) -> Iterator[Problem]:
        """An attention implementation whose package is not installed, and a GGUF file of another family."""
        if self.attention == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
            reason = "needs the package flash_attn, which is not installed"
            yield Problem(key="attention", value=self.attention, reason=reason, suggestion="sdpa")
        if isinstance(self.weights, GGUF) and self.family != "decoder":
            yield Problem(key="weights", value="GGUF", reason="a GGUF file holds a decoder")

    def load_tokenizer(
        self, cache_path: Path, texts: Callable[[], Iterable[str]] | None = None
    ) -> PreTrainedTokenizerBase:
        """The tokenizer alone, its settings applied.

        Raises:
            InstructLabError: it is not there, cannot be brought or read, or `tokenizer.pad_token` cannot be had.
        """
        return self.tokenizer.load(self.weights, cache_path, self.trust_remote_code, self.family, texts)

    def load(
        self, tokenizer: PreTrainedTokenizerBase, cache_path: Path, head: Literal["language", "score"] = "language"
    ) -> PreTrainedModel:
        """The model in evaluation mode, on the CPU.

        Embeddings have a row for every token; rows of new tokens stand at the mean of the old ones. The checkpoint's
        own defaults for generation are left out, but for its special tokens: `generation` says how answers are decoded.

        Args:
            tokenizer: what `load_tokenizer` gave.
            cache_path: folder for what is downloaded or converted.
            head: see `Model.load`.

        Raises:
            InstructLabError: the weights are not there, cannot be brought or read, are pickled, or lack a tensor; or
                this family has no such head.
        """
        from instruct_lab.model._embeddings import fit_embeddings
        from instruct_lab.model._loading import plain_generation_config

        loading = Loading(
            auto_class=self.auto_class if head == "language" else "AutoModelForSequenceClassification",
            dtype=self.dtype,
            attention=self.attention,
            allow_pickle=self.allow_pickle,
            trust_remote_code=self.trust_remote_code,
        )
        if head == "score" and self.family == "encoder-decoder":
            raise InstructLabError(
                "An encoder-decoder gives no score of a whole text",
                where="model",
                do="choose a decoder or an encoder, or another objective",
            )
        model = self.weights.load_model(loading, tokenizer, cache_path)
        model.family = self.family
        model.tokenizer = tokenizer
        model.new_modules = score_modules(model) if head == "score" else []
        model.added_token_ids = fit_embeddings(model, tokenizer)
        model.config.pad_token_id = tokenizer.pad_token_id
        if model.can_generate():
            model.generation_config = plain_generation_config(model, tokenizer)
        if self.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return model.eval()

    def inputs(self, cache_path: Path) -> list[Input]:
        """The files that the weights come from, brought where they are not here yet."""
        return self.weights.inputs(cache_path, self.allow_pickle)


@component
class Decoder(LanguageModel):
    """A causal language model: reads from left to right and predicts the next token."""

    family: ClassVar[str] = "decoder"
    auto_class: ClassVar[str] = "AutoModelForCausalLM"


@component
class EncoderDecoder(LanguageModel):
    """A sequence-to-sequence model (T5, BART, Marian): reads a whole text, then writes another from left to right."""

    family: ClassVar[str] = "encoder-decoder"
    auto_class: ClassVar[str] = "AutoModelForSeq2SeqLM"


@component
class Encoder(LanguageModel):
    """A masked language model (BERT): reads a whole text at once and fills in masked tokens."""

    family: ClassVar[str] = "encoder"
    auto_class: ClassVar[str] = "AutoModelForMaskedLM"


def score_modules(model: PreTrainedModel) -> list[str]:
    """Names of the modules between the pretrained body and the score."""
    body = model.base_model_prefix
    heads = [name for name, module in model.named_children() if name != body and any(True for _ in module.parameters())]
    pooler = getattr(getattr(model, body), "pooler", None)
    return [*heads, "pooler"] if pooler is not None else heads

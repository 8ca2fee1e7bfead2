"""Decoder-only language models."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from instruct_lab.assets import Input
from instruct_lab.config import component
from instruct_lab.errors import Problem
from instruct_lab.model.base import Model
from instruct_lab.model.tokenizer import Tokenizer
from instruct_lab.model.weights import Loading, Weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@component
class Decoder(Model):
    """A causal language model: reads from left to right and predicts the next token."""

    family: ClassVar[str] = "decoder"

    weights: Weights  # where the weights and their tokenizer come from
    tokenizer: Tokenizer = Field(default_factory=Tokenizer)  # what is changed about the tokenizer
    attention: Literal["sdpa", "eager", "flash_attention_2", "flex_attention"] = "sdpa"  # which implementation
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the weights in memory
    allow_pickle: bool = False  # take pickled weights where there are no safetensors: unpickling can run code
    trust_remote_code: bool = False  # run the Python files that come with the weights

    def problems(self) -> Iterator[Problem]:
        """An attention implementation whose package is not installed."""
        if self.attention == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
            reason = "needs the package flash_attn, which is not installed"
            yield Problem(key="attention", value=self.attention, reason=reason, suggestion="sdpa")

    def load_tokenizer(
        self, cache_path: Path, texts: Callable[[], Iterable[str]] | None = None
    ) -> PreTrainedTokenizerBase:
        """The tokenizer alone, its settings applied.

        Raises:
            InstructLabError: it is not there, cannot be brought or read, or `tokenizer.pad_token` cannot be had.
        """
        return self.tokenizer.load(self.weights, cache_path, self.trust_remote_code)

    def load(
        self, tokenizer: PreTrainedTokenizerBase, cache_path: Path, head: Literal["language", "score"] = "language"
    ) -> PreTrainedModel:
        """The model in evaluation mode, on the CPU.

        Embeddings have a row for every token; rows of new tokens stand at the mean of the old ones. The checkpoint's
        own defaults for generation are left out, but for its special tokens: `generation` says how answers are decoded.

        Args:
            tokenizer: what `load_tokenizer` gave.
            cache_path: folder for what is downloaded or converted.

        Raises:
            InstructLabError: the weights are not there, cannot be brought or read, are pickled, or lack a tensor.
        """
        from instruct_lab.model._embeddings import fit_embeddings
        from instruct_lab.model._loading import plain_generation_config

        loading = Loading(
            auto_class="AutoModelForCausalLM",
            dtype=self.dtype,
            attention=self.attention,
            allow_pickle=self.allow_pickle,
            trust_remote_code=self.trust_remote_code,
        )
        model = self.weights.load_model(loading, tokenizer, cache_path)
        model.added_token_ids = fit_embeddings(model, tokenizer)
        model.config.pad_token_id = tokenizer.pad_token_id
        model.generation_config = plain_generation_config(model, tokenizer)
        return model.eval()

    def inputs(self, cache_path: Path) -> list[Input]:
        """The files that the weights come from, brought where they are not here yet."""
        return self.weights.inputs(cache_path, self.allow_pickle)

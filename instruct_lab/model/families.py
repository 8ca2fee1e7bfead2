"""The three families of language models."""

from __future__ import annotations

import dataclasses
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
from instruct_lab.model.loaded import LoadedModel
from instruct_lab.model.quantization import Quantization
from instruct_lab.model.rope_scaling import RopeScaling
from instruct_lab.model.tokenizer import Tokenizer
from instruct_lab.model.trained_tokenizer import training_reason
from instruct_lab.model.weights.base import GGUF, Loading, LocalFolder, Weights

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
    rope_scaling: RopeScaling | None = None  # stretch rotary positions, for longer texts than in pretraining
    quantization: Literal["8bit", "4bit"] | Quantization | None = None  # of frozen weights; by name: default settings
    allow_pickle: bool = False  # take pickled weights where there are no safetensors: unpickling can run code
    trust_remote_code: bool = False  # run the Python files that come with the weights

    @property
    def runs_remote_code(self) -> bool:
        """Whether Python files that come with the weights may run."""
        return self.trust_remote_code

    @property
    def is_quantized(self) -> bool:
        """Whether frozen weights are quantised, so that they cannot train."""
        return self.quantization is not None

    @property
    def tokenizer_reason(self) -> str | None:
        """Why the tokenizer cannot be trained for these weights; none where it can, or is not to be."""
        return training_reason(self)

    def problems(self) -> Iterator[Problem]:
        """What cannot run on this machine, pickled weights in a folder, and a GGUF file of another family."""
        if self.attention in ("flash_attention_2", "flex_attention") and (reason := self._attention_reason()):
            yield Problem(
                key="attention", value=self.attention, reason=reason, suggestion="sdpa", kind="unavailable_here"
            )
        elif self.attention == "flash_attention_2" and self.dtype == "float32":
            reason = "computes in 16 bits alone: set model.dtype=bfloat16"
            yield Problem(key="attention", value=self.attention, reason=reason, suggestion="sdpa")
        quantization = self._quantization()
        if quantization is not None and quantization is not self.quantization:  # a component tells its own
            for problem in quantization.problems():
                yield dataclasses.replace(problem, key="quantization", value=self.quantization)
        if isinstance(self.weights, GGUF) and self.family != "decoder":
            yield Problem(key="weights", value="GGUF", reason="a GGUF file holds a decoder")
        if isinstance(self.weights, LocalFolder) and not any(self.weights.problems()):
            yield from self._weight_problems(self.weights)

    def _weight_problems(self, weights: LocalFolder) -> Iterator[Problem]:
        """No weights in the folder, or pickled ones that are not allowed."""
        from instruct_lab.model.weights._folder import weight_files

        try:
            weight_files(weights.folder, weights.path, self.allow_pickle)
        except InstructLabError as error:
            yield Problem(
                key="weights.path", value=weights.path, reason=f"{error.what[0].lower()}{error.what[1:]}: {error.do}"
            )

    def _attention_reason(self) -> str | None:
        """Why an implementation that is made for GPUs cannot run here."""
        from instruct_lab.model.hardware import no_gpu

        if self.attention == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
            return "needs the package flash_attn, which is not installed"
        if reason := no_gpu():
            return f"trains on a GPU alone, and {reason}"
        return None

    def _quantization(self) -> Quantization | None:
        """The settings that a name stands for."""
        if isinstance(self.quantization, str):
            return Quantization(bits=8 if self.quantization == "8bit" else 4)
        return self.quantization

    def load_tokenizer(
        self, cache_path: Path, texts: Callable[[], Iterable[str]] | None = None
    ) -> PreTrainedTokenizerBase:
        """The tokenizer alone, its settings applied.

        Raises:
            InstructLabError: it is not there, cannot be brought or read, `tokenizer.pad_token` cannot be had, or one
                is to be trained and cannot be.
        """
        reason = training_reason(self)
        if reason:
            raise InstructLabError(reason, where="model.tokenizer", do="choose tokenizer=own, or change what is named")
        return self.tokenizer.load(self.weights, cache_path, self.trust_remote_code, self.family, texts)

    def load(
        self, tokenizer: PreTrainedTokenizerBase, cache_path: Path, head: Literal["language", "score"] = "language"
    ) -> LoadedModel:
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
        from instruct_lab.model.weights._loading import plain_generation_config

        self._check_loadable(head)
        loading = Loading(
            family=self.family,
            auto_class=self.auto_class if head == "language" else "AutoModelForSequenceClassification",
            dtype=self.dtype,
            attention=self.attention,
            allow_pickle=self.allow_pickle,
            trust_remote_code=self.trust_remote_code,
            rope_scaling=self.rope_scaling,
            quantization=self._quantization(),
        )
        model, new_modules = self.weights.load_model(loading, tokenizer, cache_path)
        added_token_ids = fit_embeddings(model, tokenizer)
        model.config.pad_token_id = tokenizer.pad_token_id
        if model.can_generate():
            model.generation_config = plain_generation_config(model, tokenizer)
        if self.gradient_checkpointing:
            self._checkpoint_gradients(model)
        return LoadedModel(
            model=model.eval(),
            tokenizer=tokenizer,
            family=self.family,
            added_token_ids=added_token_ids,
            new_modules=new_modules,
        )

    def _check_loadable(self, head: str) -> None:
        """Refuse what `check` would have told, before anything is brought."""
        if head == "score" and self.family == "encoder-decoder":
            raise InstructLabError(
                "An encoder-decoder gives no score of a whole text",
                where="model",
                do="choose a decoder or an encoder, or another objective",
            )
        own = self.quantization.problems() if isinstance(self.quantization, Quantization) else ()
        for problem in (*self.problems(), *own):
            key = problem.key or "quantization"
            raise InstructLabError(
                f"The model cannot be loaded: {key}: {problem.reason}", where=f"model.{key}", do="change it"
            )

    def _checkpoint_gradients(self, model: PreTrainedModel) -> None:
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        try:
            enable({"use_reentrant": False})  # lets gradients through embeddings that are frozen, too
        except ValueError as error:
            raise InstructLabError(
                f"Models of the class {model.config.model_type} keep all their activations",
                where="model.gradient_checkpointing",
                do="set it to false",
            ) from error

    def inputs(self, cache_path: Path) -> list[Input]:
        """The files that the weights come from, brought where they are not here yet."""
        return self.weights.inputs(cache_path, self.allow_pickle)

    def tokenizer_inputs(self, cache_path: Path) -> list[Input]:
        """See `Model.tokenizer_inputs`."""
        return self.tokenizer.inputs(self.weights, cache_path)


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

"""The base class of models: weights, a tokenizer, and settings for loading them."""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from instruct_lab.assets import Input
from instruct_lab.config import Component, component
from instruct_lab.errors import InstructLabError, Problem
from instruct_lab.memory import ADVICE, does_not_fit
from instruct_lab.model.checkpointing import Checkpointing, checkpoint_gradients
from instruct_lab.model.compiling import compile_obstacle
from instruct_lab.model.facts import ModelFacts
from instruct_lab.model.hardware import has_gpu
from instruct_lab.model.kernels import PACKAGES, Kernels, kernels_obstacle, use_kernels
from instruct_lab.model.loaded import LoadedModel
from instruct_lab.model.quantization import Quantization
from instruct_lab.model.rope_scaling import RopeScaling
from instruct_lab.model.tokenizer import Tokenizer
from instruct_lab.model.weights.base import Loading, Weights, bytes_per_number
from instruct_lab.optional_packages import missing_reason

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@component
class Model(Component, ABC):
    """Base class of decoders, encoder-decoders and encoders: weights, a tokenizer, and settings for loading them."""

    family: ClassVar[str]
    """The name of the family: `decoder`, `encoder-decoder` or `encoder`."""

    auto_class: ClassVar[str]
    """Name of the transformers class that chooses the architecture."""

    fields_about: ClassVar = {"declared_facts": ("weights.repository", "weights.path", "weights.asset")}

    weights: Weights  # source of the weights and their tokenizer
    tokenizer: Tokenizer = Field(default_factory=Tokenizer)  # changes to the tokenizer
    attention: Literal["sdpa", "eager", "flash_attention_2", "flex_attention"] = "sdpa"  # attention implementation
    dtype: Literal["float32", "bfloat16"] = "float32"  # dtype of the weights in memory
    gradient_checkpointing: Checkpointing = "none"  # compute activations again in the backward pass: full, or selective
    compile: bool = False  # compile the layers with torch.compile for training; the first steps take longer
    kernels: Kernels = "none"  # packages with fused GPU kernels: liger, cut_cross_entropy, or all
    rope_scaling: RopeScaling | None = None  # stretch rotary positions for texts longer than in pretraining
    quantization: Literal["8bit", "4bit"] | Quantization | None = None  # quantise frozen weights; null: no quantisation
    allow_pickle: bool = False  # read pickled weights if there are no safetensors; unpickling can run any code
    trust_remote_code: bool = False  # run the Python files that come with the weights
    declared_facts: ModelFacts | None = None  # facts to use until the model is downloaded; see ModelFacts

    def permissions_needed(self) -> Iterator[tuple[str, str]]:
        """Yield each field that needs the user's permission, with the name of the permission.

        Permissions are needed for remote code, and for pickled weights that this project has not examined.
        """
        if self.trust_remote_code:
            yield "trust_remote_code", "remote-code"
        if self.allow_pickle and not self.weights.are_examined:
            yield "allow_pickle", "pickle"

    @property
    def runs_remote_code(self) -> bool:
        """Whether Python files that come with the weights may run."""
        return self.trust_remote_code

    @property
    def is_quantized(self) -> bool:
        """Whether the weights are quantised, so that they cannot be trained."""
        return self.quantization is not None

    @property
    def kernel_packages(self) -> tuple[str, ...]:
        """Import names of the packages with fused kernels that the model uses."""
        return PACKAGES[self.kernels]

    @property
    def tokenizer_reason(self) -> str | None:
        """The reason why the tokenizer does not fit these weights, or `None` if it fits."""
        return self.tokenizer.misfit(self.weights, self.family)

    def facts(self, cache_path: Path) -> ModelFacts:
        """Return facts about the model, such as its width, without downloading anything and without reading weights.

        The facts are read from files on this machine (`config.json`, the header of a GGUF file) or from the settings of
        random weights. If they cannot be read, for example before the download, `declared_facts` is returned. Neither
        torch nor transformers is imported.

        Args:
            cache_path: folder for downloads and conversions.
        """
        unknown = ModelFacts()
        found = self.weights.facts(cache_path)
        return found if found != unknown else self.declared_facts or unknown

    def problems(self) -> Iterator[Problem]:
        """Report settings that do not work on this machine, and weights that do not fit the settings or the memory."""
        if self.attention in ("flash_attention_2", "flex_attention") and (reason := self._attention_reason()):
            yield Problem(
                key="attention", value=self.attention, reason=reason, suggestion="sdpa", kind="unavailable_here"
            )
        elif self.attention == "flash_attention_2" and self.dtype == "float32":
            reason = "computes only in 16 bits: set model.dtype=bfloat16"
            yield Problem(key="attention", value=self.attention, reason=reason, suggestion="sdpa")
        if self.compile and (reason := compile_obstacle()):
            yield Problem(key="compile", value=True, reason=reason, suggestion="false", kind="unavailable_here")
        if reason := kernels_obstacle(self.kernels):
            yield Problem(key="kernels", value=self.kernels, reason=reason, suggestion="none", kind="unavailable_here")
        quantization = self._quantization()
        if quantization is not None and quantization is not self.quantization:  # a component reports its own problems
            for problem in quantization.problems():
                yield dataclasses.replace(problem, key="quantization", value=self.quantization)
        needed = self.weights.least_parameters() * bytes_per_number(self.dtype, quantization)
        is_read_to_gpu = quantization is not None and has_gpu()
        if not is_read_to_gpu and (reason := does_not_fit(needed)) is not None:
            yield Problem(key="weights", reason=f"{reason}: {ADVICE}", kind="unavailable_here")
        yield from self.weights.problems_in_model(self.family, self.allow_pickle)

    def _attention_reason(self) -> str | None:
        """Return the reason why the attention implementation cannot run on this machine, or `None` if it can."""
        from instruct_lab.model.hardware import no_gpu

        if self.attention == "flash_attention_2" and (reason := missing_reason("flash_attn")):
            return reason
        if reason := no_gpu():
            return f"trains only on a GPU, and {reason}"
        return None

    def _quantization(self) -> Quantization | None:
        """Return the settings of the field `quantization`, or `None` if the weights are not quantised.

        A field that is only a name, such as `4bit`, gives the default settings for this number of bits.
        """
        if isinstance(self.quantization, str):
            return Quantization(bits=8 if self.quantization == "8bit" else 4)
        return self.quantization

    def load_tokenizer(
        self, cache_path: Path, texts: Callable[[], Iterable[str]] | None = None
    ) -> PreTrainedTokenizerBase:
        """Load the tokenizer and apply its settings, without reading weights.

        Args:
            cache_path: folder for downloads and conversions.
            texts: function that returns the texts of the run's training data; called only to train a tokenizer.

        Raises:
            InstructLabError: the tokenizer does not exist, cannot be downloaded or read, does not fit the weights, or
                has no token that can be used for padding.
        """
        reason = self.tokenizer_reason
        if reason:
            raise InstructLabError(reason, where="model.tokenizer", do="choose tokenizer=own, or correct the setting")
        return self.tokenizer.load(self.weights, cache_path, self.trust_remote_code, self.family, texts)

    def load(
        self, tokenizer: PreTrainedTokenizerBase, cache_path: Path, head: Literal["language", "score"] = "language"
    ) -> LoadedModel:
        """Load the model in evaluation mode, on the CPU unless its weights are quantised.

        The embeddings have a row for every token; rows of new tokens start at the mean of the other rows. The
        generation config that comes with the weights is reduced to its special tokens, because the config group
        `generation` sets the rest.

        Args:
            tokenizer: the tokenizer that `load_tokenizer` returned.
            cache_path: folder for downloads and conversions.
            head: `language` for logits over the vocabulary; `score` for one number per text, from a new, untrained
                layer.

        Raises:
            InstructLabError: the weights do not exist, cannot be downloaded or read, are pickled although
                `allow_pickle` is false, or lack a tensor of the model; or the family does not support the head, or a
                setting does not work on this machine.
        """
        from instruct_lab.model.embeddings import fit_embeddings
        from instruct_lab.model.generation_defaults import special_tokens_config
        from instruct_lab.model.linear_layers import use_faster_products
        from instruct_lab.model.transformers_library import import_transformers

        self._check_loadable(head)
        import_transformers()
        model, new_modules = self.weights.load_model(self.loading(head), tokenizer, cache_path)
        added_token_ids = fit_embeddings(model, tokenizer)
        model.config.pad_token_id = tokenizer.pad_token_id
        if model.can_generate():
            model.generation_config = special_tokens_config(model, tokenizer)
        use_kernels(model, self.kernels)
        use_faster_products(model)
        checkpoint_gradients(model, self.gradient_checkpointing)
        return LoadedModel(
            model=model.eval(),
            tokenizer=tokenizer,
            family=self.family,
            added_token_ids=added_token_ids,
            new_modules=new_modules,
        )

    def loading(self, head: Literal["language", "score"] = "language") -> Loading:
        """Return the settings with which the weights are loaded.

        Args:
            head: `language` for logits over the vocabulary; `score` for one number per text.
        """
        return Loading(
            family=self.family,
            auto_class=self.auto_class if head == "language" else "AutoModelForSequenceClassification",
            dtype=self.dtype,
            attention=self.attention,
            allow_pickle=self.allow_pickle,
            trust_remote_code=self.trust_remote_code,
            rope_scaling=self.rope_scaling,
            quantization=self._quantization(),
        )

    def _check_loadable(self, head: str) -> None:
        """Refuse an unsupported head and any setting that `problems` reports, before anything is downloaded."""
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

    def inputs(self, cache_path: Path) -> list[Input]:
        """Return the files from which the weights are read, with their hashes.

        Files that are not on this machine are downloaded first.
        """
        return self.weights.inputs(cache_path, self.allow_pickle)

    def tokenizer_inputs(self, cache_path: Path) -> list[Input]:
        """Return the tokenizer's files that lie in the user's own folders, and may therefore change between runs."""
        return self.tokenizer.inputs(self.weights, cache_path)

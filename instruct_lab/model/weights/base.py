"""What a source of weights is."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from instruct_lab.assets import Input
from instruct_lab.config import Component
from instruct_lab.errors import Problem
from instruct_lab.model.facts import ModelFacts
from instruct_lab.model.quantization import Quantization
from instruct_lab.model.rope_scaling import RopeScaling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    ModelAndNewModules = tuple[PreTrainedModel, tuple[str, ...]]
    """A model, and the names of its modules that were not pretrained."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loading:
    """How a model is loaded, whatever its weights come from.

    Args:
        family: the family of the model.
        auto_class: name of the class of transformers that chooses the architecture, such as AutoModelForCausalLM.
        dtype: name of a torch dtype, of the weights in memory.
        attention: name of the attention implementation.
        allow_pickle: whether pickled weights are read if there are no safetensors.
        trust_remote_code: whether Python files that come with the weights are run.
        rope_scaling: how rotary positions are stretched.
        quantization: how frozen weights are quantised.
    """

    family: str
    auto_class: str
    dtype: str = "float32"
    attention: str = "sdpa"
    allow_pickle: bool = False
    trust_remote_code: bool = False
    rope_scaling: RopeScaling | None = None
    quantization: Quantization | None = None

    @property
    def gives_score(self) -> bool:
        """Whether the model outputs one number for a whole text."""
        return self.auto_class == "AutoModelForSequenceClassification"


class Weights(Component, ABC):
    """A source of weights and of the tokenizer that belongs to them.

    Every method that reads raises an `InstructLabError` if the source does not exist, cannot be downloaded or cannot be
    read.
    """

    is_random: ClassVar[bool] = False
    """Whether the weights are drawn at random, so that a tokenizer can be trained for them."""

    @abstractmethod
    def load_tokenizer(self, cache_path: Path, trust_remote_code: bool, family: str) -> PreTrainedTokenizerBase:
        """The tokenizer that belongs to the weights.

        Args:
            cache_path: folder for downloads and conversions.
            trust_remote_code: whether Python files that come with it are run.
            family: the family of the model.
        """

    @abstractmethod
    def load_model(self, loading: Loading, tokenizer: PreTrainedTokenizerBase, cache_path: Path) -> ModelAndNewModules:
        """The model with all of its tensors, and the names of its modules that were not pretrained."""

    @abstractmethod
    def inputs(self, cache_path: Path, allow_pickle: bool) -> list[Input]:
        """The pinned files that the weights come from."""

    def tokenizer_inputs(self, cache_path: Path) -> list[Input]:
        """Local files that the tokenizer is read from, which the user may change between runs."""
        return []

    def facts(self, cache_path: Path) -> ModelFacts:
        """What is known of the model from files that are already on this machine; see `Model.facts`."""
        return ModelFacts()

    def problems_in_model(self, family: str, allow_pickle: bool) -> Iterator[Problem]:
        """Problems that depend on other fields of the model; their keys are relative to the model.

        Args:
            family: the family of the model.
            allow_pickle: whether pickled weights are read.
        """
        yield from ()

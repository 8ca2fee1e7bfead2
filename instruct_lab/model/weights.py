"""Where weights and tokenizers come from."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from instruct_lab.assets import Input, PackageAsset
from instruct_lab.config import Component, component
from instruct_lab.errors import InstructLabError, Problem, Refusal


@component
class Weights(Component, ABC):
    """A source of weights and of the tokenizer that belongs to them."""

    @abstractmethod
    def location(self, cache_path: Path) -> tuple[str, dict[str, Any]]:
        """What `from_pretrained` takes: a folder or a repository, and its further arguments.

        Raises:
            InstructLabError: it is not there, or cannot be brought.
        """

    @abstractmethod
    def inputs(self, cache_path: Path) -> list[Input]:
        """The pinned files that the weights come from."""


@component
class Hub(Weights):
    """A model repository of the Hugging Face Hub, at a revision."""

    repository: str  # owner/name
    revision: str = "main"  # a commit hash pins it; a branch may move
    gguf_file: str | None = None  # a GGUF file of the repository instead of its safetensors

    def location(self, cache_path: Path) -> tuple[str, dict[str, Any]]:
        """The repository and its revision; files go to the Hub library's own cache."""
        arguments: dict[str, Any] = {"revision": self.revision}
        if self.gguf_file is not None:
            arguments["gguf_file"] = self.gguf_file
        return self.repository, arguments

    def inputs(self, cache_path: Path) -> list[Input]:
        """The repository at the commit that was loaded."""
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(self.repository, "config.json", revision=self.revision)
        commit = Path(config).parent.name if isinstance(config, str) else self.revision
        digest = hashlib.sha256(f"{self.repository}@{commit}".encode()).hexdigest()
        return [Input(f"hub:{self.repository}@{commit}", digest, 0)]


@component
class LocalFolder(Weights):
    """A model folder as `save_pretrained` writes it."""

    path: str  # the folder

    def problems(self) -> Iterator[Problem]:
        """The folder and its config are there."""
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            yield Problem(key="path", value=self.path, reason="there is no such folder")
        elif not (folder / "config.json").is_file():
            yield Problem(key="path", value=self.path, reason="the folder holds no config.json, so it is no model")

    def location(self, cache_path: Path) -> tuple[str, dict[str, Any]]:
        """The folder."""
        folder = Path(self.path).expanduser()
        for problem in self.problems():
            raise InstructLabError(problem.reason.capitalize(), where=str(folder), do="correct model.weights.path")
        return str(folder), {}

    def inputs(self, cache_path: Path) -> list[Input]:
        """Every file of weights, and the config."""
        folder = Path(self.path).expanduser()
        files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin"), folder / "config.json"])
        return [file_input(file, f"{folder.name}/{file.name}") for file in files if file.is_file()]


@component
class GGUF(Weights):
    """A GGUF file: its own, or inside a pinned package asset.

    It is de-quantised once into a plain folder in the cache, under the file's SHA-256; later runs load that.
    """

    path: str | None = None  # a file on this machine
    asset: PackageAsset | None = None  # or a file inside a published wheel

    def __post_init__(self) -> None:
        if (self.path is None) == (self.asset is None):
            raise Refusal("path", "give path or asset, one of them")

    def problems(self) -> Iterator[Problem]:
        """A local file is there."""
        if self.path is not None and not Path(self.path).expanduser().is_file():
            yield Problem(key="path", value=self.path, reason="there is no such file")

    def location(self, cache_path: Path) -> tuple[str, dict[str, Any]]:
        """The plain folder that the file was converted to."""
        from instruct_lab.model._gguf import converted

        return str(converted(self.file(cache_path), cache_path)), {}

    def inputs(self, cache_path: Path) -> list[Input]:
        """The GGUF file."""
        file = self.file(cache_path)
        return [self.asset.input(file) if self.asset is not None else file_input(file, file.name)]

    def file(self, cache_path: Path) -> Path:
        """The GGUF file on disk."""
        if self.asset is not None:
            return self.asset.extract(cache_path)
        file = Path(self.path or "").expanduser()
        if not file.is_file():
            raise InstructLabError("There is no such GGUF file", where=str(file), do="correct model.weights.path")
        return file


@component
class Random(Weights):
    """Random weights from a config, with a byte-level tokenizer that needs no download.

    For tests and dry runs: its answers mean nothing. The same seed gives the same weights on every machine.
    """

    architecture: str = "llama"  # a model type of transformers
    settings: dict[str, Any] = Field(default_factory=dict)  # fields of its config, sizes first of all
    seed: Annotated[int, Field(ge=0)] = 0  # of the weights alone

    def location(self, cache_path: Path) -> tuple[str, dict[str, Any]]:
        """Nothing to bring."""
        return "", {}

    def inputs(self, cache_path: Path) -> list[Input]:
        """The settings stand for the weights."""
        text = json.dumps([self.architecture, self.settings, self.seed], sort_keys=True)
        return [Input(f"random:{self.architecture}", hashlib.sha256(text.encode()).hexdigest(), 0)]


def file_input(file: Path, name: str) -> Input:
    """A file's name, SHA-256 and size."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Input(name, digest, file.stat().st_size)

"""The component that loads weights from model repositories of the Hugging Face Hub."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.assets import Input, file_input
from instruct_lab.config import component
from instruct_lab.errors import InstructLabError
from instruct_lab.hub import explain
from instruct_lab.model.facts import ModelFacts, facts_of_folder, read_config
from instruct_lab.model.weights.base import Loading, Origin, Weights
from instruct_lab.model.weights.folder_contents import weight_files
from instruct_lab.model.weights.folder_model import folder_model
from instruct_lab.model.weights.gguf import GGUF
from instruct_lab.model.weights.tokenizers import folder_tokenizer
from instruct_lab.progress import stage
from instruct_lab.progress.downloads import download_bar

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from instruct_lab.model.weights.base import ModelAndNewModules

SETTINGS = ["*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "merges.txt", "vocab.*"]
SAFE = ["*.safetensors"]
PICKLED_ENDINGS = (".bin", ".pt", ".pth")
PICKLED = [f"*{ending}" for ending in PICKLED_ENDINGS]
LEFT_OUT = ["*/*", "consolidated*", "adapter_*", "training_args.bin", "optimizer.*"]
"""Patterns of files that are not downloaded: copies of weights in other formats, adapters, and training states."""


@component
class Hub(Weights):
    """Weights from a model repository of the Hugging Face Hub, kept in the Hub's own cache (`HF_HOME`).

    With `HF_HUB_OFFLINE=1`, nothing is downloaded and only this cache is read.
    """

    fields_about: ClassVar = {"revision": ("repository",), "gguf_file": ("repository",)}

    repository: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")]  # name of the repository: owner/name
    revision: Annotated[str, Field(min_length=1)] = "main"  # commit (40 hex digits: pinned), tag or branch (may move)
    gguf_file: Annotated[str, Field(pattern=r"\.gguf$")] | None = None  # use this file instead of the safetensors

    @property
    def label(self) -> str:
        """A short name of the weights, for messages."""
        return f"{self.repository}{'' if self.gguf_file is None else f'/{self.gguf_file}'}"

    def load_tokenizer(self, cache_path: Path, trust_remote_code: bool, family: str) -> PreTrainedTokenizerBase:
        """Load the repository's tokenizer.

        Weights are not downloaded, unless `gguf_file` is set: this file holds both the weights and the tokenizer.
        """
        if self.gguf_file is not None:
            return self._gguf().load_tokenizer(cache_path, trust_remote_code, family)
        folder = self._download(SETTINGS + (["*.py"] if trust_remote_code else []))
        return folder_tokenizer(folder, self.repository, trust_remote_code)

    def load_model(self, loading: Loading, tokenizer: PreTrainedTokenizerBase, cache_path: Path) -> ModelAndNewModules:
        """Load the repository's model."""
        if self.gguf_file is not None:
            return self._gguf().load_model(loading, tokenizer, cache_path)
        folder = self._model_folder(loading.allow_pickle, loading.trust_remote_code)
        return folder_model(folder, self.repository, loading)

    def inputs(self, cache_path: Path, allow_pickle: bool) -> list[Input]:
        """Return the weight files with their SHA-256; their names include the repository's commit."""
        if self.gguf_file is not None:
            files = [self._gguf_path()]
            commit = files[0].parents[len(Path(self.gguf_file).parts) - 1].name
        else:
            folder = self._model_folder(allow_pickle, trust_remote_code=False)
            files, commit = weight_files(folder, self.repository, allow_pickle), folder.name
        return [_input(file, f"{self.repository}@{commit}/{file.name}") for file in files]

    def origin(self, cache_path: Path) -> Origin | None:
        """Return the repository with its commit; `None` for weights in a GGUF file, which have to be converted."""
        if self.gguf_file is not None:
            return None
        return Origin(self.repository, self._download(["config.json"]).name)

    def facts(self, cache_path: Path) -> ModelFacts:
        """Return facts about the model, such as its width, from the `config.json` or the GGUF file in the Hub's cache.

        All are unknown if the file is not there.
        """
        file = self._cached(self.gguf_file or "config.json")
        if file is None:
            return ModelFacts()
        return facts_of_folder(file.parent) if self.gguf_file is None else GGUF(path=str(file)).facts(cache_path)

    def read_architecture(self, cache_path: Path, family: str, tokenizer: Any = None) -> Mapping[str, Any]:
        """Read the model's configuration from the `config.json`, or from the GGUF file, in the Hub's cache.

        Return an empty mapping if the file is not there.
        """
        file = self._cached(self.gguf_file or "config.json")
        if file is None:
            return {}
        if self.gguf_file is not None:
            return GGUF(path=str(file)).read_architecture(cache_path, family)
        return read_config(file.parent)

    def _cached(self, name: str) -> Path | None:
        """Return the path of one of the repository's files in the Hub's cache; `None` if it is not there."""
        import huggingface_hub

        file = huggingface_hub.try_to_load_from_cache(self.repository, name, revision=self.revision)
        return Path(file) if isinstance(file, str) else None

    def _gguf(self) -> GGUF:
        return GGUF(path=str(self._gguf_path()))

    def _gguf_path(self) -> Path:
        import huggingface_hub

        assert self.gguf_file is not None
        with self._errors(), self._reported() as bar:
            file = huggingface_hub.hf_hub_download(
                self.repository, self.gguf_file, revision=self.revision, tqdm_class=bar
            )
        return Path(file)

    def _model_folder(self, allow_pickle: bool, trust_remote_code: bool) -> Path:
        """Download configuration and weights, and return their folder.

        Pickled weights are downloaded only if they are allowed and the repository has no safetensors.
        """
        patterns = SETTINGS + SAFE + (["*.py"] if trust_remote_code else [])
        folder = self._download(patterns)
        if allow_pickle and not any(folder.glob("*.safetensors")):
            folder = self._download(patterns + PICKLED)
        elif not any(folder.glob("*.safetensors")):
            self._refuse_pickled()
        return folder

    def _download(self, patterns: list[str]) -> Path:
        """Download the repository's files that match the patterns; return their folder, whose name is the commit."""
        import huggingface_hub

        with self._errors(), self._reported() as bar:
            folder: str = huggingface_hub.snapshot_download(
                self.repository,
                revision=self.revision,
                allow_patterns=patterns,
                ignore_patterns=LEFT_OUT,
                tqdm_class=bar,
            )
        return Path(folder)

    def _refuse_pickled(self) -> None:
        """Raise an error if the repository has pickled weights; do nothing if the Hub cannot be reached."""
        import huggingface_hub

        try:
            names = huggingface_hub.list_repo_files(self.repository, revision=self.revision)
        except (OSError, ValueError):
            return
        pickled = [name for name in names if name.endswith(PICKLED_ENDINGS) and "/" not in name]
        if pickled:
            raise InstructLabError(
                f"The weights are pickled ({pickled[0]}), and unpickling can run any code",
                where=self._where,
                do="choose a repository with safetensors; or, if you trust its makers, set model.allow_pickle=true",
            )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn any error inside the block into an `InstructLabError` that explains what to do."""
        try:
            yield
        except Exception as error:
            what, do = explain(error, "model")
            raise InstructLabError(what, where=self._where, do=do) from error

    @contextlib.contextmanager
    def _reported(self) -> Iterator[Any]:
        """Show the progress of a download; yield the progress-bar class to pass to the Hub's library."""
        with stage(f"downloading {self.repository}", unit="MB") as report:
            yield download_bar(report)

    @property
    def _where(self) -> str:
        return f"{self.repository}, revision {self.revision}"


def _input(file: Path, name: str) -> Input:
    """Return a file of the Hub's cache as an input of the run, with its SHA-256.

    The cache stores large files under their SHA-256, which then need not be computed.
    """
    blob = file.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return Input(name, blob.name, blob.stat().st_size)
    return file_input(file, name)

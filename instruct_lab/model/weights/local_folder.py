"""The component that loads weights from a model folder on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from instruct_lab.assets import Input, file_input
from instruct_lab.config import component
from instruct_lab.errors import InstructLabError, Problem
from instruct_lab.files import user_path
from instruct_lab.model.facts import ModelFacts, facts_of_folder, lacks_chat_template, least_parameters, read_config
from instruct_lab.model.weights.base import Loading, Origin, Weights
from instruct_lab.model.weights.folder_contents import TEXTS, weight_files
from instruct_lab.model.weights.folder_model import folder_model
from instruct_lab.model.weights.tokenizers import folder_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from instruct_lab.model.weights.base import ModelAndNewModules


@component
class LocalFolder(Weights):
    """Weights from a folder that `save_pretrained`, `instruct-lab export` or a download from the Hub wrote."""

    path: Annotated[str, Field(min_length=1)]  # path of the folder

    @property
    def label(self) -> str:
        """A short name of the weights, for messages."""
        return self.path

    @property
    def folder(self) -> Path:
        """The path of the folder, with `~` expanded."""
        return user_path(self.path)

    def origin(self, cache_path: Path) -> Origin | None:
        """Return the folder, by its absolute path, from which transformers can load the same weights later."""
        return Origin(str(self.folder.resolve()))

    def problems(self) -> Iterator[Problem]:
        """Report a folder that does not exist, or contains no model."""
        if not self.folder.is_dir():
            reason = "is a file, and a folder is needed" if self.folder.exists() else "there is no such folder"
            yield Problem(key="path", value=self.path, reason=reason)
        elif not (self.folder / "config.json").is_file():
            is_adapter = (self.folder / "adapter_config.json").is_file()
            reason = (
                "holds only an adapter: name its base model, or a merged export" if is_adapter else "has no config.json"
            )
            yield Problem(key="path", value=self.path, reason=reason)

    def problems_in_model(self, family: str, allow_pickle: bool) -> Iterator[Problem]:
        """Report a folder without weights, or with pickled weights that are not allowed."""
        if any(self.problems()):
            return
        try:
            weight_files(self.folder, self.path, allow_pickle)
        except InstructLabError as error:
            reason = f"{error.what[0].lower()}{error.what[1:]}: {error.do}"
            yield Problem(key="weights.path", value=self.path, reason=reason, kind="unavailable_here")

    def load_tokenizer(self, cache_path: Path, trust_remote_code: bool, family: str) -> PreTrainedTokenizerBase:
        """Load the tokenizer in the folder."""
        if not self.folder.is_dir():
            self._check()
        return folder_tokenizer(self.folder, self.path, trust_remote_code)

    def load_model(self, loading: Loading, tokenizer: PreTrainedTokenizerBase, cache_path: Path) -> ModelAndNewModules:
        """Load the model in the folder."""
        self._check()
        return folder_model(self.folder, self.path, loading)

    def inputs(self, cache_path: Path, allow_pickle: bool) -> list[Input]:
        """Return the folder's config and weight files, with their SHA-256."""
        self._check()
        files = [self.folder / "config.json", *weight_files(self.folder, self.path, allow_pickle)]
        return [file_input(file, f"{self.folder.name}/{file.name}") for file in files]

    def tokenizer_inputs(self, cache_path: Path) -> list[Input]:
        """Return the folder's text files: configs, tokenizer files and chat templates."""
        files = sorted(file for pattern in TEXTS for file in self.folder.glob(pattern) if file.is_file())
        return [file_input(file, f"{self.folder.name}/{file.name}") for file in files]

    def least_parameters(self) -> int:
        """Compute a lower bound of the number of parameters from the folder's `config.json`."""
        return least_parameters(read_config(self.folder))

    def facts(self, cache_path: Path) -> ModelFacts:
        """Return facts about the model, such as its width, from the folder's `config.json`."""
        return facts_of_folder(self.folder)

    def read_architecture(self, cache_path: Path, family: str, tokenizer: Any = None) -> Mapping[str, Any]:
        """Read the folder's `config.json`."""
        return read_config(self.folder)

    def lacks_chat_template(self) -> bool:
        """Whether the folder has a tokenizer without a chat template."""
        return lacks_chat_template(self.folder)

    def _check(self) -> None:
        for problem in self.problems():
            what = f"The model cannot be loaded: {problem.reason}"
            raise InstructLabError(what, where=self.path, do="correct the path")

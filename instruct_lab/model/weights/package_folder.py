"""The component that loads weights from a model folder inside a published Python wheel."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from instruct_lab.assets import Input, PackageAsset, file_input
from instruct_lab.config import Regex, component
from instruct_lab.errors import InstructLabError, Refusal, wrap_errors
from instruct_lab.model.byte_tokenizer import ENCODER_TOKENS
from instruct_lab.model.facts import ModelFacts, facts_of_folder, read_config
from instruct_lab.model.weights.base import Loading, Weights
from instruct_lab.model.weights.folder_contents import weight_files
from instruct_lab.model.weights.folder_model import folder_model
from instruct_lab.model.weights.kept_folders import make_once
from instruct_lab.model.weights.tokenizers import folder_tokenizer, rename_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from instruct_lab.model.weights.base import ModelAndNewModules

LEFT_OUT = ("training_args.bin",)
"""Names of files in the model folder that are not unpacked."""

EXAMINED = {"27876a4286881aafd286fd6f24a6a56a4ca6ba22d68e035a0ea120106c541ba5": "rxnmapper 0.4.3"}
"""Names of the wheels whose pickled weights this project has examined, keyed by the wheel's SHA-256."""


@component
class PackageFolder(Weights):
    """Weights from a folder inside a published Python wheel. The wheel is downloaded and verified, but never installed.

    The folder is unpacked once into the cache. Normally, transformers loads the folder's tokenizer. If this would need
    tokenizer code from the package, set `token_pattern`: the tokenizer is then built from `vocab.txt`, and no such code
    is run.
    """

    asset: PackageAsset  # the wheel; asset.path stays null
    folder: Annotated[str, Field(min_length=1)]  # path of the folder inside the wheel
    token_pattern: Regex | None = None  # regular expression of one token in a text; null: the folder's own tokenizer

    def __post_init__(self) -> None:
        """Refuse an `asset` with a `path` (one file of the wheel), and a `folder` that is no path inside the wheel."""
        if self.asset.path is not None:
            raise Refusal("asset", "names a file; name the folder instead, and leave asset.path out")
        parts = PurePosixPath(self.folder).parts
        if not parts or parts[0] == "/" or ".." in parts or "\\" in self.folder:
            raise Refusal("folder", "must be a folder's path inside the wheel, such as package/models/one")

    @property
    def name(self) -> str:
        """The model's name in the records of runs."""
        return f"{self.asset.name}/{self.folder.strip('/')}"

    @property
    def are_examined(self) -> bool:
        """Whether this project has examined the wheel's pickled weights; `EXAMINED` lists the wheels."""
        return self.asset.sha256 in EXAMINED

    @property
    def label(self) -> str:
        """A short name of the weights, for messages."""
        return self.folder.strip("/").rpartition("/")[2]

    def load_tokenizer(self, cache_path: Path, trust_remote_code: bool, family: str) -> PreTrainedTokenizerBase:
        """Load the tokenizer in the folder, or build it from `vocab.txt` and `token_pattern`."""
        folder = self.unpack(cache_path)
        if self.token_pattern is None:
            return folder_tokenizer(folder, self.name, trust_remote_code)
        return pattern_tokenizer(folder / "vocab.txt", self.token_pattern, self.name)

    def load_model(self, loading: Loading, tokenizer: PreTrainedTokenizerBase, cache_path: Path) -> ModelAndNewModules:
        """Load the model in the folder."""
        return folder_model(self.unpack(cache_path), self.name, loading)

    def inputs(self, cache_path: Path, allow_pickle: bool) -> list[Input]:
        """Return the folder's config and weight files, with their SHA-256."""
        folder = self.unpack(cache_path)
        files = [folder / "config.json", *weight_files(folder, self.name, allow_pickle)]
        return [file_input(file, f"{self.name}/{file.name}") for file in files]

    def facts(self, cache_path: Path) -> ModelFacts:
        """Return facts about the model, such as its width, from the folder's `config.json`.

        All are unknown until the folder is unpacked.
        """
        return facts_of_folder(self._unpacked_path(cache_path))

    def read_architecture(self, cache_path: Path, family: str, tokenizer: Any = None) -> Mapping[str, Any]:
        """Read the folder's `config.json`; return an empty mapping if the folder has not been unpacked yet."""
        return read_config(self._unpacked_path(cache_path))

    def unpack(self, cache_path: Path) -> Path:
        """Unpack the folder into the cache, unless it is already there, and return its path.

        Raises:
            InstructLabError: the wheel cannot be downloaded or has another SHA-256, it has no such folder, or the
                folder cannot be written.
        """
        folder = self._unpacked_path(cache_path)
        with wrap_errors(
            OSError,
            what="The model cannot be unpacked",
            where=str(folder),
            do="free some space, correct the folder's permissions, or choose another cache_path",
        ):
            return make_once(folder, lambda target: self._extract(self.asset.fetch(cache_path), target))

    def _unpacked_path(self, cache_path: Path) -> Path:
        folder_hash = hashlib.sha256(self.folder.strip("/").encode()).hexdigest()[:16]
        return cache_path / "models" / f"{self.asset.sha256}-{folder_hash}"

    def _extract(self, wheel: Path, target: Path) -> None:
        prefix = f"{self.folder.strip('/')}/"
        try:
            with zipfile.ZipFile(wheel) as archive:
                names = [name for name in archive.namelist() if name.startswith(prefix) and not name.endswith("/")]
                if f"{prefix}config.json" not in names:
                    raise InstructLabError(
                        f"The wheel has no model folder {self.folder}", where=self.asset.name, do="correct the path"
                    )
                for name in names:
                    inner = name.removeprefix(prefix)
                    if "/" not in inner and inner not in LEFT_OUT:
                        (target / inner).write_bytes(archive.read(name))
        except zipfile.BadZipFile as error:
            raise InstructLabError(f"The wheel is not a readable archive ({error})", where=str(wheel)) from error


def pattern_tokenizer(vocabulary: Path, pattern: str, name: str) -> Any:
    """Build a tokenizer that splits text by a regular expression and adds BERT's special tokens around the text.

    Text outside the matches of the pattern is split off; any string that is not in the vocabulary becomes the unknown
    token.

    Args:
        vocabulary: path of a file with one token in each line.
        pattern: the regular expression of a token.
        name: name of the model in error messages.

    Raises:
        InstructLabError: there is no vocabulary file, or it lacks one of BERT's special tokens.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    if not vocabulary.is_file():
        raise InstructLabError(f"The model's folder has no {vocabulary.name}", where=name, do="leave token_pattern out")
    lines = vocabulary.read_text(encoding="utf-8").splitlines()
    ids = {line: number for number, line in enumerate(lines)}
    lacking = [token for token in ENCODER_TOKENS if token not in ids]
    if lacking:
        raise InstructLabError(f"The vocabulary has no token {lacking[0]}", where=name, do="leave token_pattern out")
    backend = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    backend.decoder = decoders.Fuse()
    around = [(token, ids[token]) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), ENCODER_TOKENS, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **names)
    return rename_tokenizer(tokenizer, name)

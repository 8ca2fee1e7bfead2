"""Config options for models that are given by a reference: `model=path:FOLDER` or `model=hub:OWNER/NAME`.

The family is recognised from the model's `config.json`. For a model on the Hub, a branch or tag is resolved to a
commit.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instruct_lab.config.references import Reference, ReferencedOption, known_option
from instruct_lab.errors import InstructLabError, one_line
from instruct_lab.files import read_regular, user_path
from instruct_lab.hub import HubUnreachable
from instruct_lab.model.facts import lacks_chat_template
from instruct_lab.model.family import CLASSES, family_of_settings
from instruct_lab.model.weights.hub_config import find_hub_model, parse_name

PACKAGE = "instruct_lab.model"
MAX_FLOAT32_BYTES = 1_000_000_000
"""If 16-bit weights take more bytes than this, they stay in 16 bits, since float32 would double their size."""
DTYPES = ("bfloat16", "float16")
ADVICE = {
    "encoder": "encoders go with template=contents objective=masked metrics=masked",
    "encoder-decoder": "encoder-decoders without a chat template go with template=contents",
}


@dataclasses.dataclass(frozen=True)
class ReferencedWeights:
    """The weights that a reference such as `hub:OWNER/NAME` names.

    Args:
        weights: the config of the component that loads the weights.
        settings: the content of the model's `config.json`.
        num_bytes: the size of the weights; `None` if it is unknown.
        notes: sentences for the user about the revision and the weights.
    """

    weights: dict[str, Any]
    settings: Mapping[str, Any]
    num_bytes: int | None = None
    notes: tuple[str, ...] = ()


def describe_option(reference: Reference) -> ReferencedOption:
    """Examine the model that a reference names, and return an option of the config group `model` that loads it.

    Raises:
        InstructLabError: there is no such model, its family cannot be recognised, or the Hub cannot be reached.
    """
    if reference.scheme == "path" and reference.name.casefold().endswith(".gguf"):
        weights = {"_target_": f"{PACKAGE}.GGUF", "path": reference.name}
        return ReferencedOption(
            {"_target_": f"{PACKAGE}.Decoder", "weights": weights}, ("a decoder, from a GGUF file",)
        )
    try:
        found = _folder(reference.name) if reference.scheme == "path" else _repository(reference.name)
    except HubUnreachable:
        known = known_option("model", *parse_name(reference.name))
        if known is None:
            raise
        return known
    family = family_of_settings(found.settings, reference.name)
    config = {"_target_": f"{PACKAGE}.{CLASSES[family]}", "weights": found.weights}
    notes = [_describe(family, found)]
    stored = found.settings.get("dtype", found.settings.get("torch_dtype"))
    if stored in DTYPES and (found.num_bytes or 0) > MAX_FLOAT32_BYTES:
        config["dtype"] = "bfloat16"
        notes.append("the weights stay in 16 bits (model.dtype=float32 for tuning=full)")
    if reference.scheme == "path" and family == "decoder" and lacks_chat_template(user_path(reference.name)):
        notes.append("it has no chat template")
    notes += [*found.notes, *([ADVICE[family]] if family in ADVICE else [])]
    return ReferencedOption(config, ("; ".join(notes),))


def _describe(family: str, found: ReferencedWeights) -> str:
    article = "a" if family == "decoder" else "an"
    architectures = found.settings.get("architectures") or [found.settings.get("model_type", "unknown")]
    named = ", ".join(map(str, architectures)) if isinstance(architectures, list) else str(architectures)
    size = "" if found.num_bytes is None else f", {_format_size(found.num_bytes)} of weights"
    return f"{article} {family} ({named}{size})"


def _format_size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2g} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.2g} MB"


def _folder(name: str) -> ReferencedWeights:
    folder = user_path(name)
    if not folder.is_dir():
        reason = (
            "This is a file, and a model is a folder or a GGUF file" if folder.exists() else "There is no such folder"
        )
        raise InstructLabError(reason, where=name, do="correct the path")
    if not (folder / "config.json").is_file():
        raise _not_a_model(name, folder)
    num_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    weights = {"_target_": f"{PACKAGE}.LocalFolder", "path": name}
    return ReferencedWeights(weights, read_settings(folder / "config.json", name), num_bytes or None)


def _not_a_model(name: str, folder: Path) -> InstructLabError:
    """Return the error for a folder that is not a model; the error says what the folder is instead."""
    if (folder / "adapter_config.json").is_file():
        base = read_settings(folder / "adapter_config.json", name).get("base_model_name_or_path", "its base model")
        do = f"name its base model ({base}), or merge the adapter into the model and save it with `save_pretrained`"
        return InstructLabError("The folder holds only an adapter", where=name, do=do)
    gguf = sorted(file.name for file in folder.glob("*.gguf"))
    if gguf:
        do = f"name the file: model=path:{Path(name) / gguf[0]}"
        return InstructLabError("The folder has GGUF files and no config.json", where=name, do=do)
    inside = sorted(file.parent.name for file in folder.glob("*/config.json"))
    do = f"did you mean path:{Path(name) / inside[0]}?" if inside else "name the folder that `save_pretrained` wrote"
    return InstructLabError("The folder has no config.json, so it is not a model", where=name, do=do)


def read_settings(file: Path, name: str) -> dict[str, Any]:
    """Read a JSON file of settings.

    Args:
        file: the JSON file, such as a model's `config.json`.
        name: the name of the model in error messages.

    Raises:
        InstructLabError: the file cannot be read, or is not a JSON object.
    """
    try:
        settings = json.loads(read_regular(file))
    except (InstructLabError, OSError, ValueError, RecursionError) as error:
        what = f"Its {file.name} cannot be read ({one_line(error)})"
        raise InstructLabError(what, where=name, do="copy or download the model again") from error
    if not isinstance(settings, dict):
        raise InstructLabError(f"Its {file.name} is not a JSON object", where=name, do="choose another model")
    return settings


def _repository(name: str) -> ReferencedWeights:
    found = find_hub_model(name)
    weights = {"_target_": f"{PACKAGE}.Hub", "repository": found.repository, "revision": found.commit}
    return ReferencedWeights(weights, read_settings(found.config, name), found.num_bytes, found.notes)

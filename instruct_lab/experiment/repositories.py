"""Find the overrides that load a model from the Hugging Face Hub or from a folder."""

from __future__ import annotations

import re

from instruct_lab.config.options import options
from instruct_lab.config.quoting import to_hydra
from instruct_lab.files import user_path

REPOSITORY = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
PINNED = re.compile(r"^ *repository: *(\S+)", re.MULTILINE)
FAMILIES = {"hub_encoder": "an encoder", "hub_encoder_decoder": "an encoder-decoder"}
"""Options that load a repository with a model of another family than a decoder, with the family's name."""


def model_overrides(name: str) -> list[str] | None:
    """Return the overrides that load a model, given its repository or folder; `None` if the name is neither.

    If the file of an option names the repository, the override chooses this option.

    Args:
        name: name of the repository, such as `gpt2` or `owner/name`, or path of the folder or GGUF file.
    """
    path = user_path(name)
    if name.startswith(("/", ".", "~")) or path.is_dir():
        return [f"{'model=local_gguf' if path.suffix == '.gguf' else 'model=local_folder'}", _weights("path", name)]
    if path.suffix == ".gguf":
        return ["model=local_gguf", _weights("path", name)]
    if not REPOSITORY.fullmatch(name):
        return None
    option = option_of_repository("model", name)
    return [f"model={option}"] if option else ["model=hub", _weights("repository", name)]


def _weights(field: str, value: str) -> str:
    return f"model.weights.{field}={to_hydra(value)}"


def option_of_repository(group: str, name: str) -> str | None:
    """Return the name of the option whose file names a repository; `None` if the group has no such option."""
    wanted = name.casefold()
    for option in options(group):
        found = PINNED.findall(option.path.read_text(encoding="utf-8", errors="replace"))
        if wanted in (repository.casefold() for repository in found):
            return option.name
    return None

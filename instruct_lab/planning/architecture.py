"""Find the architecture of a model, which its `config.json` describes, without loading its weights."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from instruct_lab.errors import InstructLabError
from instruct_lab.model import Model
from instruct_lab.model.weights import Hub

DESCRIPTIONS = Path(__file__).parent / "models.yaml"


@functools.cache
def descriptions() -> dict[str, dict[str, Any]]:
    """Return the `config.json` fields of the models in `models.yaml`, keyed by the label of the weights.

    The label is, for example, the repository's name on the Hub, or the file name of a GGUF file.
    """
    found: dict[str, dict[str, Any]] = yaml.safe_load(DESCRIPTIONS.read_text(encoding="utf-8"))
    return found


def architecture(model: Model, cache_path: Path, tokenizer: Any = None) -> Mapping[str, Any]:
    """Return the fields of a model's `config.json`.

    They are read from files on this machine. If there are no such files, the fields in this package's `models.yaml` are
    used. If this file does not list the model, its `config.json` is downloaded from the Hub, without any weights.

    Args:
        model: the model of the run.
        cache_path: folder for downloads and conversions.
        tokenizer: the run's tokenizer, which determines the vocabulary size of a model with random weights; `None`:
            the model's own tokenizer.

    Raises:
        InstructLabError: the architecture is not known on this machine, and cannot be downloaded.
    """
    weights = model.weights
    found = weights.read_architecture(cache_path, model.family, tokenizer) or descriptions().get(weights.label)
    if found:
        return found
    if isinstance(weights, Hub) and weights.gguf_file is None:
        from instruct_lab.model.facts import read_config
        from instruct_lab.model.weights.hub_config import find_hub_model

        try:
            return read_config(find_hub_model(f"{weights.repository}@{weights.revision}").config.parent)
        except InstructLabError as error:
            raise InstructLabError(
                f"A plan needs the model's config.json, which is not on this machine: {error.what}",
                where=f"model {weights.label}",
                do=f"{error.do}; or write its config.json into a folder, and plan with model=local_folder "
                "model.weights.path=DIR",
            ) from error
    raise InstructLabError(
        "A plan needs the architecture of the model, which is not known before its weights are on this machine",
        where=f"model {weights.label}",
        do="write its config.json into a folder, and plan with model=local_folder model.weights.path=DIR",
    )

"""Write an adapter that PEFT can load, and a tokenizer whose end-of-sequence token is the one that ends answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from instruct_lab.experiment import Experiment
from instruct_lab.model.weights.base import Origin
from instruct_lab.training.workspace import TunedModel, Workspace

BASE_FOLDER = "base_model"
"""Subfolder of the export for the base model, which is written only if it cannot be loaded from elsewhere."""
CONFIG = "adapter_config.json"


def write_adapter(experiment: Experiment, tuned: TunedModel, generation: Any, folder: Path, final: Path) -> Origin:
    """Write the adapter, and state in its config the repository or folder from which its base model can be loaded.

    A base model that cannot be loaded in this way, such as one with random weights or changed RoPE scaling, is written
    to a subfolder.

    Args:
        experiment: the run's configuration.
        tuned: the tuned model, with its adapter unmerged.
        generation: the generation config of transformers to write; `None` for a model that generates nothing.
        folder: the folder to write to.
        final: the path that `folder` will have after the export, when it is renamed.

    Returns:
        Where the base model can be loaded from: its repository, its folder, or the subfolder to which it was written.
    """
    experiment.tuning.save(tuned.loaded, folder)
    workspace = Workspace(experiment)
    scaled = experiment.model.rope_scaling is not None
    origin = None if scaled else experiment.model.weights.origin(workspace.cache_path)
    if origin is None:
        origin = Origin(str(final.resolve() / BASE_FOLDER), is_exported=True)
        base = workspace.base().loaded
        if generation is not None:
            base.model.generation_config = generation
        base.model.save_pretrained(folder / BASE_FOLDER)
        base.tokenizer.save_pretrained(folder / BASE_FOLDER)
    if generation is not None:
        generation.save_pretrained(folder)
    file = folder / CONFIG
    config = json.loads(file.read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": origin.name, "revision": origin.revision}
    file.write_text(json.dumps(config, indent=2), encoding="utf-8")
    return origin


def end_with(tokenizer: Any, token_id: int) -> None:
    """Set the tokenizer's end-of-sequence token, at which programs that load an adapter end an answer.

    The current token is kept if the chat template refers to it or if the tokenizer puts it into the texts it encodes.

    Args:
        tokenizer: the tokenizer, which is changed.
        token_id: id of the new token.
    """
    used_by_template = "eos_token" in str(tokenizer.chat_template or "")
    used_by_encoding = tokenizer.eos_token_id in tokenizer("a")["input_ids"]
    if not used_by_template and not used_by_encoding:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(token_id)

"""Writing of a recorded run's model as a plain Hugging Face folder."""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

from instruct_lab import secrets
from instruct_lab.config.environment_values import texts_of
from instruct_lab.errors import InstructLabError, wrap_errors
from instruct_lab.experiment import Experiment
from instruct_lab.export.adapter import end_with, write_adapter
from instruct_lab.export.model_card import model_card
from instruct_lab.export.usage import usage
from instruct_lab.records import RunRecord
from instruct_lab.training.quiet import quiet_libraries
from instruct_lab.training.workspace import TunedModel, Workspace

CONFIG = "instruct_lab_config.json"


def export(
    experiment: Experiment,
    config: dict[str, Any],
    record: RunRecord,
    path: Path,
    *,
    keep_adapter: bool = False,
    checkpoint: str | None = None,
) -> Path:
    """Write the tuned model, its tokenizer and a model card to a new folder; after a failure, nothing is left behind.

    Args:
        experiment: the run's configuration.
        config: the configuration as plain containers.
        record: the run.
        path: the new folder.
        keep_adapter: whether to write the adapter instead of merging it into the model.
        checkpoint: `best` or `last`; `None` means the weights with which the run was evaluated.

    Raises:
        InstructLabError: the folder is not empty or cannot be written, or the run has no such weights.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InstructLabError("The export folder is not empty", where=str(path), do="name a new folder")
    if not experiment.tuning.trains:
        raise InstructLabError(
            f"{type(experiment.tuning).__name__} trains nothing, so there is no tuned model to export",
            do="use the base model that the run names",
        )
    keep_adapter = keep_adapter or not experiment.tuning.mergeable
    if keep_adapter and not experiment.tuning.is_adapter:
        raise InstructLabError(
            f"{type(experiment.tuning).__name__} has no adapter to keep: it trained the model's own weights",
            do="leave out --keep-adapter",
        )
    quiet_libraries()
    tuned = Workspace(experiment).tuned(record.path, checkpoint, merged=not keep_adapter)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    do = "free disk space, or name another folder"
    try:
        with wrap_errors(OSError, what="The model cannot be written", where=str(path), do=do):
            _write(experiment, config, record, tuned, partial, keep_adapter, final=path)
            if path.exists():
                path.rmdir()
            partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def _write(
    experiment: Experiment,
    config: dict[str, Any],
    record: RunRecord,
    tuned: TunedModel,
    path: Path,
    keep_adapter: bool,
    final: Path,
) -> None:
    path.mkdir(parents=True)
    tokenizer, model = tuned.loaded.tokenizer, tuned.loaded.model
    template = experiment.template.as_jinja(tokenizer)
    if template is not None:
        tokenizer.chat_template = template
    generation = None if experiment.cannot_answer else _generation_config(experiment, tuned)
    base = None
    if keep_adapter:
        base = write_adapter(experiment, tuned, generation, path, final)
        if generation is not None:
            end_with(tokenizer, generation.eos_token_id[0])
    else:
        if generation is not None:
            model.generation_config = generation
        model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    stops = [] if generation is None else tokenizer.convert_ids_to_tokens(generation.eos_token_id)
    config = texts_of(config)
    use = usage(experiment, stops, base, tuned.loaded)
    card = model_card(config, record, tuned.weights.step, keep_adapter, use)
    for name, text in {CONFIG: json.dumps(config, indent=2, default=str), "README.md": card}.items():
        (path / name).write_text(secrets.hide(text), encoding="utf-8")


def _generation_config(experiment: Experiment, tuned: TunedModel) -> Any:
    """Return the generation config of the tuned model: the tokens that end its answers, and the length limit."""
    tokenizer = tuned.loaded.tokenizer
    config = copy.deepcopy(tuned.loaded.model.generation_config)
    config.eos_token_id = experiment.template.stop_token_ids(tokenizer)
    config.pad_token_id, config.bos_token_id = tokenizer.pad_token_id, tokenizer.bos_token_id
    config.max_new_tokens = experiment.generation.max_new_tokens
    return config

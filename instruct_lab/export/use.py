"""Use what a run gave: answer prompts with it, write it as a plain Hugging Face folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.errors import InstructLabError
from instruct_lab.evaluation.measure import answers
from instruct_lab.experiment import Experiment
from instruct_lab.export.model_card import model_card
from instruct_lab.records import RunRecord
from instruct_lab.training.datamodule import InstructionData
from instruct_lab.training.quiet import quiet_libraries
from instruct_lab.training.tuned import TunedModel, load_adapted, load_base, load_tuned


def _device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def generate(
    experiment: Experiment,
    record: RunRecord,
    prompts: Sequence[str],
    *,
    system: str | None = None,
    weights: str | None = None,
) -> list[str]:
    """Answers to single-turn prompts, decoded as the run's own predictions were.

    Args:
        experiment: the run's configuration.
        record: the run.
        prompts: user messages, one conversation each.
        system: a system message before each.
        weights: `best`, `last`, `base` (the untuned model), or none for those the run was measured by.
    """
    if reason := experiment.cannot_answer:
        raise InstructLabError(f"This run's model answers no prompts: {reason}", do="choose another run")
    quiet_libraries()
    cache_path = Path(experiment.cache_path).expanduser()
    if weights == "base":
        loaded = load_base(experiment, cache_path, _device())
    else:
        loaded = load_tuned(experiment, record.path, cache_path, weights, _device())
    opening = (Message("system", system),) if system else ()
    conversations = [Conversation(messages=(*opening, Message("user", prompt))) for prompt in prompts]
    import pytorch_lightning as pl

    pl.seed_everything(experiment.seed, verbose=False)
    if weights != "base" and not experiment.tuning.trains:
        data = InstructionData(experiment, loaded.tokenizer, cache_path, Audit())
        conversations = experiment.tuning.prompts(conversations, data.conversations["train"])
    return answers(experiment, loaded.model, loaded.tokenizer, conversations)


def export(
    experiment: Experiment,
    config: dict[str, Any],
    record: RunRecord,
    path: Path,
    *,
    keep_adapter: bool = False,
    checkpoint: str | None = None,
) -> Path:
    """Write the tuned model, its tokenizer and a model card to a new folder; all of it or nothing.

    Raises:
        InstructLabError: the folder exists and is not empty, the run has no weights, or the disk refuses.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InstructLabError("The export folder is not empty", where=str(path), do="name a new folder")
    if not experiment.tuning.trains:
        raise InstructLabError(
            f"{type(experiment.tuning).__name__} trains nothing, so there is no tuned model to export",
            do="take the model that the run names",
        )
    keep_adapter = keep_adapter or not experiment.tuning.mergeable
    if keep_adapter and not experiment.tuning.is_adapter:
        raise InstructLabError(
            f"{type(experiment.tuning).__name__} has no adapter to keep: it trained the model's own weights",
            do="leave --keep-adapter out",
        )
    quiet_libraries()
    cache_path = Path(experiment.cache_path).expanduser()
    load = load_adapted if keep_adapter else load_tuned
    loaded = load(experiment, record.path, cache_path, checkpoint)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        _write(experiment, config, record, loaded, partial, keep_adapter)
        if path.exists():
            path.rmdir()
        partial.rename(path)
    except OSError as error:
        raise InstructLabError(
            f"The model cannot be written: {error}", where=str(path), do="free disk space, or name another folder"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def _write(
    experiment: Experiment,
    config: dict[str, Any],
    record: RunRecord,
    loaded: TunedModel,
    path: Path,
    keep_adapter: bool,
) -> None:
    from transformers import GenerationConfig

    path.mkdir(parents=True)
    tokenizer, model = loaded.tokenizer, loaded.model
    template = experiment.template.as_jinja(tokenizer)
    if template is not None:
        tokenizer.chat_template = template
    if keep_adapter:
        experiment.tuning.save(loaded.loaded, path)
    else:
        model.generation_config = GenerationConfig(
            eos_token_id=experiment.template.stop_token_ids(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            max_new_tokens=experiment.generation.max_new_tokens,
        )
        model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    (path / "instruct_lab_config.json").write_text(json.dumps(config, indent=2, default=str), encoding="utf-8")
    (path / "README.md").write_text(model_card(config, record, loaded.step, keep_adapter), encoding="utf-8")

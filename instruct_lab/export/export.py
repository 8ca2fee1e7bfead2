"""Write a recorded run's model to a folder, in one of several formats."""

from __future__ import annotations

import copy
import dataclasses
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
from instruct_lab.export.evaluated import evaluations_of
from instruct_lab.export.formats import ONE_FILE, Format, WeightType, choose_format
from instruct_lab.export.front_matter import CARD, front_matter
from instruct_lab.export.gguf.writer import write_gguf
from instruct_lab.export.hub_results import FOLDER, collect_results, result_files
from instruct_lab.export.model_card import model_card
from instruct_lab.export.ollama import MODELFILE, modelfile
from instruct_lab.export.serving import gguf_usage, ollama_usage, vllm_usage
from instruct_lab.export.usage import usage
from instruct_lab.records import RunRecord
from instruct_lab.training.quiet import quiet_libraries
from instruct_lab.training.workspace import TunedModel, Workspace

CONFIG = "instruct_lab_config.json"
VERSIONS = "instruct_lab_versions.json"
"""Name of the export's file that lists the versions of Python and packages with which the run was trained."""
PARTIAL = ".partial-"
"""Part of the name of the temporary folder in which an export is written; the id of the process follows it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """The settings of an export: the run whose model is written, the format and the folder.

    Args:
        experiment: the run's configuration.
        config: the run's configuration as nested dictionaries and lists.
        record: the run's record.
        path: the folder to write to, which is empty or does not exist yet.
        form: the format to write.
        weight_type: number type of the weight matrices in a GGUF file.
        checkpoint: `best` or `last`; `None` means the weights with which the run was evaluated.
    """

    experiment: Experiment
    config: dict[str, Any]
    record: RunRecord
    path: Path
    form: Format = "hf"
    weight_type: WeightType = "f16"
    checkpoint: str | None = None

    @property
    def is_adapter(self) -> bool:
        """Whether an adapter is written instead of a whole model."""
        return self.form == "adapter"

    @property
    def model_file(self) -> str:
        """The name of the GGUF file in the export's folder."""
        return f"model-{self.weight_type}.gguf"

    def load(self) -> TunedModel:
        """Load the tuned model that is exported; its adapter is merged into it, unless only the adapter is exported."""
        return Workspace(self.experiment).tuned(self.record.path, self.checkpoint, merged=not self.is_adapter)


def export(job: Export) -> Export:
    """Write the tuned model and a model card to a new folder; if this fails, all files written so far are removed.

    If the format is `hf` and the adapter cannot be merged into the model, only the adapter is written.

    Args:
        job: what to export, and where to.

    Returns:
        `job` with the format that was written.

    Raises:
        InstructLabError: the folder is not empty or cannot be written, the run does not have the weights that
            `checkpoint` names, or its model cannot be written in this format.
    """
    path = job.path
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        left = sorted(path.glob(f"{PARTIAL}*")) if path.is_dir() else []
        found = f"holds an export that was interrupted ({left[0].name})" if left else "is not empty"
        do = "empty it, or name a new folder" if left else "name a new folder"
        raise InstructLabError(f"The export folder {found}", where=str(path), do=do)
    job = dataclasses.replace(job, form=choose_format(job.experiment, job.form))
    quiet_libraries()
    tuned = job.load()
    parent, name = (path, "") if path.exists() else (path.parent, f".{path.name}")
    partial = parent / f"{name}{PARTIAL}{os.getpid()}"
    do = "free disk space, or name another folder"
    try:
        with wrap_errors(OSError, what="The model cannot be written", where=str(path), do=do):
            partial.mkdir(parents=True)
            _write(job, tuned, partial)
            if partial.parent == path:
                _move_into(path, partial)
            else:
                partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return job


def _move_into(path: Path, partial: Path) -> None:
    """Move all files of the folder `partial` to the empty folder `path`.

    If one of them cannot be moved, those moved before are moved back.
    """
    moved: list[Path] = []
    try:
        for file in partial.iterdir():
            moved.append(file.rename(path / file.name))
    except BaseException:
        for file in moved:
            file.rename(partial / file.name)
        raise


def _write(job: Export, tuned: TunedModel, folder: Path) -> None:
    experiment = job.experiment
    tokenizer = tuned.loaded.tokenizer
    template = experiment.template.as_jinja(tokenizer)
    if template is not None:
        tokenizer.chat_template = template
    generation = None if experiment.cannot_answer else _generation_config(experiment, tuned)
    stop_ids = [] if generation is None else generation.eos_token_id
    stops = tokenizer.convert_ids_to_tokens(stop_ids)
    if job.form in ONE_FILE:
        if job.form == "ollama":  # refuse a template that Ollama cannot express before the weights are written
            text = modelfile(experiment, tokenizer, job.model_file, stops)
            (folder / MODELFILE).write_text(text, encoding="utf-8")
        write_gguf(tuned.loaded, folder / job.model_file, job.weight_type, job.record.name, stop_ids)
        use = ollama_usage(job.record.name) if job.form == "ollama" else gguf_usage(job.model_file, stops)
    else:
        use = _write_for_transformers(job, tuned, generation, folder, stops)
    for name, text in _texts(job, tuned.weights.step, use).items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(secrets.hide(text), encoding="utf-8")


def _texts(job: Export, step: int, use: str) -> dict[str, str]:
    """Return the texts of the files that describe the model, keyed by path in the export's folder.

    These files are the model card, the results, the run's configuration and the versions of Python and packages.

    Args:
        job: the export.
        step: the optimizer step of the exported weights.
        use: the section of the model card about how to use the model.
    """
    record, config = job.record, texts_of(job.config)
    manifest = record.manifest
    is_measured = manifest.evaluated_step in (None, step)
    results = collect_results(job.experiment.data, record) if is_measured else []
    evaluations = evaluations_of(record, step)
    results += [result for one in evaluations for result in one.results]
    is_rounded = job.form in ONE_FILE and job.weight_type != "f32"
    notes = [f"measured before the weights were converted to {job.weight_type}"] if is_rounded else []
    front = front_matter(job.experiment, record, _library(job), results, notes)
    versions = {"python": manifest.python, **manifest.packages}
    return {
        CONFIG: json.dumps(config, indent=2, default=str),
        VERSIONS: json.dumps(versions, indent=2),
        CARD: model_card(config, record, step, front, use, evaluations),
        **{f"{FOLDER}/{name}": text for name, text in result_files(results, record, notes).items()},
    }


def _write_for_transformers(job: Export, tuned: TunedModel, generation: Any, folder: Path, stops: list[str]) -> str:
    """Write the model or the adapter, and the tokenizer; return the section of the model card about how to use them."""
    tokenizer, model, base = tuned.loaded.tokenizer, tuned.loaded.model, None
    if job.is_adapter:
        base = write_adapter(job.experiment, tuned, generation, folder, job.path)
        if generation is not None:
            end_with(tokenizer, generation.eos_token_id[0])
    else:
        if generation is not None:
            model.generation_config = generation
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    use = usage(job.experiment, stops, base, tuned.loaded)
    if job.form == "vllm":
        dtype = str(model.dtype).removeprefix("torch.")
        use = f"{vllm_usage(job.path, job.record.name, dtype)}\n\nWith transformers:\n\n{use}"
    return use


def _library(job: Export) -> str:
    """Return the name of the library that loads the export, as model hubs spell it."""
    return "gguf" if job.form in ONE_FILE else "peft" if job.is_adapter else "transformers"


def _generation_config(experiment: Experiment, tuned: TunedModel) -> Any:
    """Return the generation config of the tuned model: the tokens that end its answers, and the length limit."""
    tokenizer = tuned.loaded.tokenizer
    config = copy.deepcopy(tuned.loaded.model.generation_config)
    config.eos_token_id = experiment.template.stop_token_ids(tokenizer)
    config.pad_token_id, config.bos_token_id = tokenizer.pad_token_id, tokenizer.bos_token_id
    config.max_new_tokens = experiment.generation.max_new_tokens
    return config

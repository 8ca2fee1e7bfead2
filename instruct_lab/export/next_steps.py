"""Commands that a user can copy and run to use an exported model."""

from __future__ import annotations

import shlex

from instruct_lab.export.export import Export
from instruct_lab.export.front_matter import CARD
from instruct_lab.export.ollama import MODELFILE
from instruct_lab.export.serving import gguf_commands, ollama_commands


def next_steps(job: Export) -> list[str]:
    """Return lines that explain how to use an export: the path of its model card, and then one command in each line.

    For vLLM, the second line says instead that the command is in the model card.
    """
    card = f"how to load it: {job.path / CARD}"
    run = shlex.quote(job.record.id)
    if job.form == "ollama":
        steps = ollama_commands(job.record.name, str(job.path / MODELFILE))
    elif job.form == "gguf":
        steps = gguf_commands(str(job.path / job.model_file))
    elif job.form == "vllm":
        return [card, f"serve it: the command is in {job.path / CARD}"]
    else:
        steps = [f"instruct-lab push {run} ORG/NAME"]
    return [card, *(f"next: {step}" for step in steps)]

"""Answering of prompts with a recorded run's model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.errors import InstructLabError
from instruct_lab.evaluation.measure import generate_answers, seed_of
from instruct_lab.experiment import Experiment
from instruct_lab.records import RunRecord
from instruct_lab.training.datamodule import InstructionData
from instruct_lab.training.quiet import quiet_libraries
from instruct_lab.training.workspace import Workspace


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
    """Answer single-turn prompts, decoded like the predictions of the run.

    Args:
        experiment: the run's configuration.
        record: the run.
        prompts: user messages, one conversation each.
        system: a system message before each prompt.
        weights: `best`, `last` or `base` (the model before training); `None` means the weights with which the run was
            evaluated.

    Raises:
        InstructLabError: the model cannot answer prompts, or the run has no such weights.
    """
    if reason := experiment.cannot_answer:
        raise InstructLabError(f"This run's model answers no prompts: {reason}", do="choose another run")
    quiet_libraries()
    workspace = Workspace(experiment, _device())
    loaded = workspace.base().loaded if weights == "base" else workspace.tuned(record.path, weights).loaded
    opening = (Message("system", system),) if system else ()
    conversations = [Conversation(messages=(*opening, Message("user", prompt))) for prompt in prompts]
    seeds = [seed_of(experiment.seed, prompt) for prompt in prompts]
    if weights != "base" and not experiment.tuning.trains:
        data = InstructionData(experiment, workspace.tokenizer, workspace.cache_path, Audit())
        conversations = experiment.tuning.prompts(conversations, data.conversations["train"])
    answers = generate_answers(experiment.evaluation_setup, loaded, conversations, seeds)
    return [answer.text for answer in answers]

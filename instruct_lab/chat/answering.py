"""Answers to conversations, generated with the model of a recorded run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from instruct_lab.chat.decoding import Decoding, with_decoding
from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.errors import InstructLabError
from instruct_lab.evaluation.measure import generate_answers, seed_of, stream_answer
from instruct_lab.experiment import Experiment
from instruct_lab.generation import Answer
from instruct_lab.model import LoadedModel
from instruct_lab.records import RunRecord
from instruct_lab.training.datamodule import InstructionData
from instruct_lab.training.quiet import quiet_libraries
from instruct_lab.training.workspace import Workspace

BASE = "base"
"""The value of `load_answerer`'s argument `weights` that stands for the model before training."""


@dataclasses.dataclass(frozen=True)
class Answerer:
    """A recorded run's model, which answers conversations as it answered the held-out examples of the run.

    Args:
        label: name under which the user sees the model.
        experiment: the run's configuration, which includes the decoding settings.
        loaded: the model with its tokenizer.
        examples: training conversations from which the tuning method takes few-shot examples for each prompt; `None`
            if no examples are added to prompts.
    """

    label: str
    experiment: Experiment
    loaded: LoadedModel
    examples: Sequence[Conversation] | None = None

    def with_decoding(self, decoding: Decoding) -> Answerer:
        """Return a copy that decodes with other settings.

        Raises:
            InstructLabError: a value is not allowed, or would have no effect.
        """
        return dataclasses.replace(self, experiment=with_decoding(self.experiment, decoding))

    def answer(self, conversations: Sequence[Sequence[Message]]) -> list[str]:
        """Answer several conversations, each of which ends with a user message.

        Raises:
            InstructLabError: a conversation is too long for the model, or the template cannot render it.
        """
        prompts, seeds = self._prompts(conversations), [self._seed(messages) for messages in conversations]
        return [one.text for one in generate_answers(self.experiment.evaluation_setup, self.loaded, prompts, seeds)]

    def stream(self, messages: Sequence[Message], on_text: Callable[[str], None]) -> Answer:
        """Answer one conversation, and pass each new piece of the answer's text to a function as it is generated.

        Args:
            messages: the conversation, which ends with a user message.
            on_text: function that is called with each piece; an exception that it raises ends the generation.

        Raises:
            InstructLabError: the conversation is too long for the model, or the template cannot render it.
        """
        (prompt,) = self._prompts([messages])
        setup = self.experiment.evaluation_setup
        return stream_answer(setup, self.loaded, prompt, self._seed(messages), on_text)

    def note_of_cut(self, messages: Sequence[Message]) -> str | None:
        """Return a note to the user if the run's `batching.max_tokens` shortens this conversation, otherwise `None`."""
        batching, setup = self.experiment.batching, self.experiment.evaluation_setup
        if batching.max_tokens is None or batching.overlong in ("error", "drop"):
            return None
        prompts = self._prompts([messages])
        whole, cut = (
            one.encode_prompts(prompts, setup.template, self.loaded.tokenizer, setup.layout)
            for one in (dataclasses.replace(batching, overlong="drop"), batching)
        )
        if whole == cut:
            return None
        sizes = f"from {len(whole[0]):,} to {len(cut[0]):,} tokens"
        return f"the conversation was cut {sizes} (batching.max_tokens={batching.max_tokens})"

    def _prompts(self, conversations: Sequence[Sequence[Message]]) -> list[Conversation]:
        prompts = [Conversation(messages=tuple(messages)) for messages in conversations]
        return prompts if self.examples is None else self.experiment.tuning.prompts(prompts, self.examples)

    def _seed(self, messages: Sequence[Message]) -> int:
        """Return the answer's random seed, which depends on the last message and the number of answers before it."""
        number = sum(message.role == "assistant" for message in messages)
        return seed_of(self.experiment.seed, messages[-1].content, number)


def load_answerer(experiment: Experiment, record: RunRecord, weights: str | None = None) -> Answerer:
    """Load the model of a recorded run on this machine's GPU, or on the CPU if there is no GPU.

    Args:
        experiment: the run's configuration.
        record: the run's record.
        weights: `best`, `last` or `base` (the model before training); `None` means the weights with which the run was
            evaluated.

    Raises:
        InstructLabError: the model cannot answer prompts, or the run has no such weights.
    """
    if reason := experiment.cannot_answer:
        raise InstructLabError(f"This run's model answers no prompts: {reason}", do="choose another run")
    quiet_libraries()
    workspace = Workspace(experiment, answering_device())
    if weights == BASE:
        return Answerer(f"base model of {record.id}", experiment, workspace.base().loaded)
    loaded = workspace.tuned(record.path, weights).loaded
    label, examples = f"{record.name} {record.id}", None
    if not experiment.tuning.trains:
        data = InstructionData(experiment, workspace.tokenizer, workspace.cache_path, Audit())
        examples = data.conversations["train"]
    return Answerer(label, experiment, loaded, examples)


def answering_device() -> Any:
    """Return this machine's GPU, or the CPU if there is no GPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def opening(system: str | None) -> tuple[Message, ...]:
    """Return the messages before the user's first message: the system message, if there is one."""
    return (Message("system", system),) if system else ()

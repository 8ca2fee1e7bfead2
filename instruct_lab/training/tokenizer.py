"""The tokenizer of a run; one that is trained on the run's data gets its texts from here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from instruct_lab.data.base import tables
from instruct_lab.data.store import Store
from instruct_lab.experiment import Experiment


def load_tokenizer(experiment: Experiment, cache_path: Path) -> Any:
    """The model's tokenizer.

    Raises:
        InstructLabError: it cannot be had, or the data that it is trained on cannot be read.
    """
    return experiment.model.load_tokenizer(cache_path, lambda: training_texts(experiment, cache_path))


def training_texts(experiment: Experiment, cache_path: Path) -> Iterator[str]:
    """Every message of the training split as the data gives it: a step of preprocessing may need the tokenizer."""
    prepared = Store(cache_path).result([experiment.data.stage(cache_path)])
    for conversation in tables(prepared)["train"]:
        for message in (*conversation.messages, *conversation.rejected):
            yield message.content

"""The tokenizer of a run; one that is trained on the run's data gets its texts from here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from instruct_lab.cache import Store, describe
from instruct_lab.data.base import tables
from instruct_lab.experiment import Experiment
from instruct_lab.training.shared import SharedModels


def load_tokenizer(experiment: Experiment, cache_path: Path, shared: SharedModels | None = None) -> Any:
    """The model's tokenizer.

    Args:
        experiment: the run's configuration.
        cache_path: folder for what is downloaded or made.
        shared: what earlier runs of this process loaded; none: it is read anew. One that is trained on the run's data
            is not shared.

    Raises:
        InstructLabError: it cannot be had, or the data that it is trained on cannot be read.
    """

    def load() -> tuple[Any, bool]:
        asked = []

        def texts() -> Iterator[str]:
            asked.append(True)
            return training_texts(experiment, cache_path)

        tokenizer = experiment.model.load_tokenizer(cache_path, texts)
        return tokenizer, not asked

    if shared is None:
        return load()[0]
    files = [dataclasses.astuple(file) for file in experiment.model.tokenizer_inputs(cache_path)]
    return shared.tokenizer(json.dumps([describe(experiment.model), str(cache_path), files], default=str), load)


def training_texts(experiment: Experiment, cache_path: Path) -> Iterator[str]:
    """Every message of the training split as the data gives it: a step of preprocessing may need the tokenizer."""
    prepared = Store(cache_path).result([experiment.data.stage(cache_path)])
    for conversation in tables(prepared)["train"]:
        for message in (*conversation.messages, *conversation.rejected):
            yield message.content

"""The LightningDataModule: conversations in, resumable loaders out."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from instruct_lab.batching import Example
from instruct_lab.data import Audit, Conversation, Input
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment import Experiment


class InstructionData(pl.LightningDataModule):
    """Loads, preprocesses, renders and tokenises every split once, in the constructor.

    Args:
        experiment: the run's configuration.
        tokenizer: the model's tokenizer.
        cache_path: folder for downloads.
        audit: counts what is left out on the way.

    Raises:
        InstructLabError: bad input, or a split without any usable example.
    """

    def __init__(self, experiment: Experiment, tokenizer: Any, cache_path: Path, audit: Audit) -> None:
        super().__init__()
        self._experiment = experiment
        self._tokenizer = tokenizer
        loaded = experiment.data.load(cache_path, audit)
        self.inputs: list[Input] = loaded.inputs
        preprocessed = experiment.preprocessing.apply(loaded.splits, audit)
        self.conversations: dict[str, list[Conversation]] = experiment.data.separated(preprocessed, audit)
        self.examples: dict[str, list[Example]] = {
            split: experiment.batching.encode(conversations, experiment.template, tokenizer, audit, split)
            for split, conversations in self.conversations.items()
        }
        audit.facts["examples"] = {split: len(examples) for split, examples in self.examples.items()}
        audit.facts["target_tokens"] = {
            split: sum(example.num_target_tokens for example in examples) for split, examples in self.examples.items()
        }
        if not self.examples.get("train"):
            raise InstructLabError(
                "No training example is left",
                where="the train split, after preprocessing and batching",
                do="see audit.json in the run record for what was dropped and why",
            )

    @property
    def fingerprint(self) -> str:
        """SHA-256 over every split's token ids and labels, in order."""
        digest = hashlib.sha256()
        for split in sorted(self.examples):
            digest.update(f"{split}:{len(self.examples[split])};".encode())
            for example in self.examples[split]:
                digest.update(repr((example.input_ids, example.labels)).encode())
        return digest.hexdigest()

    def num_steps(self, trainer: pl.Trainer) -> int:
        """Optimizer steps of the whole run, from the loader's own length.

        `trainer.estimated_stepping_batches` is never read: it sets up the loaders early and so drops the position that
        a checkpoint holds.
        """
        batches: float = len(self._loader("train", trainer.world_size, trainer.global_rank))
        limit = trainer.limit_train_batches
        if isinstance(limit, int):
            batches = min(batches, limit)
        elif limit is not None:
            batches = int(batches * limit)
        per_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
        bounds = []
        if trainer.max_epochs is not None and trainer.max_epochs >= 0:
            bounds.append(per_epoch * trainer.max_epochs)
        if trainer.max_steps >= 0:
            bounds.append(trainer.max_steps)
        if not bounds:
            raise InstructLabError(
                "The length of the run is not bounded",
                where="trainer.max_epochs and trainer.max_steps",
                do="set one of them: the learning-rate schedule needs it",
            )
        return min(bounds)

    def _loader(self, split: str, world_size: int, rank: int) -> Any:
        batching = self._experiment.batching
        return batching.loader(
            self.examples[split],
            seed=self._experiment.seed,
            shuffle=split == "train",
            batch_size=batching.batch_size if split == "train" else batching.evaluation_batch_size,
            rank=rank,
            world_size=world_size,
            pad_token_id=self._tokenizer.pad_token_id,
        )

    def train_dataloader(self) -> Any:
        """The training split, shuffled by seed and epoch, its position part of a checkpoint."""
        assert self.trainer is not None
        return self._loader("train", self.trainer.world_size, self.trainer.global_rank)

    def val_dataloader(self) -> Any:
        """The validation split in order; nothing where the data has none."""
        assert self.trainer is not None
        if not self.examples.get("validation"):
            return []
        return self._loader("validation", self.trainer.world_size, self.trainer.global_rank)

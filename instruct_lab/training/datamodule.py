"""The LightningDataModule, which turns conversations into resumable loaders of batches."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from instruct_lab.batching import BatchLoader, Example
from instruct_lab.batching.answer_lengths import AnswerLengths, measure_lengths
from instruct_lab.batching.base import STAGE as BATCHING
from instruct_lab.batching.efficiency import packed_share, padding_share
from instruct_lab.batching.encoded import EncodeRows
from instruct_lab.batching.fingerprint import tokenizer_fingerprint
from instruct_lab.batching.layouts import train_last_answer
from instruct_lab.batching.reference import ReferencedExamples
from instruct_lab.batching.spelled_tokens import warn_of_spelled_tokens
from instruct_lab.batching.table import ExampleTable
from instruct_lab.batching.token_statistics import token_statistics
from instruct_lab.cache import Entry, Stage, Store, describe, worker_processes
from instruct_lab.data import Audit, Conversation, Input
from instruct_lab.data.base import split_path, tables
from instruct_lab.data.remaining import (
    SEE_DROPPED,
    NoRowsLeft,
    add_warning,
    describe_losses,
    warn_of_empty_splits,
)
from instruct_lab.data.stages import audit_of, audited_stage
from instruct_lab.data.table import ConversationTable
from instruct_lab.errors import InstructLabError
from instruct_lab.evaluation.examples import EvaluatedExamples, pair_with_examples, sample
from instruct_lab.evaluation.ranks import first_rank_value
from instruct_lab.evaluation.reference import read_references, reference_stage
from instruct_lab.experiment import Experiment
from instruct_lab.model import LoadedModel
from instruct_lab.preprocessing.preprocessing import RunTokenizer
from instruct_lab.progress import stage
from instruct_lab.training.batch_counts import check_batch_counts, count_batches
from instruct_lab.training.example_stream import ExampleStream
from instruct_lab.tuning import Tuning


class InstructionData(pl.LightningDataModule):
    """The splits of a run; the constructor loads, preprocesses and tokenises them, or reads them from the data cache.

    The attributes `conversations` and `examples` hold every split as a sequence on disk; `inputs` lists all files and
    packages that were read, with their hashes; `fingerprint` is the SHA-256 of all token ids and labels, in order;
    `answer_lengths` holds a high percentile of the training answers' lengths, and the longest held-out prompt's length.

    Args:
        experiment: the run's configuration.
        tokenizer: the model's tokenizer.
        cache_path: folder for downloads and cached results.
        audit: the audit that counts dropped and changed rows.

    Raises:
        InstructLabError: the data cannot be read or used, or no training example is left.
    """

    def __init__(self, experiment: Experiment, tokenizer: Any, cache_path: Path, audit: Audit) -> None:
        super().__init__()
        self._experiment = experiment
        self._tokenizer = tokenizer
        self._cache_path = cache_path
        with stage("reading and hashing the inputs", unit="row"):
            self.inputs: list[Input] = experiment.data.inputs(cache_path)
        if experiment.data.needs_reasoning_template:
            experiment.template.check_reasoning(tokenizer)
        store = Store(cache_path)
        with stage("preparing the stages of the data"):
            stages = self._conversation_stages(cache_path)
        self._stages = [*stages, self._example_stage()]
        with worker_processes(experiment.preprocessing.workers):
            prepared = store.result(stages)
            encoded = store.result(self._stages)
        audit.merge(audit_of(encoded))
        self.conversations: dict[str, ConversationTable] = tables(prepared)
        self.examples: dict[str, ExampleTable] = {
            split: ExampleTable(split_path(encoded.path, split)) for split in self.conversations
        }
        self._read_rows = functools.partial(store.result, stages[:1])  # before preprocessing
        self._references: dict[str, Any] = {}
        experiment.objective.check_tokenizer(tokenizer)
        self.fingerprint: str = encoded.facts["fingerprint"]
        self.answer_lengths = AnswerLengths(**encoded.facts["answer_lengths"])
        if not experiment.data.source_names("train"):
            return  # rows that are only evaluated
        if not len(self.examples["train"]):
            losses = describe_losses(audit, "train")
            raise NoRowsLeft(
                f"No training example is left{f': {losses} dropped' if losses else ''}",
                audit,
                where="the train split, after preprocessing and batching",
                do=SEE_DROPPED,
            )
        self._note_efficiency(audit)

    def _note_efficiency(self, audit: Audit) -> None:
        """Add two shares to the audit: of padding in training batches, and of tokens in rows if examples were packed.

        They are not cached, since the share of padding depends on the batch size.
        """
        batching, lengths = self._experiment.batching, self.examples["train"].lengths
        loader = self._loader("train")
        order = loader.order(0)
        facts = audit.facts["tokens"]["train"]
        facts["padding_share"] = padding_share(lengths[order], batching.batch_size, batching.packing)
        limit = batching.max_tokens or int(lengths.max(initial=1))
        facts["packed_efficiency"] = packed_share(lengths, limit)

    def _conversation_stages(self, cache_path: Path) -> list[Stage]:
        experiment = self._experiment
        tokenizer = RunTokenizer(lambda: self._tokenizer, lambda: tokenizer_fingerprint(self._tokenizer))
        stages = [experiment.data.stage(cache_path), *experiment.preprocessing.stages(cache_path, tokenizer)]
        after = experiment.data.stage_after_preprocessing()
        return stages if after is None else [*stages, after]

    def _example_stage(self) -> Stage:
        batching, template = self._experiment.batching, self._experiment.template
        depends_on = {
            "template": describe(template),
            "batching": batching.encoding_settings(),
            "tokenizer": tokenizer_fingerprint(self._tokenizer),
            "layout": dataclasses.asdict(self._experiment.layout),
        }
        return audited_stage("batching", depends_on, self._encode, "tokenising")

    def _encode(self, before: Entry | None, folder: Path, audit: Audit) -> dict[str, Any]:
        """Render and tokenise every split, write it to a file, and return facts about all splits.

        The data cache stores the facts beside the files: a hash of all examples, their number in each split, and two
        lengths (`AnswerLengths`).

        Args:
            before: the cached result of the previous stage, which holds the conversations.
            folder: folder in which one file per split is written.
            audit: the audit that counts dropped and changed rows.
        """
        assert before is not None
        experiment = self._experiment
        digest, truncated, layout = hashlib.sha256(), 0, experiment.layout
        examples: dict[str, ExampleTable] = {}
        for split, conversations in tables(before).items():
            path = split_path(folder, split)
            encode = EncodeRows(
                experiment.batching,
                experiment.template,
                self._tokenizer,
                layout,
                conversations,
                split,
                experiment.data.allowed_broken_share,
            )
            encode.write(path, audit)
            if experiment.batching.special_tokens_in_text == "ordinary":
                warning = warn_of_spelled_tokens(audit, BATCHING, split, len(conversations))
                if warning:
                    add_warning(audit, warning)
            written = examples[split] = ExampleTable(path)
            digest.update(f"{split}:{written.fingerprint()};".encode())
            audit.facts.setdefault("examples", {})[split] = len(written)
            audit.facts.setdefault("target_tokens", {})[split] = int(written.target_lengths.sum())
            audit.facts.setdefault("sources", {})[split] = conversations.sources()
            audit.facts.setdefault("tokens", {})[split] = {
                **token_statistics(written.lengths, written.target_lengths),
                "truncated": audit.count("truncated", "batching") - truncated,
            }
            truncated = audit.count("truncated", "batching")
        loaded = audit.facts.get("splits", {})
        warn_of_empty_splits(audit, experiment.data.requested_splits, audit.facts["examples"], loaded)
        return {
            "fingerprint": digest.hexdigest(),
            "examples": audit.facts["examples"],
            "answer_lengths": dataclasses.asdict(measure_lengths(examples, tables(before), self._tokenizer, layout)),
        }

    @property
    def conversation_stages(self) -> list[Stage]:
        """The stages of data preparation that produce conversations, in order; the data cache stores their results."""
        return self._stages[:-1]

    def sources(self, split: str) -> list[str]:
        """Return the names of a split's data sources, in alphabetical order."""
        return sorted(self.conversations[split].sources())

    def check_trainer(self, trainer: pl.Trainer, audit: Audit) -> str | None:
        """Check the trainer's arguments against the data; if no validation takes place, return and record a warning.

        Raises:
            InstructLabError: a limit leaves no batch, or the interval between validations is longer than an epoch.
        """
        num_train = len(self._loader("train", trainer))
        num_validation = len(self._loader("validation", trainer)) if self.examples.get("validation") else 0
        if warning := check_batch_counts(trainer, num_train, num_validation):
            add_warning(audit, warning)
        return warning

    def num_steps(self, trainer: pl.Trainer) -> int:
        """Compute the number of optimizer steps of the whole run.

        The number is computed from the length of the training loader. Lightning's `trainer.estimated_stepping_batches`
        would create the loaders before a checkpoint is read, and the position that the checkpoint stores would be lost.

        Raises:
            InstructLabError: the trainer limits neither the epochs nor the steps.
        """
        per_epoch = self.steps_per_epoch(trainer)
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

    def steps_per_epoch(self, trainer: pl.Trainer) -> int:
        """Compute the number of optimizer steps of one pass over the training data."""
        batches = count_batches(trainer.limit_train_batches, len(self._loader("train", trainer)))
        return math.ceil(batches / trainer.accumulate_grad_batches)

    def _loader(self, split: str, trainer: pl.Trainer | None = None) -> BatchLoader:
        """Create the loader of this device's examples of a split; without a trainer, of all examples of the split."""
        batch_tokens = None
        if split != "train":
            assert trainer is not None
            setup = self._experiment.evaluation_setup
            batch_tokens = first_rank_value(setup.scored_tokens(trainer.strategy.root_device))
        examples: Sequence[Example] | ExampleStream = self._referenced(split)
        if split == "train" and trainer is not None and self._experiment.data.is_stream:
            examples = self._stream(is_reporting=trainer.is_global_zero)
        return self._experiment.batching.loader(
            examples,
            batch_tokens=batch_tokens,
            min_examples=1 if self._experiment.objective.has_independent_examples else 2,
            seed=self._experiment.seed,
            rank=0 if trainer is None else trainer.global_rank,
            world_size=1 if trainer is None else trainer.world_size,
            pad_token_id=self._tokenizer.pad_token_id,
            transform=self.corrupt,
        )

    def _stream(self, is_reporting: bool) -> ExampleStream:
        """Return the training examples as blocks: the training split, then blocks from the data source's next rows."""
        return ExampleStream(
            self._experiment,
            self._tokenizer,
            self._cache_path,
            self.examples["train"],
            lambda: (tables(self._read_rows()), self.conversations),
            is_reporting,
        )

    def _referenced(self, split: str) -> Sequence[Example]:
        """Return a split's examples, with the base model's log-probabilities if they were computed."""
        examples = self.examples[split]
        return ReferencedExamples(examples, self._references[split]) if split in self._references else examples

    def evaluated_examples(
        self, split: str, max_examples: int | None = None, by_source: bool = False
    ) -> EvaluatedExamples:
        """Choose the examples of a split on which to evaluate; the choice depends only on a hash of their ids.

        Args:
            split: the split to choose from.
            max_examples: maximum number of examples; `None`: all.
            by_source: whether to choose up to `max_examples` from each data source, instead of from the whole split.
        """
        encoded = pair_with_examples(self.conversations[split], self.examples[split].ids())
        chosen = sample(encoded, max_examples, self.sources(split) if by_source else None)
        conversations, examples = [conversation for conversation, _ in chosen], self._referenced(split)
        clusters = [self._experiment.data.cluster_of(conversation) for conversation in conversations]
        encoded_examples = [examples[index] for _, index in chosen]
        return EvaluatedExamples(
            split, conversations, encoded_examples, conversations, clusters if any(clusters) else ()
        )

    def with_prompts(
        self, examples: EvaluatedExamples, tuning: Tuning, demonstrations: Sequence[Conversation] | None = None
    ) -> EvaluatedExamples:
        """Replace the prompts of examples by those that the tuning method uses, for example few-shot prompts.

        In the new examples, only the tokens of the final answers are targets. If no prompt changes, the examples are
        returned as they are.

        Args:
            examples: the chosen examples with their conversations.
            tuning: the tuning method, which may put demonstrations (solved examples) before each prompt.
            demonstrations: the conversations from which demonstrations are taken; `None`: the training split.

        Raises:
            InstructLabError: a prompt is too long.
        """
        chosen = list(examples.conversations)
        prompts = tuning.prompts(chosen, self.conversations["train"] if demonstrations is None else demonstrations)
        if prompts == chosen:
            return examples
        prompts = [train_last_answer(conversation) for conversation in prompts]
        batching, template, audit = self._experiment.batching, self._experiment.template, Audit()
        encoded = list(batching.encode(prompts, template, self._tokenizer, audit, "prompted", self._experiment.layout))
        num_too_long = len(prompts) - len(encoded) or audit.count("truncated")
        if num_too_long:
            raise InstructLabError(
                f"{num_too_long} of {len(prompts)} prompts are too long with what the tuning method adds before them",
                where="batching.max_tokens",
                do="raise it, or lower tuning.shots",
            )
        return EvaluatedExamples(examples.split, chosen, encoded, prompts, examples.clusters)

    def corrupt(self, example: Example, source: random.Random) -> Example:
        """Mask tokens of an example or add noise, if the objective does so; `source` draws the random numbers."""
        return self._experiment.objective.corrupt(example, self._tokenizer, source)

    def add_reference(self, loaded: LoadedModel) -> None:
        """Compute the base model's log-probabilities of every preference pair, or read them from the data cache.

        Args:
            loaded: the base model, in evaluation mode.
        """
        stage = reference_stage(self._experiment.evaluation_setup, loaded, self._cache_path, self.examples)
        self._references = read_references(Store(self._cache_path).result([*self._stages, stage]).path, self.examples)

    def train_dataloader(self) -> Any:
        """Create the loader of the training split; it shuffles by seed and epoch, and its position can be restored."""
        assert self.trainer is not None
        return self._loader("train", self.trainer)

    def val_dataloader(self) -> Any:
        """Create the loader of the validation split, whose batches hold examples of similar length.

        Without validation data, return an empty list.
        """
        assert self.trainer is not None
        if not self.examples.get("validation"):
            return []
        return self._loader("validation", self.trainer)

"""What an objective is: batch and model to (loss sum, target count)."""

from __future__ import annotations

import dataclasses
import random
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from instruct_lab.batching import Batch, Example, Reads
from instruct_lab.config import Component
from instruct_lab.data.conversation import Supervision

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Head = Literal["language", "score"]
"""The model's output: logits over the vocabulary, or one number for a whole text."""

ANY_SUPERVISION = frozenset(get_args(Supervision))
"""For objectives that read the whole text of a conversation."""


@dataclasses.dataclass(frozen=True, slots=True)
class Loss:
    """Summed losses and what they are divided by, one of each for every example of a batch.

    Nothing is divided here: the sums of all micro-batches and devices are divided once, by all their counts, at the
    optimizer step.

    Args:
        sums: float32 `[examples]`, nats where the loss is a likelihood.
        counts: `[examples]`: target tokens (int64), the sum of their weights (float32), or 1 for a pair.
        values: what else is told of each example, float32 `[examples]`, without gradients; logged as a mean.
    """

    sums: Tensor
    counts: Tensor
    values: dict[str, Tensor] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class TokenScores:
    """What the model says of one example's labels when it is given all that stands before each of them.

    Args:
        losses: -log p of each label, in nats.
        confidences: p of the most likely token at each of these positions.
        correct: whether that token is the label.
    """

    losses: list[float]
    confidences: list[float]
    correct: list[bool]


class Objective(Component, ABC):
    """What is minimised."""

    reads: ClassVar[Reads] = "answers"
    """What of a conversation an example holds."""

    needs: ClassVar[frozenset[Supervision]] = frozenset({"answers", "text"})
    """What the data has to give; any one of these suffices. See `instruct_lab.data.Data.gives`."""

    head: ClassVar[Head] = "language"
    """What the model has to put out."""

    is_likelihood: ClassVar[bool] = True
    """Whether the loss, in evaluation, is the negative log-likelihood of the labels, so that its exponential is a
    perplexity."""

    generates: ClassVar[bool] = True
    """Whether a model trained so can answer prompts."""

    needs_reference: ClassVar[bool] = False
    """Whether the loss compares with the untuned model."""

    learning_rate_scale: ClassVar[float] = 1.0
    """Learning rate that suits this objective, as a multiple of the one that suits supervised training."""

    value_names: ClassVar[frozenset[str]] = frozenset()
    """Names of the further values that the loss tells of each example."""

    @abstractmethod
    def loss(self, model: PreTrainedModel, batch: Batch, teacher: Any = None) -> Loss:
        """The summed loss and the count of every example of the batch.

        Args:
            model: of the families that this objective works with, adapted or not; its mode says whether this is
                training (smoothing and the like apply) or evaluation.
            batch: in the layout of `reads` and the model's family.
            teacher: what `load_teacher` gave.
        """

    def corrupted(self, example: Example, tokenizer: PreTrainedTokenizerBase, source: random.Random) -> Example:
        """The example as the model gets it this time: masked or noised, by the given source of chance alone.

        Called for each example whenever it is put into a batch; the source depends on the run's seed, the epoch and the
        example's index, so that what is drawn does not move with the batch size or the number of devices. In evaluation
        it is the same every time.
        """
        return example

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse a tokenizer that lacks a token which this objective needs.

        Raises:
            InstructLabError: naming the token.
        """

    @property
    def takes_reference_from_batch(self) -> bool:
        """Whether log-probabilities under the untuned model have to be computed before training."""
        return False

    def load_teacher(self, tokenizer: PreTrainedTokenizerBase, cache_path: Path, device: Any) -> Any:
        """Another model that the loss needs, frozen and in evaluation mode; none for most objectives."""
        return None

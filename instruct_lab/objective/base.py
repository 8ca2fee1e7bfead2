"""The base class of objectives, which compute the summed loss and a count for each example of a batch."""

from __future__ import annotations

import dataclasses
import random
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from instruct_lab.batching import Batch, Example, Reads
from instruct_lab.config import Component
from instruct_lab.data.conversation import Supervision

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Head = Literal["language", "score"]
"""What the model outputs: logits over the vocabulary, or one score for a whole text."""

ANY_SUPERVISION: frozenset[Supervision] = frozenset({"answers", "pairs", "text"})
"""Value of `Objective.needs` for objectives that train on whole texts: every kind of supervision except "labels".

Data with the kind "labels" marks each answer as desirable or undesirable. A model should not be trained to write the
undesirable ones."""


@dataclasses.dataclass(frozen=True, slots=True)
class Loss:
    """The summed loss and the count of every example of a batch.

    At the optimizer step, the losses of all micro-batches and devices are summed, and divided once by the sum of all
    counts.

    Args:
        sums: loss of each example, float32 `[examples]`: summed over its target tokens, or the loss of its preference
            pair; for KTO, summed over its answers. It is in nats if the loss is a negative log-likelihood.
        counts: what each example adds to the divisor, `[examples]`: its number of target tokens (int64), the sum of
            their weights (float32), or 1 for a preference pair; for KTO, the number of answers.
        values: other quantities of each example that are logged, such as the accuracy, keyed by name: float32
            `[examples]`, without gradients. The log shows their means. NaN means that an example has no such value;
            the mean leaves it out.
    """

    sums: Tensor
    counts: Tensor
    values: dict[str, Tensor] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class TokenScores:
    """How well the model predicts each target token of one example; each list has one item for each target token.

    Args:
        losses: negative log-likelihood of each target token, in nats.
        confidences: probability of the token that the model finds most likely at the target token's position.
        correct: whether this most likely token is the target token.
    """

    losses: list[float]
    confidences: list[float]
    correct: list[bool]


class Objective(Component, ABC):
    """Base class of objectives: each defines a loss that training minimises."""

    reads: ClassVar[Reads] = "answers"
    """The part of a conversation that the objective reads, and that an example therefore holds."""

    needs: ClassVar[frozenset[Supervision]] = frozenset({"answers", "text"})
    """Kinds of supervision that the objective can learn from; the data (`Data.gives`) has to provide at least one."""

    head: ClassVar[Head] = "language"
    """The kind of output that a model needs for this objective."""

    is_likelihood: ClassVar[bool] = True
    """True if the evaluation loss is the target tokens' negative log-likelihood: its exponential is a perplexity."""

    generates: ClassVar[bool] = True
    """True if a model trained with this objective can answer prompts."""

    has_independent_examples: ClassVar[bool] = True
    """True if the loss of an example does not depend on the rest of its batch, so that the batch can be divided."""

    needs_reference: ClassVar[bool] = False
    """True if the loss compares the model with its base model."""

    reads_packed: ClassVar[bool] = False
    """True if the loss can be computed on packed rows, which join several texts. Then all of its forward passes have to
    go through functions that read `Batch.packing`, such as `target_logits`."""

    learning_rate_scale: ClassVar[float] = 1.0
    """Factor that turns the usual learning rate of supervised fine-tuning into a suitable one for this objective."""

    value_names: ClassVar[frozenset[str]] = frozenset()
    """Names of the quantities that the objective logs for each example besides the loss: the keys of `Loss.values`."""

    pair_values: ClassVar[frozenset[str]] = frozenset()
    """Keys of `Loss.values` that exist only for preference pairs."""

    def values_of(self, gives: frozenset[Supervision]) -> frozenset[str]:
        """Return the names of the quantities that are logged besides the loss (the keys of `Loss.values`).

        Args:
            gives: the kinds of supervision that the data has ("answers", "pairs", ...).
        """
        return self.value_names if "pairs" in gives else self.value_names - self.pair_values

    @abstractmethod
    def loss(self, model: PreTrainedModel, batch: Batch, teacher: Any = None) -> Loss:
        """Compute the summed loss and the count of every example of the batch.

        Args:
            model: a model of a family that the objective supports, with or without adapters. Label smoothing and
                similar terms apply only if the model is in training mode.
            batch: a batch of examples, encoded for the model's family and for the part of a conversation that the
                objective reads (`reads`).
            teacher: the second model that `load_teacher` returned, or `None`.
        """

    def corrupt(self, example: Example, tokenizer: PreTrainedTokenizerBase, source: random.Random) -> Example:
        """Return a masked or corrupted copy of an example; by default, return the example unchanged.

        All random numbers must come from `source`. This method is called each time an example enters a batch. In
        training, the seed of `source` depends on the run's seed, the epoch and the example's index, not on the batch
        size or the number of devices. In evaluation, it depends only on the example's id, so all runs are evaluated on
        the same masks.
        """
        return example

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Check that the tokenizer has the special tokens that this objective needs.

        Raises:
            InstructLabError: the tokenizer lacks such a token.
        """

    @property
    def takes_reference_from_batch(self) -> bool:
        """Whether each batch has to hold precomputed log-probabilities of its answers under the base model."""
        return False

    def load_teacher(self, tokenizer: PreTrainedTokenizerBase, cache_path: Path, device: Any) -> Any:
        """Load the second model that the loss needs, frozen and in evaluation mode; by default, return `None`."""
        return None

"""The base class of objectives, which compute summed losses and their counts from a batch and a model."""

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
"""Value of `Objective.needs` for objectives that train on whole texts: every kind of supervision except labels.

In data with labels, answers may be marked as undesirable, so a model should not be trained to write them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Loss:
    """The summed loss and the count of every example of a batch.

    At the optimizer step, the sum over all micro-batches and devices is divided once by the sum of all counts.

    Args:
        sums: summed losses, float32 `[examples]`; in nats if the loss is a negative log-likelihood.
        counts: count of each example, `[examples]`: the number of target tokens (int64), the sum of their weights
            (float32), or 1 for a pair; for KTO, the number of answers.
        values: further values of each example, float32 `[examples]`, without gradients. Their means are logged; NaN
            marks an example without a value, which the mean ignores.
    """

    sums: Tensor
    counts: Tensor
    values: dict[str, Tensor] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class TokenScores:
    """How well the model predicts each label of one example; each list has one entry for each label.

    Args:
        losses: negative log-likelihood of each label, in nats.
        confidences: probability of the most likely token at each label's position.
        correct: whether the most likely token is the label.
    """

    losses: list[float]
    confidences: list[float]
    correct: list[bool]


class Objective(Component, ABC):
    """Base class of the losses that training minimises."""

    reads: ClassVar[Reads] = "answers"
    """The part of a conversation that the objective reads, and that an example therefore holds."""

    needs: ClassVar[frozenset[Supervision]] = frozenset({"answers", "text"})
    """Kinds of supervision that the objective can learn from, of which the data has to provide at least one; see
    `instruct_lab.data.Data.gives`."""

    head: ClassVar[Head] = "language"
    """The kind of output that a model needs for this objective."""

    is_likelihood: ClassVar[bool] = True
    """True if the evaluation loss is the labels' negative log-likelihood, so that its exponential is a perplexity."""

    generates: ClassVar[bool] = True
    """True if a model trained with this objective can answer prompts."""

    has_independent_examples: ClassVar[bool] = True
    """True if the loss of an example does not depend on the rest of its batch, so that the batch can be divided."""

    needs_reference: ClassVar[bool] = False
    """True if the loss compares the model with its base model."""

    reads_packed: ClassVar[bool] = False
    """True if the loss can be computed on packed rows: only functions that follow `Batch.packing`, such as
    `target_logits`, compute it."""

    learning_rate_scale: ClassVar[float] = 1.0
    """Suitable learning rate for this objective, as a multiple of the rate for supervised training."""

    value_names: ClassVar[frozenset[str]] = frozenset()
    """Names of the further values that the objective computes for each example: the keys of `Loss.values`."""

    pair_values: ClassVar[frozenset[str]] = frozenset()
    """Keys of `Loss.values` that exist only for preference pairs."""

    def values_of(self, gives: frozenset[Supervision]) -> frozenset[str]:
        """Return the keys that `Loss.values` has for data with the given kinds of supervision (pairs, labels, ...)."""
        return self.value_names if "pairs" in gives else self.value_names - self.pair_values

    @abstractmethod
    def loss(self, model: PreTrainedModel, batch: Batch, teacher: Any = None) -> Loss:
        """Compute the summed loss and the count of every example of the batch.

        Args:
            model: a model of one of `families`, with or without adapters. Label smoothing and similar terms apply only
                if the model is in training mode.
            batch: a batch whose layout fits the model's family and what the objective reads (`reads`).
            teacher: the result of `load_teacher`.
        """

    def corrupt(self, example: Example, tokenizer: PreTrainedTokenizerBase, source: random.Random) -> Example:
        """Return a masked or corrupted copy of an example; all random numbers must come from `source`.

        This is called each time an example enters a batch. In training, `source` depends on the run's seed, the epoch
        and the example's index, not on the batch size or the number of devices. In evaluation, it depends only on the
        example's id, so all runs are evaluated on the same masks.
        """
        return example

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Check that the tokenizer has the special tokens that this objective needs.

        Raises:
            InstructLabError: the tokenizer lacks such a token.
        """

    @property
    def takes_reference_from_batch(self) -> bool:
        """Whether the batch has to hold log-probabilities under the base model, computed before training."""
        return False

    def load_teacher(self, tokenizer: PreTrainedTokenizerBase, cache_path: Path, device: Any) -> Any:
        """Load the second model that the loss needs, frozen and in evaluation mode; return `None` if there is none."""
        return None

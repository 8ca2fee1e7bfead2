"""The base of objectives: from a batch and a model to a summed loss and the count it is divided by."""

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
    """Summed losses and their counts, one of each for every example of a batch.

    Nothing is divided here: at the optimizer step, the sum over all micro-batches and devices is divided once by the
    sum of all counts.

    Args:
        sums: float32 `[examples]`, nats where the loss is a likelihood.
        counts: `[examples]`: target tokens (int64), the sum of their weights (float32), or 1 for a pair.
        values: further values of each example, float32 `[examples]`, without gradients; their means are logged.
    """

    sums: Tensor
    counts: Tensor
    values: dict[str, Tensor] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class TokenScores:
    """How well the model predicts each label of one example, given the tokens before it.

    Args:
        losses: -log p of each label, in nats.
        confidences: p of the most likely token at each of these positions.
        correct: whether that token is the label.
    """

    losses: list[float]
    confidences: list[float]
    correct: list[bool]


class Objective(Component, ABC):
    """What training minimises."""

    reads: ClassVar[Reads] = "answers"
    """The part of a conversation that an example holds."""

    needs: ClassVar[frozenset[Supervision]] = frozenset({"answers", "text"})
    """What the data has to give; any one of these suffices. See `instruct_lab.data.Data.gives`."""

    head: ClassVar[Head] = "language"
    """The output that the model needs."""

    is_likelihood: ClassVar[bool] = True
    """True if the loss in evaluation is the negative log-likelihood of the labels: its exponential is a perplexity."""

    generates: ClassVar[bool] = True
    """True if a model that is trained with this objective can answer prompts."""

    needs_reference: ClassVar[bool] = False
    """True if the loss compares with the base model."""

    learning_rate_scale: ClassVar[float] = 1.0
    """Learning rate that suits this objective, as a multiple of the one that suits supervised training."""

    value_names: ClassVar[frozenset[str]] = frozenset()
    """Names in `Loss.values`."""

    @abstractmethod
    def loss(self, model: PreTrainedModel, batch: Batch, teacher: Any = None) -> Loss:
        """The summed loss and the count of every example of the batch.

        Args:
            model: of one of `families`, with or without adapters; its mode decides between training (label smoothing
                applies) and evaluation.
            batch: in the layout of `reads` and the model's family.
            teacher: the result of `load_teacher`.
        """

    def corrupt(self, example: Example, tokenizer: PreTrainedTokenizerBase, source: random.Random) -> Example:
        """Mask or damage an example, with random numbers only from `source`.

        Called for each example whenever it is put into a batch. The source depends on the run's seed, the epoch and the
        example's index, so that its numbers do not depend on the batch size or the number of devices. In evaluation
        they are the same every time.
        """
        return example

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse a tokenizer without a token that this objective needs.

        Raises:
            InstructLabError: the tokenizer does not have it.
        """

    @property
    def takes_reference_from_batch(self) -> bool:
        """Whether log-probabilities under the base model have to be computed before training."""
        return False

    def load_teacher(self, tokenizer: PreTrainedTokenizerBase, cache_path: Path, device: Any) -> Any:
        """Load another model that the loss needs, frozen and in evaluation mode; `None` for most objectives."""
        return None

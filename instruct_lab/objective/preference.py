"""Base classes of objectives that learn from chosen and rejected answers."""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from instruct_lab.batching import Batch, Reads
from instruct_lab.config import component
from instruct_lab.errors import InstructLabError
from instruct_lab.objective.base import Loss, Objective

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class PreferenceObjective(Objective, ABC):
    """Base class of objectives that compare the log-probabilities of a chosen and a rejected answer.

    The loss is averaged over pairs (of KTO, over answers). One forward pass reads both answers of each pair: a batch
    `[2 * examples, seq]`. Means over pairs are logged of the rewards that the loss implicitly gives to both answers, of
    their difference (the margin) and of the accuracy. A pair's accuracy is 1 if the chosen answer has the higher
    reward, 0.5 for a tie, and 0 otherwise.

    Encoders are refused, because they do not predict a text from left to right, so an answer has no probability.
    """

    families: ClassVar = frozenset({"decoder", "encoder-decoder"})
    reads: ClassVar[Reads] = "pairs"
    needs: ClassVar = frozenset({"pairs"})
    is_likelihood: ClassVar[bool] = False
    reads_packed: ClassVar[bool] = True
    value_names: ClassVar[frozenset[str]] = frozenset({"accuracy", "margin", "chosen_reward", "rejected_reward"})
    pair_values: ClassVar[frozenset[str]] = frozenset({"accuracy", "margin"})

    def _reference(self, model: Any, batch: Batch) -> Tensor | None:
        """Return the log-probabilities of the chosen and the rejected answers under the base model, `[examples, 2]`.

        The result is `None` if the objective does not use the base model.
        """
        return None


class PairObjective(PreferenceObjective, ABC):
    """Base class of preference objectives in which the loss of a pair depends only on that pair."""

    @abstractmethod
    def compare(self, chosen: Answers, rejected: Answers, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the loss of each pair, and the rewards of its two answers.

        Args:
            chosen: the chosen answers.
            rejected: the rejected answers.
            training: whether the model is in training mode, in which label smoothing applies.

        Returns:
            The losses, the rewards of the chosen answers and the rewards of the rejected answers, each `[examples]`.
        """

    def loss(self, model: PreTrainedModel, batch: Batch, teacher: Any = None) -> Loss:
        """Compute the loss of each pair; the count of each pair is 1, so the loss is averaged over pairs."""
        import torch

        from instruct_lab.objective.log_probabilities import sequence_log_probabilities

        sums, lengths = sequence_log_probabilities(model, batch)
        reference = self._reference(model, batch)
        half = len(sums) // 2
        chosen = Answers(sums[:half], lengths[:half], None if reference is None else reference[:, 0])
        rejected = Answers(sums[half:], lengths[half:], None if reference is None else reference[:, 1])
        losses, good, bad = self.compare(chosen, rejected, model.training)
        return Loss(losses, torch.ones_like(lengths[:half]), preference_values(good.detach(), bad.detach()))


class Answers:
    """The chosen or the rejected answers of a batch.

    Args:
        sums: log-probability of each answer, `[examples]`, in nats.
        lengths: number of target tokens of each answer, `[examples]`.
        reference: log-probability of each answer under the base model, `[examples]`; `None` if the objective does not
            use the base model.
    """

    def __init__(self, sums: Tensor, lengths: Tensor, reference: Tensor | None) -> None:
        self.sums, self.lengths, self._reference = sums, lengths, reference

    @property
    def means(self) -> Tensor:
        """Mean log-probability per token of each answer, `[examples]`."""
        return self.sums / self.lengths.clamp(min=1)

    @property
    def ratios(self) -> Tensor:
        """Log-ratio log(p / p_base) of each answer, `[examples]`."""
        assert self._reference is not None
        return self.sums - self._reference.to(self.sums)


def preference_values(chosen: Tensor, rejected: Tensor) -> dict[str, Tensor]:
    """Compute the values whose means are logged: both rewards, their margin and the accuracy, float32 `[examples]`.

    Args:
        chosen: reward of each example's chosen (or desirable) answer, `[examples]`; NaN if there is no such answer.
        rejected: reward of each example's rejected (or undesirable) answer, `[examples]`; NaN if there is none.

    Returns:
        The values, keyed by name; NaN where a reward is NaN.
    """
    margin = chosen - rejected
    return {
        "accuracy": ((margin.sign() + 1).float() / 2).masked_fill(margin.isnan(), math.nan),
        "margin": margin.float(),
        "chosen_reward": chosen.float(),
        "rejected_reward": rejected.float(),
    }


@component
class ReferenceObjective(PreferenceObjective, ABC):
    """Base class of preference objectives that compare the model with its base model."""

    needs_reference: ClassVar[bool] = True
    learning_rate_scale: ClassVar[float] = 0.05  # 1e-6 for full tuning, as in Rafailov et al., 2023

    beta: Annotated[float, Field(gt=0)] = 0.1  # smaller values allow a larger distance from the base model
    reference: Literal["precomputed", "adapters_off"] = (
        "precomputed"  # precomputed: run the base model once and cache the results; adapters_off: run it at each step
    )

    @property
    def takes_reference_from_batch(self) -> bool:
        """Whether each batch has to hold precomputed log-probabilities of its answers under the base model."""
        return self.reference == "precomputed"

    def _reference(self, model: Any, batch: Batch) -> Tensor | None:
        if self.takes_reference_from_batch:
            if batch.reference is None:
                raise InstructLabError(
                    "The batch holds no log-probabilities of the base model",
                    where="objective.reference",
                    do="set it to adapters_off, or let a run prepare the data",
                )
            return batch.reference
        return base_log_probabilities(model, batch).reshape(2, -1).T


def base_log_probabilities(model: Any, batch: Batch) -> Tensor:
    """Compute the log-probability of each row's target tokens under the base model (adapters disabled), `[rows]`."""
    import torch

    from instruct_lab.objective.log_probabilities import sequence_log_probabilities

    with without_adapters(model), torch.no_grad():
        sums, _ = sequence_log_probabilities(model, batch)
    return sums


@contextlib.contextmanager
def without_adapters(model: Any) -> Iterator[None]:
    """Disable the model's adapters and training mode inside the `with` block: it then computes as the base model.

    A model without adapters is taken to be the base model itself if gradients are disabled. It is an error if they are
    enabled.

    Raises:
        InstructLabError: the model has no adapters to disable, and gradients are enabled.
    """
    import torch

    if not hasattr(model, "disable_adapter"):
        if not torch.is_grad_enabled():
            yield
            return
        raise InstructLabError(
            "The base model cannot be restored by disabling adapters: this tuning method adds none",
            where="objective.reference",
            do="choose an adapter method, or objective.reference=precomputed if the objective has it",
        )
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with model.disable_adapter():
            yield
    finally:
        for module, mode in modes:
            module.training = mode

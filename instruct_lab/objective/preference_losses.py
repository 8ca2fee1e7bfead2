"""Losses that learn from preferred answers: DPO and its variants, KTO, ORPO, SimPO, CPO."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from instruct_lab.batching import Batch, Reads
from instruct_lab.config import component
from instruct_lab.errors import Refusal
from instruct_lab.objective.base import Loss
from instruct_lab.objective.preference import (
    Answers,
    PairObjective,
    ReferenceObjective,
    base_log_probabilities,
    preference_values,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@component
class DPO(ReferenceObjective, PairObjective):
    r"""Direct preference optimisation. The log-ratio of an answer y is log p(y|x) - log p_base(y|x).

    The loss of a pair depends on `loss_type`. h is the log-ratio of the chosen answer minus the log-ratio of the
    rejected answer, s is the logistic function, and e is `label_smoothing` (in evaluation, 0):

    - sigmoid: -(1 - e) log s(beta h) - e log s(-beta h). This is DPO (Rafailov et al., 2023) if e = 0, and conservative
      DPO (Mitchell, 2023) if e > 0. With `smoothing=robust`, it is
      (-(1 - e) log s(beta h) + e log s(-beta h)) / (1 - 2e) (Chowdhury et al., 2024).
    - ipo: (h' - 1 / (2 beta))^2, where h' uses log-ratios per token (Azar et al., 2023)
    - hinge: max(0, 1 - beta h) (Zhao et al., 2023, SLiC)

    The logged reward of an answer is beta times its log-ratio.
    """

    loss_type: Literal["sigmoid", "ipo", "hinge"] = "sigmoid"  # formula of the loss
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0  # e: assumed share of pairs whose answers are swapped
    smoothing: Literal["conservative", "robust"] = "conservative"  # how e enters the loss

    def __post_init__(self) -> None:
        if self.label_smoothing and self.loss_type != "sigmoid":
            raise Refusal("label_smoothing", f"shapes the sigmoid loss, and loss_type is {self.loss_type}", "0")
        if self.smoothing == "robust" and not self.label_smoothing:
            raise Refusal("smoothing", "needs label_smoothing above 0", "conservative")

    def compare(self, chosen: Answers, rejected: Answers, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the pairs' losses and the rewards of their chosen and their rejected answers, each `[examples]`."""
        from torch.nn import functional

        good, bad = chosen.ratios, rejected.ratios
        if self.loss_type == "ipo":
            per_token = good / chosen.lengths.clamp(min=1) - bad / rejected.lengths.clamp(min=1)
            losses = (per_token - 1 / (2 * self.beta)).square()
        elif self.loss_type == "hinge":
            losses = (1 - self.beta * (good - bad)).clamp(min=0)
        else:
            scaled = self.beta * (good - bad)
            e = self.label_smoothing if training else 0.0
            right, wrong = functional.logsigmoid(scaled), functional.logsigmoid(-scaled)
            if self.smoothing == "robust":
                losses = (-(1 - e) * right + e * wrong) / (1 - 2 * e)
            else:
                losses = -(1 - e) * right - e * wrong
        return losses, self.beta * good, self.beta * bad


@component
class KTO(ReferenceObjective):
    r"""Kahneman-Tversky optimisation of single answers, each marked as desirable or undesirable.

    An example is either one marked answer or a preference pair; the chosen answer of a pair counts as desirable, the
    rejected one as undesirable. The loss of a desirable answer is d (1 - s(beta (r - z))), and the loss of an
    undesirable answer is u (1 - s(beta (z - r))). s is the logistic function, d and u are weights, and r is the
    answer's log-probability under the model minus the one under the base model. The loss is averaged over answers.

    z estimates the divergence from the base model. Each prompt of the batch is combined with the answer (or chosen
    answer) of the next example; z is the mean of r over these mismatched answers, or 0 if the mean is negative. It has
    no gradient. The loss therefore depends on the size of the batch, and batches are never divided into micro-batches.
    The size should be above 1, because a single example is combined with its own prompt. The base model also reads the
    mismatched answers, so it is run at each step, with adapters disabled.
    Source: Ethayarajh et al., 2024.
    """

    reads: ClassVar[Reads] = "labels"
    needs: ClassVar = frozenset({"pairs", "labels"})
    has_independent_examples: ClassVar[bool] = False

    reference: Literal["adapters_off"] = "adapters_off"  # the base model is run at each step
    desirable_weight: Annotated[float, Field(gt=0)] = 1.0  # d: weight of the loss of desirable answers
    undesirable_weight: Annotated[float, Field(gt=0)] = 1.0  # u: weight of the loss of undesirable answers

    def loss(self, model: PreTrainedModel, batch: Batch, teacher: Any = None) -> Loss:
        """Compute the loss of each example, summed over its answers; an example's count is its number of answers."""
        import torch

        from instruct_lab.objective.log_probabilities import sequence_log_probabilities
        from instruct_lab.objective.mismatched_answers import mismatch_answers

        mismatched = mismatch_answers(model, batch.chosen)
        with torch.no_grad():
            tuned, _ = sequence_log_probabilities(model, mismatched)
        divergence = (tuned - base_log_probabilities(model, mismatched)).mean().clamp(min=0)  # z
        sums, _ = sequence_log_probabilities(model, batch)
        ratios = sums - base_log_probabilities(model, batch)  # [rows]
        desirable, owners = labels_of_rows(batch)
        losses = torch.where(
            desirable,
            self.desirable_weight * (1 - torch.sigmoid(self.beta * (ratios - divergence))),
            self.undesirable_weight * (1 - torch.sigmoid(self.beta * (divergence - ratios))),
        )
        total = torch.zeros_like(losses[: batch.num_examples]).index_add(0, owners, losses)
        rewards = self.beta * ratios.detach()
        good, bad = torch.full_like(total.detach(), math.nan), torch.full_like(total.detach(), math.nan)
        good[owners[desirable]], bad[owners[~desirable]] = rewards[desirable], rewards[~desirable]
        counts = torch.bincount(owners, minlength=batch.num_examples)
        return Loss(total, counts, preference_values(good, bad))


def labels_of_rows(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return which answers of a batch are desirable; each row of the batch has one answer.

    If the batch does not mark its answers, it consists of pairs, whose chosen answers are desirable.

    Returns:
        Whether each row's answer is desirable, bool `[rows]`, and the index of the row's example, int64 `[rows]`.
    """
    import torch

    if batch.desirable is not None and batch.owners is not None:
        return batch.desirable, batch.owners
    examples = torch.arange(batch.num_examples, device=batch.input_ids.device)
    return torch.arange(len(batch.input_ids), device=examples.device) < batch.num_examples, examples.repeat(2)


@component
class ORPO(PairObjective):
    r"""Odds-ratio preference optimisation: L_c - w log s(log odds(y_c) - log odds(y_r)), without a reference model.

    y_c and y_r are the chosen and the rejected answer, L_c is the chosen answer's mean cross-entropy per token, w is
    `weight`, and s is the logistic function. odds(y) = P / (1 - P), where P is the exponential of the mean
    log-probability per token of y. The logged reward of an answer is w times this mean. Source: Hong et al., 2024.
    """

    weight: Annotated[float, Field(gt=0)] = 0.1  # w: weight of the odds-ratio term

    def compare(self, chosen: Answers, rejected: Answers, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the pairs' losses and the rewards of their chosen and their rejected answers, each `[examples]`."""
        import torch
        from torch.nn import functional

        def log_odds(means: Tensor) -> Tensor:
            return means - torch.log(-torch.expm1(means.clamp(max=-1e-7)))

        good, bad = chosen.means, rejected.means
        losses = -good - self.weight * functional.logsigmoid(log_odds(good) - log_odds(bad))
        return losses, self.weight * good, self.weight * bad


@component
class SimPO(PairObjective):
    r"""Simple preference optimisation: -log s(beta (m_c - m_r) - gamma), without a reference model.

    m_c and m_r are the mean log-probabilities per token of the chosen and the rejected answer, s is the logistic
    function, and gamma = `gamma_ratio` * beta is the required margin. The logged rewards are beta m_c and beta m_r.
    Source: Meng et al., 2024.
    """

    beta: Annotated[float, Field(gt=0)] = 2.0  # scale of the rewards
    gamma_ratio: Annotated[float, Field(ge=0)] = 0.5  # gamma as a share of beta

    def compare(self, chosen: Answers, rejected: Answers, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the pairs' losses and the rewards of their chosen and their rejected answers, each `[examples]`."""
        from torch.nn import functional

        good, bad = self.beta * chosen.means, self.beta * rejected.means
        return -functional.logsigmoid(good - bad - self.gamma_ratio * self.beta), good, bad


@component
class CPO(PairObjective):
    r"""Contrastive preference optimisation: -log s(beta (log p_c - log p_r)) - a m_c, without a reference model.

    The first term compares the probabilities p_c and p_r of the chosen and the rejected answer; s is the logistic
    function. The second term, with the weight a, is supervised training on the chosen answer; m_c is its mean
    log-probability per token. The logged rewards are beta log p_c and beta log p_r. Source: Xu et al., 2024.
    """

    beta: Annotated[float, Field(gt=0)] = 0.1  # scale of the rewards
    cloning_weight: Annotated[float, Field(ge=0)] = 1.0  # a: weight of the second term
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0  # assumed share of pairs whose answers are swapped

    def compare(self, chosen: Answers, rejected: Answers, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the pairs' losses and the rewards of their chosen and their rejected answers, each `[examples]`."""
        from torch.nn import functional

        e = self.label_smoothing if training else 0.0
        good, bad = self.beta * chosen.sums, self.beta * rejected.sums
        preferred = -(1 - e) * functional.logsigmoid(good - bad) - e * functional.logsigmoid(bad - good)
        return preferred - self.cloning_weight * chosen.means, good, bad

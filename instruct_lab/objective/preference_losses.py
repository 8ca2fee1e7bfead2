"""Losses of pairs of answers to one prompt: DPO and its variants, KTO, ORPO, SimPO, CPO."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from instruct_lab.batching import Batch
from instruct_lab.config import component
from instruct_lab.errors import Refusal
from instruct_lab.objective.base import Loss
from instruct_lab.objective.preference import (
    Answers,
    PairObjective,
    ReferenceObjective,
    preference_values,
    without_adapters,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@component
class DPO(ReferenceObjective, PairObjective):
    r"""Direct preference optimisation. With h = log-ratio of the chosen minus that of the rejected answer:

    - sigmoid: -(1 - e) log s(beta h) - e log s(-beta h) (Rafailov et al., 2023; e: conservative DPO, Mitchell, 2023);
      with `smoothing=robust` (-(1 - e) log s(beta h) + e log s(-beta h)) / (1 - 2e) (Chowdhury et al., 2024)
    - ipo: (h' - 1 / (2 beta))^2, h' of log-ratios for each token (Azar et al., 2023)
    - hinge: max(0, 1 - beta h) (Zhao et al., 2023, SLiC)

    s is the logistic function; a log-ratio is log p(y|x) - log p_base(y|x). Rewards are beta times log-ratios.
    """

    loss_type: Literal["sigmoid", "ipo", "hinge"] = "sigmoid"  # see above
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0  # e: assumed share of swapped labels
    smoothing: Literal["conservative", "robust"] = "conservative"  # how e enters the loss

    def __post_init__(self) -> None:
        if self.label_smoothing and self.loss_type != "sigmoid":
            raise Refusal("label_smoothing", f"shapes the sigmoid loss, and loss_type is {self.loss_type}", "0")
        if self.smoothing == "robust" and not self.label_smoothing:
            raise Refusal("smoothing", "needs label_smoothing above 0", "conservative")

    def compare(self, chosen: Answers, rejected: Answers, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The losses and the rewards of both answers, each `[examples]`."""
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
    r"""Kahneman-Tversky optimisation of single answers: the chosen are desirable, the rejected undesirable.

    Loss of a pair: d (1 - s(beta (r_c - z))) + u (1 - s(beta (z - r_r))), r the log-ratio of an answer to the base
    model, and z = max(0, mean over the batch of the log-ratio of another prompt's chosen answer), without gradient.
    Source: Ethayarajh et al., 2024. Since z is estimated within a micro-batch, the loss depends on its size, and a
    batch of one pair estimates z from its own answer. The base model reads the mismatched answers too, so adapters
    are disabled for it.
    """

    reference: Literal["adapters_off"] = "adapters_off"  # the base model reads pairs that are formed in each batch
    desirable_weight: Annotated[float, Field(gt=0)] = 1.0  # d
    undesirable_weight: Annotated[float, Field(gt=0)] = 1.0  # u

    def loss(self, model: PreTrainedModel, batch: Batch, teacher: Any = None) -> Loss:
        """Sums and counts for each pair, each `[examples]`."""
        import torch

        from instruct_lab.objective.log_probabilities import sequence_log_probabilities
        from instruct_lab.objective.mismatched_answers import mismatch_answers

        other = mismatch_answers(model, batch.chosen)
        with torch.no_grad():
            tuned, _ = sequence_log_probabilities(model, other)
        with without_adapters(model), torch.no_grad():
            plain, _ = sequence_log_probabilities(model, other)
        self_divergence = (tuned - plain).mean().clamp(min=0)  # z
        sums, lengths = sequence_log_probabilities(model, batch)
        reference = self._reference(model, batch)
        assert reference is not None
        half = len(sums) // 2
        good, bad = sums[:half] - reference[:, 0], sums[half:] - reference[:, 1]
        losses = self.desirable_weight * (1 - torch.sigmoid(self.beta * (good - self_divergence)))
        losses = losses + self.undesirable_weight * (1 - torch.sigmoid(self.beta * (self_divergence - bad)))
        values = preference_values(self.beta * good.detach(), self.beta * bad.detach())
        return Loss(losses, torch.ones_like(lengths[:half]), values)


@component
class ORPO(PairObjective):
    r"""Odds-ratio preference optimisation: L_c - w log s(log odds(y_c) - log odds(y_r)); no base model.

    L_c is the chosen answer's mean cross-entropy a token, odds(y) = P / (1 - P) with P the exponential of the mean
    log-probability a token, s the logistic function. Source: Hong et al., 2024. Rewards are w times the mean
    log-probabilities.
    """

    weight: Annotated[float, Field(gt=0)] = 0.1  # w

    def compare(self, chosen: Answers, rejected: Answers, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The losses and the rewards of both answers, each `[examples]`."""
        import torch
        from torch.nn import functional

        def log_odds(means: Tensor) -> Tensor:
            return means - torch.log(-torch.expm1(means.clamp(max=-1e-7)))

        good, bad = chosen.means, rejected.means
        losses = -good - self.weight * functional.logsigmoid(log_odds(good) - log_odds(bad))
        return losses, self.weight * good, self.weight * bad


@component
class SimPO(PairObjective):
    r"""Simple preference optimisation: -log s(beta (m_c - m_r) - gamma), m the mean log-probability a token.

    gamma = `gamma_ratio` * beta is the required margin. No base model, and no reward for length. Source:
    Meng et al., 2024. Rewards are beta times m.
    """

    beta: Annotated[float, Field(gt=0)] = 2.0  # scale of the rewards
    gamma_ratio: Annotated[float, Field(ge=0)] = 0.5  # margin, as a share of beta

    def compare(self, chosen: Answers, rejected: Answers, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The losses and the rewards of both answers, each `[examples]`."""
        from torch.nn import functional

        good, bad = self.beta * chosen.means, self.beta * rejected.means
        return -functional.logsigmoid(good - bad - self.gamma_ratio * self.beta), good, bad


@component
class CPO(PairObjective):
    r"""Contrastive preference optimisation: -log s(beta (log p_c - log p_r)) - a m_c, m_c the chosen's mean a token.

    The first term compares without a base model, the second clones the chosen answer. Source: Xu et al., 2024.
    Rewards are beta times log-probabilities.
    """

    beta: Annotated[float, Field(gt=0)] = 0.1  # scale of the preference
    cloning_weight: Annotated[float, Field(ge=0)] = 1.0  # a
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0  # assumed share of swapped labels

    def compare(self, chosen: Answers, rejected: Answers, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The losses and the rewards of both answers, each `[examples]`."""
        from torch.nn import functional

        e = self.label_smoothing if training else 0.0
        good, bad = self.beta * chosen.sums, self.beta * rejected.sums
        preferred = -(1 - e) * functional.logsigmoid(good - bad) - e * functional.logsigmoid(bad - good)
        return preferred - self.cloning_weight * chosen.means, good, bad

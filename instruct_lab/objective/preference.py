"""Objectives over pairs of answers to one prompt, one chosen and one rejected."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from instruct_lab.batching import Batch, Reads
from instruct_lab.config import component
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.objective.base import Loss, Objective

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class Preference(Objective, ABC):
    """Compares the log-probabilities of a chosen and a rejected answer; each pair counts 1.

    Both are read in one forward pass: rows `[2 * examples, seq]`. A model's implicit reward of an answer is told of
    each pair, with the margin between the two and whether the chosen one's is higher (a tie is half).

    An encoder gives a text no probability from left to right, and a score has no tokens: both are refused.
    """

    families: ClassVar = frozenset({"decoder", "encoder-decoder"})
    reads: ClassVar[Reads] = "pairs"
    needs: ClassVar = frozenset({"pairs"})
    is_likelihood: ClassVar[bool] = False
    value_names: ClassVar[frozenset[str]] = frozenset({"accuracy", "margin", "chosen_reward", "rejected_reward"})

    def _reference(self, model: Any, batch: Batch) -> Tensor | None:
        """Log-probabilities under the untuned model, `[examples, 2]`, where the objective compares with it."""
        return None


class Compared(Preference, ABC):
    """A preference whose loss of a pair needs nothing but that pair."""

    @abstractmethod
    def compare(self, chosen: Answers, rejected: Answers, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The loss and the rewards of the chosen and the rejected answers, each `[examples]`."""

    def loss(self, model: PreTrainedModel, batch: Batch, teacher: Any = None) -> Loss:
        """Sums and counts for each pair, each `[examples]`."""
        import torch

        from instruct_lab.objective._sequences import sequence_log_probabilities

        sums, lengths = sequence_log_probabilities(model, batch)
        reference = self._reference(model, batch)
        half = len(sums) // 2
        chosen = Answers(sums[:half], lengths[:half], None if reference is None else reference[:, 0])
        rejected = Answers(sums[half:], lengths[half:], None if reference is None else reference[:, 1])
        losses, good, bad = self.compare(chosen, rejected, model.training)
        return Loss(losses, torch.ones_like(lengths[:half]), preference_values(good.detach(), bad.detach()))


class Answers:
    """The answers of one side.

    Args:
        sums: log-probabilities, `[examples]`, in nats.
        lengths: numbers of target tokens, `[examples]`.
        reference: log-probabilities under the untuned model, `[examples]`.
    """

    def __init__(self, sums: Tensor, lengths: Tensor, reference: Tensor | None) -> None:
        self.sums, self.lengths, self._reference = sums, lengths, reference

    @property
    def means(self) -> Tensor:
        """Log-probability for each token."""
        return self.sums / self.lengths.clamp(min=1)

    @property
    def ratios(self) -> Tensor:
        """log(p / p_untuned)."""
        assert self._reference is not None
        return self.sums - self._reference.to(self.sums)


def preference_values(chosen: Tensor, rejected: Tensor) -> dict[str, Tensor]:
    """What is told of each pair, float32 `[examples]`, from the rewards of its answers."""
    margin = chosen - rejected
    return {
        "accuracy": (margin.sign() + 1).float() / 2,
        "margin": margin.float(),
        "chosen_reward": chosen.float(),
        "rejected_reward": rejected.float(),
    }


@component
class WithReference(Preference, ABC):
    """A preference objective that compares with the untuned model."""

    needs_reference: ClassVar[bool] = True
    learning_rate_scale: ClassVar[float] = 0.05  # 1e-6 for full tuning, as in Rafailov et al., 2023

    beta: Annotated[float, Field(gt=0)] = 0.1  # how far from the untuned model: small is far
    reference: Literal["precomputed", "adapters_off"] = (
        "precomputed"  # once for all data, kept in the cache; or at each step with the adapters switched off
    )

    @property
    def takes_reference_from_batch(self) -> bool:
        """Whether log-probabilities under the untuned model have to be computed before training."""
        return self.reference == "precomputed"

    def _reference(self, model: Any, batch: Batch) -> Tensor | None:
        if self.takes_reference_from_batch:
            if batch.reference is None:
                raise InstructLabError(
                    "The batch holds no log-probabilities of the untuned model",
                    where="objective.reference",
                    do="set it to adapters_off, or let a run prepare the data",
                )
            return batch.reference
        import torch

        from instruct_lab.objective._sequences import sequence_log_probabilities

        with untuned(model), torch.no_grad():
            sums, _ = sequence_log_probabilities(model, batch)
        return sums.reshape(2, -1).T


@contextlib.contextmanager
def untuned(model: Any) -> Any:
    """The model without its adapters and without dropout.

    A model without adapters that is only measured (no gradients are recorded) is the untuned one itself.

    Raises:
        InstructLabError: it is trained, and has no adapters that could be switched off.
    """
    import torch

    if not hasattr(model, "disable_adapter"):
        if not torch.is_grad_enabled():
            yield
            return
        raise InstructLabError(
            "The untuned model cannot be had by switching adapters off: this tuning method adds none",
            where="objective.reference",
            do="choose an adapter method, or objective.reference=precomputed where the objective has it",
        )
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with model.disable_adapter():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@component
class DPO(WithReference, Compared):
    r"""Direct preference optimisation. With h = log-ratio of the chosen minus that of the rejected answer:

    - sigmoid: -(1 - e) log s(beta h) - e log s(-beta h) (Rafailov et al., 2023; e: conservative DPO, Mitchell, 2023);
      with `smoothing=robust` (-(1 - e) log s(beta h) + e log s(-beta h)) / (1 - 2e) (Chowdhury et al., 2024)
    - ipo: (h' - 1 / (2 beta))^2, h' of log-ratios for each token (Azar et al., 2023)
    - hinge: max(0, 1 - beta h) (Zhao et al., 2023, SLiC)

    s is the logistic function; a log-ratio is log p(y|x) - log p_untuned(y|x). Rewards are beta times log-ratios.
    """

    loss_type: Literal["sigmoid", "ipo", "hinge"] = "sigmoid"  # see above
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0  # e: how often labels are the wrong way round
    smoothing: Literal["conservative", "robust"] = "conservative"  # what is made of e

    def __post_init__(self) -> None:
        if self.label_smoothing and self.loss_type != "sigmoid":
            raise Refusal("label_smoothing", f"shapes the sigmoid loss, and loss_type is {self.loss_type}", "0")
        if self.smoothing == "robust" and not self.label_smoothing:
            raise Refusal("smoothing", "needs label_smoothing above 0", "conservative")

    def compare(self, chosen: Answers, rejected: Answers, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """See `Preference.compare`."""
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
class KTO(WithReference):
    r"""Kahneman-Tversky optimisation of single answers: the chosen are desirable, the rejected undesirable.

    Loss of a pair: d (1 - s(beta (r_c - z))) + u (1 - s(beta (z - r_r))), r the log-ratio of an answer to the untuned
    model, and z = max(0, mean over the batch of the log-ratio of another prompt's chosen answer), without gradient.
    Source: Ethayarajh et al., 2024. Since z is estimated within a micro-batch, the loss depends on its size, and a
    batch of one pair estimates z from its own answer. The untuned model reads the mismatched answers too, so adapters
    are switched off for it.
    """

    reference: Literal["adapters_off"] = "adapters_off"  # the untuned model reads pairs that each batch makes anew
    desirable_weight: Annotated[float, Field(gt=0)] = 1.0  # d
    undesirable_weight: Annotated[float, Field(gt=0)] = 1.0  # u

    def loss(self, model: PreTrainedModel, batch: Batch, teacher: Any = None) -> Loss:
        """Sums and counts for each pair, each `[examples]`."""
        import torch

        from instruct_lab.objective._mismatched import mismatched
        from instruct_lab.objective._sequences import sequence_log_probabilities

        other = mismatched(model, batch.chosen)
        with torch.no_grad():
            tuned, _ = sequence_log_probabilities(model, other)
        with untuned(model), torch.no_grad():
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
class ORPO(Compared):
    r"""Odds-ratio preference optimisation: L_c - w log s(log odds(y_c) - log odds(y_r)); no untuned model.

    L_c is the chosen answer's mean cross-entropy a token, odds(y) = P / (1 - P) with P the exponential of the mean
    log-probability a token, s the logistic function. Source: Hong et al., 2024. Rewards are w times the mean
    log-probabilities.
    """

    weight: Annotated[float, Field(gt=0)] = 0.1  # w

    def compare(self, chosen: Answers, rejected: Answers, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """See `Preference.compare`."""
        import torch
        from torch.nn import functional

        def log_odds(means: Tensor) -> Tensor:
            return means - torch.log(-torch.expm1(means.clamp(max=-1e-7)))

        good, bad = chosen.means, rejected.means
        losses = -good - self.weight * functional.logsigmoid(log_odds(good) - log_odds(bad))
        return losses, self.weight * good, self.weight * bad


@component
class SimPO(Compared):
    r"""Simple preference optimisation: -log s(beta (m_c - m_r) - gamma), m the mean log-probability a token.

    gamma = `gamma_ratio` * beta is the margin that is asked for. No untuned model, and length does not pay. Source:
    Meng et al., 2024. Rewards are beta times m.
    """

    beta: Annotated[float, Field(gt=0)] = 2.0  # scale of the rewards
    gamma_ratio: Annotated[float, Field(ge=0)] = 0.5  # margin, as a share of beta

    def compare(self, chosen: Answers, rejected: Answers, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """See `Preference.compare`."""
        from torch.nn import functional

        good, bad = self.beta * chosen.means, self.beta * rejected.means
        return -functional.logsigmoid(good - bad - self.gamma_ratio * self.beta), good, bad


@component
class CPO(Compared):
    r"""Contrastive preference optimisation: -log s(beta (log p_c - log p_r)) - a m_c, m_c the chosen's mean a token.

    The first term prefers without an untuned model, the second clones the chosen answer. Source: Xu et al., 2024.
    Rewards are beta times log-probabilities.
    """

    beta: Annotated[float, Field(gt=0)] = 0.1  # scale of the preference
    cloning_weight: Annotated[float, Field(ge=0)] = 1.0  # a
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0  # how often labels are the wrong way round

    def compare(self, chosen: Answers, rejected: Answers, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """See `Preference.compare`."""
        from torch.nn import functional

        e = self.label_smoothing if training else 0.0
        good, bad = self.beta * chosen.sums, self.beta * rejected.sums
        preferred = -(1 - e) * functional.logsigmoid(good - bad) - e * functional.logsigmoid(bad - good)
        return preferred - self.cloning_weight * chosen.means, good, bad

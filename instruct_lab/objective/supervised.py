"""Supervised fine-tuning: cross-entropy of the target tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.batching import Batch
from instruct_lab.config import component
from instruct_lab.objective.base import Loss, Objective

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@component
class Supervised(Objective):
    r"""Next-token cross-entropy of the target tokens: -sum_t log p(y_t | y_<t, x), summed in float32.

    With label smoothing e, each target's loss is (1 - e) times its cross-entropy plus e times the mean cross-entropy
    over the vocabulary (Szegedy et al., 2016). Logits are computed at target positions only. Reported perplexities are
    always those of the unsmoothed loss.
    """

    families: ClassVar = frozenset({"decoder"})
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # e above

    def loss(self, model: PreTrainedModel, batch: Batch, teacher: Any = None) -> Loss:
        """Sums and counts for each row, each `[batch]`."""
        import torch
        from torch.nn import functional

        from instruct_lab.objective._target_logits import target_logits

        logits, targets, rows = target_logits(model, batch)  # [targets, vocab], [targets], [targets]
        smoothing = self.label_smoothing if model.training else 0.0
        losses = functional.cross_entropy(logits.float(), targets, reduction="none", label_smoothing=smoothing)
        sums = torch.zeros(len(batch.labels), device=losses.device, dtype=losses.dtype).index_add(0, rows, losses)
        return Loss(sums=sums, counts=torch.bincount(rows, minlength=len(batch.labels)))

"""An example of an objective of your own: for each row, it returns the summed loss and the number of target tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.batching import IGNORED, Batch
from instruct_lab.config import component
from instruct_lab.objective import Loss, Objective

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@component
class Focal(Objective):
    """Focal loss: -sum_t (1 - p_t)^gamma log p_t over the target tokens t. Source: Lin et al., 2017.

    p_t is the probability that the model gives to the target token t. Tokens that the model already predicts well count
    less than with cross-entropy. In evaluation gamma is 0, so that the loss is the negative log-likelihood, from which
    the perplexity is computed.
    """

    families: ClassVar = frozenset({"decoder"})

    gamma: Annotated[float, Field(ge=0)] = 2.0  # how strongly well predicted tokens are weighted down; 0: cross-entropy

    def loss(self, model: PreTrainedModel, batch: Batch, teacher: Any = None) -> Loss:
        """Return the summed loss and the number of target tokens of each row of a batch, both of shape `[rows]`.

        For each optimizer step, the framework divides the sum of all losses by the number of all target tokens.

        Args:
            model: the model.
            batch: the batch; each row is one example.
            teacher: the teacher model of objectives that distil one; this objective does not use it.
        """
        import torch

        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        labels = batch.labels[:, 1:]  # [rows, seq - 1]
        logits = logits[:, -batch.labels.shape[1] : -1].float()  # [rows, seq - 1, vocab], without virtual tokens
        losses = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
        )  # [rows, seq - 1]; 0 for tokens without a target
        if model.training:
            losses = losses * (1 - torch.exp(-losses)) ** self.gamma
        return Loss(losses.sum(dim=1), (labels != IGNORED).sum(dim=1))

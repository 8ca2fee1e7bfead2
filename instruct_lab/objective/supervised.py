"""Next-token cross-entropy: supervised fine-tuning and causal language modelling."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.batching import Batch, Reads
from instruct_lab.config import component
from instruct_lab.objective.base import ANY_SUPERVISION, Loss, Objective

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@component
class Supervised(Objective):
    r"""Next-token cross-entropy of the target tokens: -sum_t w_t log p(y_t | y_<t, x), summed in float32.

    w_t is the weight of the token. With label smoothing e, each target's loss is (1 - e) times its cross-entropy plus e
    times the mean cross-entropy over the vocabulary (Szegedy et al., 2016). The z-loss adds c (log Z_t)^2 to each
    target's loss, where Z_t is the denominator of the softmax and c is `z_loss`; it keeps logits from drifting
    (Chowdhery et al., 2022, PaLM). Label smoothing and z-loss apply only in training, so perplexities are computed from
    the plain cross-entropy.

    Encoders are refused, because they read every token at once, including the token to predict.
    """

    families: ClassVar = frozenset({"decoder", "encoder-decoder"})
    reads_packed: ClassVar[bool] = True
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # e: label smoothing in training
    z_loss: Annotated[float, Field(ge=0)] = 0.0  # c: weight of the z-loss in training; 1e-4 is usual
    message_weights: bool = True  # w_t is the weight of the token's message, if the data has weights; false: w_t is 1

    def loss(self, model: PreTrainedModel, batch: Batch, teacher: Any = None) -> Loss:
        """Compute each example's summed loss and count: its number of target tokens, or the sum of their weights."""
        import torch

        from instruct_lab.objective.target_logits import label_weights, sum_by_row, target_values, token_losses

        smoothing, z_loss = (self.label_smoothing, self.z_loss) if model.training else (0.0, 0.0)
        evaluate = token_losses
        if smoothing or z_loss:
            evaluate = functools.partial(token_losses, label_smoothing=smoothing, z_loss=z_loss)
        losses, _, rows = target_values(model, batch, evaluate)  # each [targets]
        count = len(batch.labels)
        if batch.weights is None or not self.message_weights:
            return Loss(sum_by_row(losses, rows, count), torch.bincount(rows, minlength=count))
        weights = label_weights(model, batch)  # [targets]
        return Loss(sum_by_row(losses * weights, rows, count), sum_by_row(weights, rows, count))


@component
class Causal(Supervised):
    r"""Next-token cross-entropy of all tokens, -sum_t log p(x_t | x_<t), for continued pretraining on texts.

    This is the loss of `Supervised`, but every token of the text is a target token (Radford et al., 2019). This
    objective is only for decoders: an encoder-decoder would copy its input, and an encoder reads every token at once.
    """

    families: ClassVar = frozenset({"decoder"})
    reads: ClassVar[Reads] = "text"
    needs: ClassVar = ANY_SUPERVISION

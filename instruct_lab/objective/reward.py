"""The objective of reward models, which compute one score for a whole text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.batching import Batch, Reads
from instruct_lab.config import component
from instruct_lab.objective.base import Head, Loss, Objective
from instruct_lab.objective.preference import PreferenceObjective, preference_values

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@component
class Reward(Objective):
    r"""Pairwise loss of a reward model: -log s(r_c - r_r) + c (r_c + r_r)^2.

    r_c and r_r are the scores of the chosen and the rejected text, and s is the logistic function (Ouyang et al., 2022,
    after Bradley and Terry, 1952). The second term, with the weight c, keeps scores around 0 (Eisenstein et al., 2023).
    Decoders compute the score at the last token, encoders at the first. Encoder-decoders are refused: transformers
    computes their score at the end token and requires the same number of end tokens in every text of a batch.
    """

    families: ClassVar = frozenset({"decoder", "encoder"})
    reads: ClassVar[Reads] = "pairs"
    needs: ClassVar = frozenset({"pairs"})
    head: ClassVar[Head] = "score"
    is_likelihood: ClassVar[bool] = False
    generates: ClassVar[bool] = False
    value_names: ClassVar[frozenset[str]] = PreferenceObjective.value_names

    centering: Annotated[float, Field(ge=0)] = 0.0  # c: weight of the second term; 0.01 is usual

    def loss(self, model: PreTrainedModel, batch: Batch, teacher: Any = None) -> Loss:
        """Compute the loss of each pair; the count of each pair is 1, so the loss is averaged over pairs.

        Raises:
            ValueError: the batch is packed.
        """
        import torch
        from torch.nn import functional

        from instruct_lab.model.score import score

        if batch.packing is not None:
            raise ValueError("a score is computed for each row, and a packed row holds several texts")
        scores = score(model, batch.input_ids, batch.attention_mask).float()  # [2 * examples]
        chosen, rejected = scores.chunk(2)
        losses = -functional.logsigmoid(chosen - rejected)
        if self.centering:
            losses = losses + self.centering * (chosen + rejected).square()
        return Loss(losses, torch.ones_like(chosen), preference_values(chosen.detach(), rejected.detach()))

"""Distillation: training a model (the student) to predict the same distribution of tokens as another (the teacher)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from instruct_lab.batching import Batch
from instruct_lab.config import component
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.model import Model
from instruct_lab.objective.base import Loss, Objective

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@component
class Distillation(Objective):
    r"""Divergence of the model from a teacher at the target tokens: sum_t (1 - a) T^2 D_t + a (-log q(y_t)).

    D_t is KL(p_t || q_t) (forward; Hinton et al., 2015) or KL(q_t || p_t) (reverse; Gu et al., 2024, MiniLLM). Here p_t
    and q_t are the distributions of the next token that the teacher and the trained model (the student) predict, both
    at temperature T. With `top_k`, both are restricted to the teacher's k most likely tokens and normalised again. The
    second term is the cross-entropy of the target token y_t at temperature 1, with the weight a = `target_weight`.

    The evaluation loss is this sum too, so no perplexity can be computed from it. Teacher and student need the same
    vocabulary. Encoders are refused, because they predict masked tokens.
    """

    families: ClassVar = frozenset({"decoder", "encoder-decoder"})
    is_likelihood: ClassVar[bool] = False
    reads_packed: ClassVar[bool] = True

    teacher: Model  # the model to learn from; it is frozen
    divergence: Literal["forward", "reverse"] = "forward"  # forward: KL(p || q); reverse: KL(q || p)
    temperature: Annotated[float, Field(gt=0)] = 1.0  # T: above 1, unlikely tokens weigh more
    target_weight: Annotated[float, Field(ge=0, lt=1)] = 0.0  # a: weight of the cross-entropy of the target tokens
    top_k: Annotated[int, Field(ge=2)] | None = None  # only the teacher's most likely tokens; null: all

    def __post_init__(self) -> None:
        if self.teacher.family not in self.families:
            raise Refusal("teacher", f"is an {self.teacher.family}, which predicts masks")

    def load_teacher(self, tokenizer: PreTrainedTokenizerBase, cache_path: Path, device: Any) -> Any:
        """Load the teacher, frozen and in evaluation mode.

        Raises:
            InstructLabError: the teacher has a different vocabulary.
        """
        own = self.teacher.load_tokenizer(cache_path)
        if own.get_vocab() != tokenizer.get_vocab():
            raise InstructLabError(
                "The teacher's vocabulary differs from the model's, so their distributions cannot be compared",
                where="objective.teacher",
                do="choose a teacher of the same family of models",
            )
        return self.teacher.load(own, cache_path).model.to(device).requires_grad_(False).eval()

    def loss(self, model: PreTrainedModel, batch: Batch, teacher: Any = None) -> Loss:
        """Compute the summed loss and the number of target tokens of each example."""
        import torch
        from torch.nn import functional

        from instruct_lab.objective.target_logits import sum_by_row, target_logits, token_losses

        logits, targets, rows = target_logits(model, batch)
        with torch.no_grad():
            wanted, _, _ = target_logits(teacher, batch)
        student, known = logits.float() / self.temperature, wanted.float() / self.temperature
        vocabulary = min(student.shape[-1], known.shape[-1])  # the models may have different numbers of unused logits
        student, known = student[:, :vocabulary], known[:, :vocabulary]
        if self.top_k is not None:
            known, indices = known.topk(min(self.top_k, vocabulary), dim=-1)
            student = student.gather(1, indices)
        p, q = known.log_softmax(dim=-1), student.log_softmax(dim=-1)
        one, other = (q, p) if self.divergence == "forward" else (p, q)
        divergence = functional.kl_div(one, other, reduction="none", log_target=True).sum(dim=-1)  # [targets]
        losses = (1 - self.target_weight) * self.temperature**2 * divergence
        if self.target_weight:
            losses = losses + self.target_weight * token_losses(logits, targets)
        count = len(batch.labels)
        return Loss(sum_by_row(losses, rows, count), torch.bincount(rows, minlength=count))

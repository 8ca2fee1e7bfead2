"""The score that a model gives a whole text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from instruct_lab.model._family import family_of

if TYPE_CHECKING:
    from torch import Tensor


def score(model: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """One number for each text, in the model's type, `[rows]`.

    A decoder's stands at the last token by the attention mask. transformers looks for the last token that is not the
    pad token, and so reads another where a text ends in it.

    Args:
        model: loaded with the score head, adapted or not.
        input_ids: int64 `[rows, seq]`, padded on the right.
        attention_mask: int64 `[rows, seq]`.
    """
    if family_of(model) == "encoder":
        logits: Tensor = model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits[:, 0]
    told: list[Tensor] = []
    (name,) = model.new_modules
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    hook = getattr(base, name).register_forward_hook(lambda module, arguments, output: told.append(output))
    try:
        model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    finally:
        hook.remove()
    scores = told[0][..., 0]  # [rows, virtual + seq]
    last = scores.shape[1] - attention_mask.shape[1] + attention_mask.sum(dim=1) - 1
    return scores.gather(1, last[:, None])[:, 0]

"""The score of a whole text, computed by a model that has a score head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from instruct_lab.model.family import family_of, without_adapters

if TYPE_CHECKING:
    from torch import Tensor


def score_modules(model: Any, missing: list[str] | None = None) -> tuple[str, ...]:
    """Return the names of the score head's modules, which compute the score from the output of the pretrained layers.

    Args:
        model: a transformers model for sequence classification.
        missing: names of the model's tensors that the loaded weights do not have. An encoder's pooler counts as part of
            the head if the weights do not have its tensors. `None`: the pooler always counts as part of the head.
    """
    body = getattr(model, model.base_model_prefix)
    heads = [
        name for name, module in model.named_children() if module is not body and any(True for _ in module.parameters())
    ]
    pooler = getattr(body, "pooler", None)
    is_new = missing is None or any(".pooler." in f".{name}" for name in missing)
    return (*heads, "pooler") if pooler is not None and is_new else tuple(heads)


def score(model: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Compute the score of each text, `[rows]`, in the model's dtype.

    A decoder's score is read at the last token, which the attention mask determines. transformers instead reads the
    score at the last token that is not the pad token, which is wrong if a text ends with the pad token.

    Args:
        model: a model with the score head, with or without adapters.
        input_ids: int64 `[rows, seq]`, padded on the right.
        attention_mask: int64 `[rows, seq]`; 1 for tokens, 0 for padding.
    """
    if family_of(model) == "encoder":
        logits: Tensor = model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits[:, 0]
    outputs: list[Tensor] = []
    base = without_adapters(model)
    (name,) = score_modules(base)
    hook = getattr(base, name).register_forward_hook(lambda module, arguments, output: outputs.append(output))
    try:
        model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    finally:
        hook.remove()
    scores = outputs[0][..., 0]  # [rows, virtual + seq]
    last = scores.shape[1] - attention_mask.shape[1] + attention_mask.sum(dim=1) - 1
    return scores.gather(1, last[:, None])[:, 0]

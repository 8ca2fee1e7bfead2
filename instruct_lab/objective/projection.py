"""Forward passes that compute logits only for selected hidden states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def selected_logits(model: Any, inputs: dict[str, Any], select: Callable[[Tensor], Tensor]) -> Tensor:
    """Run the model, and compute logits only for the hidden states that `select` returns.

    The hidden states are selected at the input of the output projection. Everything that the model does after this
    point, such as scaling and soft-capping of logits, still happens. Adapters of the projection are applied too.

    Args:
        model: a language model of transformers, with or without adapters.
        inputs: arguments of the model's forward pass.
        select: function from the hidden states `[rows, seq, hidden]` to the selected ones, `[selected, hidden]`.

    Returns:
        Logits `[selected, vocab]`.
    """
    projection: nn.Module = model.get_output_embeddings()
    hook = projection.register_forward_pre_hook(lambda module, given: (select(given[0]), *given[1:]))
    try:
        logits: Tensor = model(**inputs).logits
    finally:
        hook.remove()
    if logits.dim() == 3:  # an output bias of shape [1, vocab] adds a dimension
        logits = logits[0]
    assert logits.dim() == 2, "the output projection was not called on the selected hidden states"
    return logits

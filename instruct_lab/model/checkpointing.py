"""Gradient checkpointing, which computes activations again in the backward pass instead of keeping them."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from instruct_lab.errors import InstructLabError

NAMES = {True: "full", False: "none"}
"""Values of `model.gradient_checkpointing`, keyed by the booleans that earlier versions used for them."""

LEAST_INNER = 256
"""Minimum inner dimension of a matrix product whose result `selective` keeps; the rank of adapters is usually below."""
ATTENTION = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_flash_attention_forward",
)
"""Names of the operations of torch that compute attention."""

Checkpointing = Annotated[
    Literal["none", "selective", "full"],
    BeforeValidator(
        lambda value: NAMES[value] if value in (True, False) else value,
        json_schema_input_type=Literal["none", "selective", "full"] | bool,
    ),
]
"""Which activations of a layer the backward pass computes again.

- `none`: nothing.
- `selective`: everything except large matrix products and attention.
- `full`: the whole layer.
"""


def checkpoint_gradients(model: Any, how: str) -> None:
    """Switch on gradient checkpointing of each layer.

    Args:
        model: a model of transformers.
        how: what the backward pass computes again: `none`: nothing; `selective`: a layer's activations except the
            results of attention and of large matrix products; `full`: the whole layer.

    Raises:
        InstructLabError: the class of the model does not support gradient checkpointing.
    """
    if how == "none":
        return
    settings: dict[str, Any] = {"use_reentrant": False}
    if how == "selective":
        settings["context_fn"] = _selective_contexts()
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    try:
        enable(settings)
    except ValueError as error:
        raise InstructLabError(
            f"Models of the class {model.config.model_type} keep all their activations",
            where="model.gradient_checkpointing",
            do="set it to none",
        ) from error
    set_input_gradients(model)


def is_checkpointing(model: Any) -> bool:
    """Whether gradient checkpointing is switched on for any module of the model."""
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def set_input_gradients(model: Any) -> None:
    """Set whether the outputs of the input embeddings require gradients in a model with gradient checkpointing.

    Reentrant gradient checkpointing (torch's `use_reentrant=True`) needs these gradients, so transformers and PEFT
    always switch them on. This package uses the other, non-reentrant variant for the architectures of transformers, so
    this function switches the gradients off for them. Otherwise, the backward pass would also run through the frozen
    layers below the lowest trained layer, and compute these layers again. For architectures from other packages, which
    may need the gradients, the function switches them on. A model without gradient checkpointing is not changed.
    """
    if not is_checkpointing(model):
        return
    if type(model).__module__.startswith("transformers."):
        model.disable_input_require_grads()
    else:
        model.enable_input_require_grads()


def _selective_contexts() -> Any:
    """Return the argument `context_fn` of `torch.utils.checkpoint` for selective gradient checkpointing.

    The results of attention and of large matrix products are kept, because these operations take most of the time.
    The other operations (norms, activation functions, rotary positions, low-rank adapters) are computed again, because
    they take little time and much of the memory. The attention scores of `attention: eager` are computed again too,
    since their size is quadratic in the length of a text.
    """
    import torch
    from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

    from instruct_lab.model.linear_layers import has_faster_products

    aten = torch.ops.aten
    attention = {getattr(aten, name).default for name in ATTENTION}
    products = {aten.mm.default: 0, aten.addmm.default: 1}  # with the index of the left matrix [n, inner]
    if has_faster_products():
        products[torch.ops.mkldnn._linear_pointwise.default] = 0

    def policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> Any:
        is_large = operation in products and args[products[operation]].shape[1] >= LEAST_INNER
        return CheckpointPolicy.MUST_SAVE if is_large or operation in attention else CheckpointPolicy.PREFER_RECOMPUTE

    return functools.partial(create_selective_checkpoint_contexts, policy)

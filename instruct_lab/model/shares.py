"""Sharded tensors, of which each device holds only a part, as in a model that FSDP2 has sharded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def is_sharded(model: nn.Module) -> bool:
    """Whether the model's parameters are sharded over devices."""
    return bool(getattr(model, "_is_fsdp_managed_module", False))


def whole(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor from all devices. A tensor that is not sharded is returned unchanged.

    For a sharded tensor, every rank must call this function.
    """
    gathered: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return gathered


def share_of_rank(tensor: Tensor) -> Tensor:
    """Return the part of a sharded tensor that is on this rank. A tensor that is not sharded is returned unchanged."""
    share: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return share


def layers_of(model: nn.Module) -> list[nn.Module]:
    """Return the model's layers: the elements of its outermost `ModuleList`s, except those without parameters."""
    from torch import nn

    found: list[nn.Module] = []
    for child in model.children():
        if isinstance(child, nn.ModuleList):
            found += [layer for layer in child if any(True for _ in layer.parameters())]
        else:
            found += layers_of(child)
    return found


def groups_of(model: nn.Module) -> list[list[nn.Parameter]]:
    """Split the parameters into the groups that FSDP2 gathers at once: one for each layer, and one for the rest."""
    groups = [list(layer.parameters()) for layer in layers_of(model)]
    in_layers = {id(parameter) for group in groups for parameter in group}
    return [*groups, [parameter for parameter in model.parameters() if id(parameter) not in in_layers]]

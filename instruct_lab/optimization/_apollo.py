"""APOLLO as a torch optimizer, from its paper's Algorithm 1."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class ScaledGradients(torch.optim.Optimizer):
    """APOLLO where a group has a rank, AdamW where its rank is none; see `instruct_lab.optimization.Apollo`."""

    def __init__(
        self,
        params: list[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        update_every: int,
        by_channel: bool,
        scale: float,
        growth_limit: float | None,
        seed: int,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0, "rank": None}
        rule = {"update_every": update_every, "by_channel": by_channel, "scale": scale}
        super().__init__(params, defaults | rule | {"growth_limit": growth_limit, "seed": seed})
        self._projections: dict[Tensor, tuple[int, Tensor]] = {}  # drawn anew after loading: no part of the state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        index = 0
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group, index)
                index += 1
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any], index: int) -> None:
        state = self.state[parameter]
        step = state["step"] = state.get("step", 0) + 1
        if group["rank"] is None:
            update = _adam(state, gradient, group)
        else:
            is_tall = gradient.shape[0] > gradient.shape[1]
            wide = gradient.T if is_tall else gradient  # [n, m], n <= m
            projected = self._projection(parameter, wide, group, index, step) @ wide  # [rank, m]
            update = _scaled(state, wide, projected, _adam(state, projected, group), group)
            update = update.T if is_tall else update
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"])

    def _projection(self, parameter: Tensor, wide: Tensor, group: dict[str, Any], index: int, step: int) -> Tensor:
        """The random matrix [rank, n] of this parameter at this step, from the seed alone."""
        turn = (step - 1) // group["update_every"]
        known = self._projections.get(parameter)
        if known is not None and known[0] == turn:
            return known[1]
        digest = hashlib.sha256(f"{group['seed']} {index} {turn}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        drawn = torch.randn(group["rank"], wide.shape[0], generator=generator, dtype=torch.float32)
        projection = (drawn / math.sqrt(group["rank"])).to(device=wide.device, dtype=wide.dtype)
        self._projections[parameter] = (turn, projection)
        return projection


def _adam(state: dict[str, Any], gradient: Tensor, group: dict[str, Any]) -> Tensor:
    """Adam's update from a gradient of any shape, before the learning rate."""
    first, second = group["betas"]
    if "mean" not in state:
        state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    state["mean"].lerp_(gradient, 1 - first)
    state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
    root = (state["square"] / (1 - second ** state["step"])).sqrt_().add_(group["eps"])
    return (state["mean"] / (1 - first ** state["step"])).div_(root)


def _scaled(
    state: dict[str, Any], gradient: Tensor, projected: Tensor, update: Tensor, group: dict[str, Any]
) -> Tensor:
    """The gradient [n, m] times what the update [rank, m] is to the projected gradient [rank, m]."""
    over = 0 if group["by_channel"] else None
    smallest = torch.finfo(projected.dtype).tiny
    scaling = torch.linalg.vector_norm(update, dim=over) / torch.linalg.vector_norm(projected, dim=over).clamp(
        min=smallest
    )  # [m] or []
    scaled = gradient * scaling * group["scale"]
    if group["growth_limit"] is not None:
        norm = torch.linalg.vector_norm(scaled)
        if "norm" in state:
            longest = group["growth_limit"] * state["norm"]
            ratio = torch.where((norm > longest) & (longest > 0), longest / norm, torch.ones_like(norm))
            scaled, norm = scaled * ratio, norm * ratio
        state["norm"] = norm
    return scaled

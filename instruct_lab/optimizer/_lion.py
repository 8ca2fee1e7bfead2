"""The Lion optimizer as a subclass of `torch.optim.Optimizer`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class SignMomentum(torch.optim.Optimizer):
    """The Lion optimizer: w = w - lr·wd·w - lr·sign(b1·m + (1 - b1)·g); then m = b2·m + (1 - b2)·g.

    w is a parameter, g its gradient, m the momentum, b1 and b2 are the `betas`, and wd is the weight decay.
    """

    def __init__(self, params: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            trained = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not trained:
                continue
            gradients = [parameter.grad for parameter in trained]
            for parameter in trained:
                if not self.state[parameter]:
                    self.state[parameter]["momentum"] = torch.zeros_like(parameter)
            momenta = [self.state[parameter]["momentum"] for parameter in trained]
            in_update, in_momentum = group["betas"]
            torch._foreach_mul_(trained, 1 - group["lr"] * group["weight_decay"])
            updates = torch._foreach_lerp(momenta, gradients, 1 - in_update)
            torch._foreach_sign_(updates)
            torch._foreach_add_(trained, updates, alpha=-group["lr"])
            torch._foreach_lerp_(momenta, gradients, 1 - in_momentum)
        return loss

"""The optimizer GaLore with a state of tensors and numbers only, which `torch.load(weights_only=True)` can load."""

from __future__ import annotations

from typing import Any

from pytorch_optimizer import GaLore
from pytorch_optimizer.optimizer.utils.galore import GaLoreProjector

PROJECTOR_STATE = ("ortho_matrix", "last_svd_step")
"""Attributes, saved in checkpoints, of the objects that project the gradient of a matrix to a lower rank."""


class ProjectedAdamW(GaLore):
    """`pytorch_optimizer.GaLore` whose checkpoints hold tensors and numbers instead of Python objects.

    The package keeps an object for each matrix, which projects the matrix's gradient to a lower rank. This class saves
    the attributes of these projectors instead of the projectors themselves.
    """

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state, with a dictionary of attributes in place of each projector."""
        saved = super().state_dict()
        saved["state"] = {key: _to_plain(state) for key, state in saved["state"].items()}
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state and rebuild the projectors from their saved attributes."""
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            for parameter in group["params"]:
                stored = self.state[parameter].get("projector") if parameter in self.state else None
                if stored is None:
                    continue
                options = ("rank", "update_proj_gap", "scale", "projection_type")
                projector = GaLoreProjector(**{name: group[name] for name in options})
                for name in PROJECTOR_STATE:
                    setattr(projector, name, stored[name])
                self.state[parameter]["projector"] = projector


def _to_plain(state: dict[str, Any]) -> dict[str, Any]:
    projector = state.get("projector")
    if projector is None:
        return state
    return {**state, "projector": {name: getattr(projector, name) for name in PROJECTOR_STATE}}

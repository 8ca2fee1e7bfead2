"""GaLore with a state of tensors and numbers alone, which a checkpoint can hold and `weights_only` loading accepts."""

from __future__ import annotations

from typing import Any

from pytorch_optimizer import GaLore
from pytorch_optimizer.optimizer.utils.galore import GaLoreProjector

OF_PROJECTOR = ("ortho_matrix", "last_svd_step")
"""What a projector remembers."""


class ProjectedAdamW(GaLore):
    """The package's optimizer; its projectors are saved as what they remember."""

    def state_dict(self) -> dict[str, Any]:
        """Without the projectors' class."""
        told = super().state_dict()
        told["state"] = {key: _plain(state) for key, state in told["state"].items()}
        return told

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Make the projectors again."""
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            for parameter in group["params"]:
                remembered = self.state[parameter].get("projector") if parameter in self.state else None
                if remembered is None:
                    continue
                options = ("rank", "update_proj_gap", "scale", "projection_type")
                projector = GaLoreProjector(**{name: group[name] for name in options})
                for name in OF_PROJECTOR:
                    setattr(projector, name, remembered[name])
                self.state[parameter]["projector"] = projector


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    projector = state.get("projector")
    if projector is None:
        return state
    return {**state, "projector": {name: getattr(projector, name) for name in OF_PROJECTOR}}

"""An Optuna sampler that proposes one given point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.samplers import BaseSampler


class FixedSampler(BaseSampler):
    """An Optuna sampler that proposes the values of one given point."""

    def __init__(self, point: Mapping[str, Any]) -> None:
        self._point = point

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        """Return an empty space: no dimensions are sampled together."""
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        """Return no values, since no dimensions are sampled together."""
        return {}

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        """Return the point's value of this dimension."""
        return self._point[param_name]

"""An Optuna sampler that proposes one given point of the search space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.samplers import BaseSampler


class FixedSampler(BaseSampler):
    """An Optuna sampler that proposes one given point of the search space: a value for each dimension."""

    def __init__(self, point: Mapping[str, Any]) -> None:
        self._point = point

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        """Return an empty search space, so that Optuna asks for each dimension separately (`sample_independent`)."""
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        """Return no values, because Optuna asks for each dimension separately (`sample_independent`)."""
        return {}

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        """Return the value that the given point has in the dimension `param_name`."""
        return self._point[param_name]

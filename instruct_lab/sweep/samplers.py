"""Samplers choose the next point of the search space."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.errors import Problem
from instruct_lab.sweep.space import Space

Seed = Annotated[int, Field(ge=0, lt=2**32)]


@component
class Sampler(Component, ABC):
    """Chooses points.

    It is seeded for every point by the seed and the point's number, so that a killed sweep, when it is resumed, chooses
    the same points as it would have.
    """

    seed: Seed = 0  # of the choice of points, not of the runs

    takes_several_metrics: ClassVar[bool] = True
    """Whether it can optimise several metrics (a Pareto front)."""

    needs_package: ClassVar[str | None] = None
    """A package that it needs and that is not installed by default."""

    def problems(self) -> Iterator[Problem]:
        """The package that it needs is missing."""
        if self.needs_package is not None and find_spec(self.needs_package) is None:
            reason = f"{type(self).__name__} needs the package {self.needs_package}, which is not installed"
            yield Problem(key="", reason=reason, kind="unavailable_here")

    def num_points(self, space: Space) -> int | None:
        """The number of points; `None` if there is no end of them."""
        return None

    @abstractmethod
    def build(self, space: Space, number: int) -> Any:
        """Optuna's sampler for the point of this number, counted from 0."""

    def point_seed(self, number: int) -> int:
        """A seed of 31 bits for one point."""
        return int.from_bytes(hashlib.sha256(f"{self.seed}:{number}".encode()).digest()[:4], "big") >> 1


@component
class Grid(Sampler):
    """Every combination of the listed values, in order."""

    def num_points(self, space: Space) -> int | None:
        """The size of the grid."""
        return len(space.grid())

    def build(self, space: Space, number: int) -> Any:
        """A sampler that proposes this point of the grid."""
        from instruct_lab.sweep.fixed_sampler import FixedSampler

        return FixedSampler(space.grid()[number])


@component
class Random(Sampler):
    """Points drawn uniformly (in the logarithm if an interval has the tag log; Bergstra and Bengio, 2012)."""

    def build(self, space: Space, number: int) -> Any:
        """Optuna's sampler."""
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=self.point_seed(number))


@component
class TPE(Sampler):
    """Tree-structured Parzen estimator (Bergstra et al., 2011), of all dimensions together (Falkner et al., 2018)."""

    first_points: Annotated[int, Field(ge=1)] = 8  # points drawn at random before the estimate is used
    candidates: Annotated[int, Field(ge=1)] = 24  # drawn from the estimate; the most promising one is tried

    def build(self, space: Space, number: int) -> Any:
        """Optuna's sampler."""
        import optuna

        return optuna.samplers.TPESampler(
            seed=self.point_seed(number),
            n_startup_trials=self.first_points,
            n_ei_candidates=self.candidates,
            multivariate=True,
            group=True,
        )


@component
class CMAES(Sampler):
    """Covariance matrix adaptation (Hansen and Ostermeier, 2001) of intervals; choices are drawn at random."""

    takes_several_metrics: ClassVar = False
    needs_package: ClassVar = "cmaes"

    first_points: Annotated[int, Field(ge=1)] = 1  # points drawn at random before the first generation

    def build(self, space: Space, number: int) -> Any:
        """Optuna's sampler."""
        from optuna.samplers import CmaEsSampler

        return CmaEsSampler(
            seed=self.point_seed(number), n_startup_trials=self.first_points, warn_independent_sampling=False
        )


@component
class GaussianProcess(Sampler):
    """Bayesian optimisation with a Gaussian process and expected improvement (Jones et al., 1998)."""

    needs_package: ClassVar = "scipy"

    first_points: Annotated[int, Field(ge=1)] = 8  # points drawn at random before the process is fitted

    def build(self, space: Space, number: int) -> Any:
        """Optuna's sampler."""
        from optuna.samplers import GPSampler

        return GPSampler(
            seed=self.point_seed(number), n_startup_trials=self.first_points, deterministic_objective=False
        )


@component
class NSGA2(Sampler):
    """Non-dominated sorting genetic algorithm (Deb et al., 2002): a front of several metrics."""

    population: Annotated[int, Field(ge=2)] = 12  # points in a generation

    def build(self, space: Space, number: int) -> Any:
        """Optuna's sampler."""
        from optuna.samplers import NSGAIISampler

        return NSGAIISampler(seed=self.point_seed(number), population_size=self.population)

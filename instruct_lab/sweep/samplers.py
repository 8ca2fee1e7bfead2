"""Samplers, which choose the next point (combination of values) of a sweep's search space."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.errors import Problem
from instruct_lab.optional_packages import missing_packages
from instruct_lab.sweep.space import Space

Seed = Annotated[int, Field(ge=0, lt=2**32)]


@component
class Sampler(Component, ABC):
    """Base class of samplers, which choose the points of a sweep.

    A point is a combination of values from the search space. The random seed for the choice of a point is derived from
    `seed` and the point's index, so that a resumed sweep chooses the same points as an uninterrupted one.
    """

    seed: Seed = 0  # random seed for the choice of points; runs have seeds of their own

    takes_several_metrics: ClassVar[bool] = True
    """Whether the sampler can optimise several metrics (a Pareto front)."""

    needs_package: ClassVar[str | None] = None
    """Optional package that the sampler requires; `None` if it requires none."""

    def problems(self) -> Iterator[Problem]:
        """Report that the package in `needs_package` is not installed."""
        if self.needs_package is not None:
            yield from missing_packages(self.needs_package, subject=type(self).__name__)

    def num_points(self, space: Space) -> int | None:
        """Return the number of points that the sampler can propose; `None` if there is no limit."""
        return None

    @abstractmethod
    def build(self, space: Space, number: int) -> Any:
        """Create the Optuna sampler that proposes the point with index `number` (0 for the first)."""

    def point_seed(self, number: int) -> int:
        """Return the random seed for the choice of the point with index `number`, an integer below 2**31."""
        return int.from_bytes(hashlib.sha256(f"{self.seed}:{number}".encode()).digest()[:4], "big") >> 1


@component
class Grid(Sampler):
    """Tries every combination of the listed values, in the order in which they are listed."""

    def num_points(self, space: Space) -> int | None:
        """Return the number of combinations of the listed values."""
        return len(space.grid())

    def build(self, space: Space, number: int) -> Any:
        """Create an Optuna sampler that proposes the combination with index `number` (0 for the first)."""
        from instruct_lab.sweep.fixed_sampler import FixedSampler

        return FixedSampler(space.grid()[number])


@component
class Random(Sampler):
    """Draws each value at random (Bergstra and Bengio, 2012).

    The distribution is uniform, and log-uniform for an interval with the tag `log`.
    """

    def build(self, space: Space, number: int) -> Any:
        """Create Optuna's `RandomSampler`."""
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=self.point_seed(number))


@component
class TPE(Sampler):
    """Chooses points by a tree-structured Parzen estimator (Bergstra et al., 2011).

    The distribution of good points is estimated over all dimensions jointly, not for each dimension separately (Falkner
    et al., 2018).
    """

    first_points: Annotated[int, Field(ge=1)] = 8  # points drawn at random before the estimate is used
    candidates: Annotated[int, Field(ge=1)] = 24  # points drawn from the estimate; the best one is tried

    def build(self, space: Space, number: int) -> Any:
        """Create Optuna's `TPESampler`."""
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
    """Chooses points by an evolution strategy, covariance matrix adaptation (Hansen and Ostermeier, 2001).

    The strategy applies to keys that vary in an interval. For a key with a list of values, a value is drawn at random.
    """

    takes_several_metrics: ClassVar = False
    needs_package: ClassVar = "cmaes"

    first_points: Annotated[int, Field(ge=1)] = 1  # points drawn at random before the first generation

    def build(self, space: Space, number: int) -> Any:
        """Create Optuna's `CmaEsSampler`."""
        from optuna.samplers import CmaEsSampler

        return CmaEsSampler(
            seed=self.point_seed(number), n_startup_trials=self.first_points, warn_independent_sampling=False
        )


@component
class GaussianProcess(Sampler):
    """Chooses points by Bayesian optimisation with a Gaussian process and expected improvement (Jones et al., 1998)."""

    needs_package: ClassVar = "scipy"

    first_points: Annotated[int, Field(ge=1)] = 8  # points drawn at random before the process is fitted

    def build(self, space: Space, number: int) -> Any:
        """Create Optuna's `GPSampler`."""
        from optuna.samplers import GPSampler

        return GPSampler(
            seed=self.point_seed(number), n_startup_trials=self.first_points, deterministic_objective=False
        )


@component
class NSGA2(Sampler):
    """Chooses points by the non-dominated sorting genetic algorithm (Deb et al., 2002).

    It finds a Pareto front of several metrics.
    """

    population: Annotated[int, Field(ge=2)] = 12  # points in a generation

    def build(self, space: Space, number: int) -> Any:
        """Create Optuna's `NSGAIISampler`."""
        from optuna.samplers import NSGAIISampler

        return NSGAIISampler(seed=self.point_seed(number), population_size=self.population)

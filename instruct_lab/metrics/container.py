"""Example statistics that gather across processes; heavy: imports torch and torchmetrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
import torchmetrics
from torch import Tensor

from instruct_lab.metrics.base import LikelihoodMetric, Metric, MetricValue
from instruct_lab.metrics.intervals import summarize


class ExampleStatistics(torchmetrics.Metric):
    """Holds every example's statistics with its index, concatenated over processes when computed.

    An index that comes twice (a sampler that pads the last batch of a process) counts once, and examples stand in the
    order of their indices: the value and its interval are those of one process that saw them all.

    Args:
        metric: what is measured.
        seed: of the interval's resampling.
        resamples: how many times the examples are drawn anew.
    """

    is_differentiable = False
    full_state_update = False
    rows: list[Tensor]

    def __init__(self, metric: Metric, *, seed: int = 0, resamples: int = 1000, **settings: Any) -> None:
        super().__init__(**settings)
        self.metric, self.seed, self.resamples = metric, seed, resamples
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self._start()

    def update(self, index: int, statistics: Sequence[float]) -> None:
        """Add one example: its index in the split and `metric.statistics(...)`."""
        row = [float(index), *statistics]
        self.rows.append(torch.tensor([row], dtype=torch.float64, device=self.device))  # [1, 1 + statistics]

    def compute(self) -> dict[str, Any]:
        """The fields of the `MetricValue` of all examples of all processes."""
        rows = self.rows if isinstance(self.rows, Tensor) else torch.cat(self.rows)  # [examples, 1 + statistics]
        by_index = {int(index): row for index, *row in rows.tolist()}
        ordered = [by_index[index] for index in sorted(by_index)]
        return dataclasses.asdict(summarize(self.metric, ordered, seed=self.seed, resamples=self.resamples))

    def value(self) -> MetricValue:
        """The `MetricValue` of all examples of all processes."""
        return MetricValue(**self.compute())

    def reset(self) -> None:
        """Forget every example."""
        super().reset()
        self._start()

    def _start(self) -> None:
        """Begin with a matrix of no rows: a process that sees no example still gathers one of the right width."""
        empty = self.metric.statistics(0.0, 0) if isinstance(self.metric, LikelihoodMetric) else self._of_empty_answer()
        self.rows.append(torch.empty(0, 1 + len(empty), dtype=torch.float64, device=self.device))

    def _of_empty_answer(self) -> list[float]:
        return self.metric.statistics("", ("",))  # type: ignore[attr-defined]

"""Example statistics that gather across processes; heavy: imports torch and torchmetrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
import torchmetrics
from torch import Tensor

from instruct_lab.metrics.base import Metric, MetricValue
from instruct_lab.metrics.intervals import summarize


class ExampleStatistics(torchmetrics.Metric):
    """Holds every example's statistics with its index, concatenated over processes when computed.

    The state is flat, each example as its index, its number of statistics, and these: examples may have unequal
    numbers of them.

    An index that comes twice (a sampler that pads the last batch of a process) counts once, and examples stand in the
    order of their indices: the value and its interval are those of one process that saw them all.

    Args:
        metric: what is measured.
        seed: of the interval's resampling.
        resamples: how many times the examples are drawn anew.
    """

    is_differentiable = False
    full_state_update = False
    entries: list[Tensor]

    def __init__(self, metric: Metric, *, seed: int = 0, resamples: int = 1000, **settings: Any) -> None:
        super().__init__(**settings)
        self.metric, self.seed, self.resamples = metric, seed, resamples
        self.add_state("entries", default=[], dist_reduce_fx="cat")
        self._start()

    def update(self, index: int, statistics: Sequence[float]) -> None:
        """Add one example: its index in the split and its statistics, of any number."""
        entry = [float(index), float(len(statistics)), *statistics]
        self.entries.append(torch.tensor(entry, dtype=torch.float64, device=self.device))  # [2 + statistics]

    def compute(self) -> dict[str, Any]:
        """The fields of the `MetricValue` of all examples of all processes."""
        by_index = self._by_index()
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
        """Begin with nothing of the right type: a process that sees no example still gathers."""
        self.entries.append(torch.empty(0, dtype=torch.float64, device=self.device))

    def _by_index(self) -> dict[int, list[float]]:
        entries = self.entries if isinstance(self.entries, Tensor) else torch.cat(self.entries)
        numbers, place = entries.tolist(), 0
        found: dict[int, list[float]] = {}
        while place < len(numbers):
            start = place + 2
            place = start + int(numbers[start - 1])
            found[int(numbers[start - 2])] = numbers[start:place]
        return found

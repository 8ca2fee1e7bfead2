"""Sums of what an objective tells of each example, by source; divided once, when they are logged."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from instruct_lab.objective import Loss

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over all devices."""


class Sums:
    """A row for each source: summed losses, counts, examples, and the sums of the objective's further values.

    Args:
        num_rows: how many sources.
    """

    def __init__(self, num_rows: int = 1) -> None:
        self._num_rows = num_rows
        self.names: list[str] = []
        self.clear()

    def clear(self) -> None:
        """Start anew."""
        self.table = torch.zeros(self._num_rows, 3 + len(self.names), dtype=torch.float64)

    def add(self, loss: Loss, rows: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            loss: of the batch.
            rows: the source of each example, int64 `[examples]`; none: the first.
        """
        if not self.names and loss.values:
            self.names = sorted(loss.values)
            self.table = torch.cat([self.table, self.table.new_zeros(self._num_rows, len(self.names))], dim=1)
        columns = [loss.sums, loss.counts, torch.ones_like(loss.sums), *(loss.values[name] for name in self.names)]
        told = torch.stack([column.detach().double().cpu() for column in columns], dim=1)  # [examples, columns]
        if rows is None:
            self.table[0] += told.sum(dim=0)
        else:
            self.table.index_add_(0, rows, told)

    def means(self, prefix: str, totals: Tensor, is_likelihood: bool) -> dict[str, float]:
        """The values to log of one row: the mean loss, its perplexity where it is a likelihood, and the other means."""
        loss_sum, count, examples, *values = totals.tolist()
        loss = loss_sum / count if count else 0.0
        told = {f"{prefix}/loss": loss}
        if is_likelihood:
            told[f"{prefix}/perplexity"] = math.exp(min(loss, 700.0))
        told |= {f"{prefix}/{name}": value / max(1.0, examples) for name, value in zip(self.names, values, strict=True)}
        return told

"""Sums of the examples' losses, counts and other values for each data source, from which means are computed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from instruct_lab.objective import Loss


class Sums:
    """A table of sums over examples, with one row for each data source.

    The first columns are the sums of the losses and of the counts (by default, of target tokens). Then follow a column
    for each other value that the objective computes, with its sum, and a column for each of these values with the
    number of examples that have it. In a batch, NaN means that an example does not have the value.

    Args:
        num_rows: number of data sources.
    """

    def __init__(self, num_rows: int = 1) -> None:
        self._num_rows = num_rows
        self.names: list[str] = []
        self.clear()

    def clear(self) -> None:
        """Set all sums to zero."""
        self.table = torch.zeros(self._num_rows, 2 + 2 * len(self.names), dtype=torch.float64)

    def add(self, loss: Loss, rows: Tensor | None = None) -> None:
        """Add the losses, counts and other values of a batch to the sums.

        Args:
            loss: losses, counts and other values of the examples.
            rows: index of each example's data source, int64 `[examples]`; `None`: all belong to the first source.
        """
        if not self.names and loss.values:
            self.names = sorted(loss.values)
            self.table = torch.cat([self.table, self.table.new_zeros(self._num_rows, 2 * len(self.names))], dim=1)
        values = [loss.values[name] for name in self.names]
        known = [value.nan_to_num(0, math.inf, -math.inf) for value in values]
        columns = [loss.sums, loss.counts, *known, *(~value.isnan() for value in values)]
        table = torch.stack([column.detach().double().cpu() for column in columns], dim=1)  # [examples, columns]
        if rows is None:
            self.table[0] += table.sum(dim=0)
        else:
            self.table.index_add_(0, rows, table)

    def means(self, prefix: str, totals: Tensor, is_likelihood: bool) -> dict[str, float]:
        """Divide the sums by the counts, and return the means, keyed by names such as `val/loss`.

        Args:
            prefix: start of the names, such as `val`.
            totals: a row of the table, or the sum of several rows.
            is_likelihood: whether the loss is a negative log-likelihood, so that its perplexity is returned too.
        """
        loss_sum, count, *values = totals.tolist()
        loss = loss_sum / count if count else 0.0
        means = {f"{prefix}/loss": loss}
        if is_likelihood:
            means[f"{prefix}/perplexity"] = math.exp(min(loss, 700.0))
        sums, numbers = values[: len(self.names)], values[len(self.names) :]
        return means | {
            f"{prefix}/{name}": value / number
            for name, value, number in zip(self.names, sums, numbers, strict=True)
            if number
        }

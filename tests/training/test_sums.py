"""Logged means: values that an example does not have are left out, whatever the batches."""

import math

import pytest
import torch

from instruct_lab.objective import Loss
from instruct_lab.training.sums import Sums

NAN = math.nan
LOSSES, COUNTS, MARGINS, REWARDS = [1.0, 3.0, 2.0, 6.0], [1, 2, 1, 2], [NAN, 4.0, NAN, 8.0], [NAN] * 4


def test_a_value_that_is_infinite_stays_so() -> None:
    sums = Sums(num_rows=1)
    sums.add(Loss(torch.ones(2), torch.ones(2), {"margin": torch.tensor([math.inf, NAN])}))
    assert sums.means("val", sums.table[0], is_likelihood=False)["val/margin"] == math.inf


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_value_is_the_mean_over_the_examples_that_have_it(size) -> None:
    sums = Sums(num_rows=2)
    for start in range(0, 4, size):
        part = slice(start, start + size)
        values = {"margin": torch.tensor(MARGINS[part]), "reward": torch.tensor(REWARDS[part])}
        loss = Loss(torch.tensor(LOSSES[part]), torch.tensor(COUNTS[part]), values)
        sums.add(loss, torch.tensor([0, 0, 1, 1][part]))
    assert sums.means("val", sums.table.sum(dim=0), is_likelihood=False) == {"val/loss": 2.0, "val/margin": 6.0}
    assert sums.means("val/a", sums.table[0], is_likelihood=False) == {"val/a/loss": 4 / 3, "val/a/margin": 4.0}
    sums.clear()
    assert not sums.table.any()

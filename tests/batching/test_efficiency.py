"""Padding and packing, against their definitions."""

import numpy as np
import pytest

from instruct_lab.batching.efficiency import packed_share, padding_share


def test_padding_share_follows_its_definition() -> None:
    lengths = np.array([4, 2, 3, 3, 5])
    assert padding_share(lengths, 2) == pytest.approx(1 - 17 / (4 * 2 + 3 * 2 + 5))
    assert padding_share(lengths, 1) == 0
    assert padding_share(lengths[:0], 2) == 0


def best_fit_decreasing(lengths, row_tokens):
    """The same, example by example."""
    rows = []
    for length in sorted(lengths, reverse=True):
        fitting = [index for index, free in enumerate(rows) if free >= length]
        if fitting:
            rows[min(fitting, key=lambda index: rows[index])] -= length
        else:
            rows.append(row_tokens - length)
    return sum(lengths) / (len(rows) * row_tokens)


@pytest.mark.parametrize("seed", range(8))
def test_packing_is_best_fit_decreasing(seed) -> None:
    source = np.random.default_rng(seed)
    lengths = source.integers(1, 65, size=source.integers(1, 200))
    assert packed_share(lengths, 64) == pytest.approx(best_fit_decreasing(lengths.tolist(), 64))

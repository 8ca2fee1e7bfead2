"""Intervals and paired differences."""

import math
import random

import numpy as np
import pytest

from instruct_lab.errors import InstructLabError
from instruct_lab.metrics import (
    BLEU,
    ChrF,
    ExactMatch,
    Perplexity,
    paired_difference,
    summarize,
)


def binary_rows(correct: int, size: int) -> list[list[float]]:
    return [[float(index < correct), 1.0] for index in range(size)]


def test_an_interval_has_the_width_that_statistics_predict():
    found = summarize(ExactMatch(), binary_rows(30, 100), resamples=4000)
    spread = 1.96 * 100 * math.sqrt(0.3 * 0.7 / 100)  # of a proportion
    assert found.value == 30
    assert found.low == pytest.approx(30 - spread, abs=1.1)
    assert found.high == pytest.approx(30 + spread, abs=1.1)


def test_an_interval_covers_the_truth_about_95_times_of_100():
    draw = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        rows = [[float(hit), 1.0] for hit in draw.random(80) < 0.4]
        found = summarize(ExactMatch(), rows, seed=trial, resamples=400)
        covered += found.low <= 40 <= found.high
    assert 180 <= covered <= 199


def test_an_interval_equals_resampling_the_examples_one_by_one():
    metric = ChrF()
    draw = random.Random(0)
    words = ["alpha", "beta", "gamma", "delta"]
    rows = [
        metric.statistics(" ".join(draw.choices(words, k=3)), (" ".join(draw.choices(words, k=3)),)) for _ in range(100)
    ]
    generator = np.random.default_rng(5)
    values = []
    for chosen in generator.integers(100, size=(300, 100)):
        values.append(metric.value([sum(rows[index][column] for index in chosen) for column in range(len(rows[0]))]))
    found = summarize(metric, rows, seed=5, resamples=300)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])), abs=1e-9)


def test_resampling_in_pieces_changes_nothing_of_the_value_and_little_of_the_interval(monkeypatch):
    whole = summarize(ExactMatch(), binary_rows(30, 100))
    monkeypatch.setattr("instruct_lab.metrics.resampling.DRAWS_AT_ONCE", 700)
    pieces = summarize(ExactMatch(), binary_rows(30, 100))
    assert pieces.value == whole.value
    assert abs(pieces.low - whole.low) < 2


def test_only_the_seed_decides_the_interval():
    rows = [[float(index % 7), 10.0] for index in range(40)]
    assert summarize(Perplexity(), rows, seed=3) == summarize(Perplexity(), rows, seed=3)
    assert summarize(Perplexity(), rows, seed=3).low != summarize(Perplexity(), rows, seed=4).low


def test_one_example_has_an_interval_without_width():
    found = summarize(BLEU(), [BLEU().statistics("a b c d e", ("a b c d e",))])
    assert (found.low, found.value, found.high, found.count) == (pytest.approx(100),) * 3 + (1,)


def test_infinite_and_undefined_values_give_no_error():
    assert summarize(Perplexity(), [[1e6, 1.0], [1.0, 1.0]]).high == math.inf
    assert math.isnan(summarize(Perplexity(), [[0.0, 0.0]]).low)
    assert summarize(Perplexity(), [[0.0, 0.0], [2.0, 1.0]]).low == pytest.approx(math.e**2)


def test_no_example_and_ragged_rows_are_refused():
    with pytest.raises(InstructLabError, match="no example"):
        summarize(ExactMatch(), [])
    with pytest.raises(ValueError, match="same number of statistics"):
        summarize(ExactMatch(), [[1.0, 1.0], [1.0]])
    with pytest.raises(ValueError, match="same examples"):
        paired_difference(ExactMatch(), binary_rows(1, 3), binary_rows(1, 4))


def test_a_paired_difference_is_clear_where_the_two_intervals_overlap():
    draw = np.random.default_rng(0)
    hardness = draw.normal(3.0, 1.0, 200)  # what two systems share
    rows_a = [[float(loss), 1.0] for loss in hardness]
    rows_b = [[float(loss - gain), 1.0] for loss, gain in zip(hardness, draw.normal(0.1, 0.1, 200), strict=True)]
    a, b = summarize(Perplexity(), rows_a), summarize(Perplexity(), rows_b)
    difference = paired_difference(Perplexity(), rows_a, rows_b)
    assert b.high > a.low  # the intervals overlap
    assert difference.value == pytest.approx(b.value - a.value)
    assert difference.low < difference.value < difference.high < 0  # b is lower, clearly
    backwards = paired_difference(Perplexity(), rows_b, rows_a)
    assert (backwards.low, backwards.high) == pytest.approx((-difference.high, -difference.low))


def test_a_system_against_itself_differs_by_exactly_nothing():
    rows = binary_rows(13, 40)
    found = paired_difference(ExactMatch(), rows, rows)
    assert (found.value, found.low, found.high) == (0, 0, 0)

"""Metrics of the labels' probabilities, and of an objective's values for each pair."""

import math
import random

import pytest

from instruct_lab.metrics import (
    ExpectedCalibrationError,
    Perplexity,
    PreferenceAccuracy,
    RewardMargin,
    TokenAccuracy,
    example_scores,
    paired_difference,
    summarize,
)
from instruct_lab.objective import TokenScores


def drawn(seed, size):
    draw = random.Random(seed)
    for _ in range(size):
        sure = [draw.random() for _ in range(draw.randint(0, 30))]
        yield TokenScores([-math.log(c or 1) for c in sure], sure, [draw.random() < c**2 for c in sure])


EXAMPLES = list(drawn(0, 40))


def rows_of(metric, examples=EXAMPLES):
    return [metric.statistics(scores) for scores in examples]


def ece(examples, bins):
    """By the definition of Guo et al.: bins (low, high], over all tokens."""
    pairs = [pair for scores in examples for pair in zip(scores.confidences, scores.correct, strict=True)]
    total = 0.0
    for m in range(bins):
        inside = [(c, a) for c, a in pairs if m / bins < c <= (m + 1) / bins or (m == 0 and c == 0)]
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            accuracy = sum(a for _, a in inside) / len(inside)
            total += len(inside) / len(pairs) * abs(accuracy - confidence)
    return 100 * total


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_is_that_of_its_definition_however_examples_are_batched(bins):
    metric = ExpectedCalibrationError(bins=bins)
    rows = rows_of(metric)
    assert summarize(metric, rows, resamples=5).value == pytest.approx(ece(EXAMPLES, bins), abs=1e-9)
    halves = [[math.fsum(column) for column in zip(*half, strict=True)] for half in (rows[:13], rows[13:])]
    assert summarize(metric, halves, resamples=5).value == pytest.approx(ece(EXAMPLES, bins), abs=1e-9)
    assert len(rows[0]) == 3 * bins
    apart = [ece([scores], bins) for scores in EXAMPLES if scores.losses]
    if bins > 1:
        assert abs(sum(apart) / len(apart) - ece(EXAMPLES, bins)) > 1  # the mean over examples is another number


def test_calibration_error_has_an_interval_and_a_paired_difference():
    metric = ExpectedCalibrationError()
    found = summarize(metric, rows_of(metric))
    assert found.low < found.value < found.high
    assert "bins:15" in found.signature
    same = paired_difference(metric, rows_of(metric), rows_of(metric))
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_a_sure_and_right_model_has_no_calibration_error_and_a_sure_and_wrong_one_has_all():
    metric = ExpectedCalibrationError()
    assert metric.value(metric.statistics(TokenScores([0.0], [1.0], [True]))) == 0
    assert metric.value(metric.statistics(TokenScores([9.0], [1.0], [False]))) == 100
    edge = metric.statistics(TokenScores([1.0, 1.0, 1.0], [0.2, 0.0, 1 + 1e-7], [True, True, True]))
    assert [edge[3 * index] for index in (0, 2, 3, 14)] == [1, 1, 0, 1]  # 3/15 is the upper end of the third bin


def test_scores_that_are_no_probabilities_or_of_unequal_length_are_refused():
    for sure in (1.5, -0.1, math.nan):
        with pytest.raises(ValueError, match="probability"):
            ExpectedCalibrationError().statistics(TokenScores([1.0], [sure], [True]))
    with pytest.raises(ValueError, match="shorter"):
        ExpectedCalibrationError().statistics(TokenScores([1.0, 1.0], [0.5, 0.5], [True]))


def test_token_accuracy_is_the_share_of_all_tokens():
    metric = TokenAccuracy()
    right = sum(sum(scores.correct) for scores in EXAMPLES)
    tokens = sum(len(scores.correct) for scores in EXAMPLES)
    assert summarize(metric, rows_of(metric)).value == pytest.approx(100 * right / tokens)
    rows = rows_of(metric, [TokenScores([1, 1], [0.5, 0.5], [True, False])])
    assert example_scores(metric, rows) == [50]


def test_an_example_without_a_target_token_changes_nothing():
    nothing = TokenScores([], [], [])
    for metric in (TokenAccuracy(), ExpectedCalibrationError(), Perplexity()):
        assert math.isnan(metric.value(metric.statistics(nothing)))
        with_it = [*rows_of(metric), metric.statistics(nothing)]
        assert summarize(metric, with_it, resamples=2).value == summarize(metric, rows_of(metric), resamples=2).value


def test_perplexity_keeps_losses_that_probabilities_cannot():
    metric = Perplexity()
    underflown = TokenScores([120.0, 200.0], [1.0, 1.0], [False, False])  # exp(-120) is 0 in fp16 and in fp32
    assert summarize(metric, [metric.statistics(underflown)]).value == pytest.approx(math.exp(160))
    assert metric.value(metric.statistics(TokenScores([math.inf], [1.0], [False]))) == math.inf
    half = TokenScores([11.1] * 100_000, [0.1] * 100_000, [False] * 100_000)  # the sum is beyond fp16's 65,504
    assert summarize(metric, [metric.statistics(half)]).value == pytest.approx(math.exp(11.1))


def test_preference_values_are_means_over_pairs():
    accuracy, margin = PreferenceAccuracy(), RewardMargin()
    assert (accuracy.value_name, margin.value_name) == ("accuracy", "margin")
    found = summarize(accuracy, [accuracy.statistics(value) for value in (1.0, 0.0, 1.0, 1.0)])
    assert (found.value, found.count) == (75, 4)
    assert found.low < 75 < found.high
    assert summarize(margin, [margin.statistics(value) for value in (0.5, -1.5, 4.0)]).value == pytest.approx(1.0)
    assert margin.signature() != accuracy.signature()

"""Intervals that resample clusters of alike examples, and intervals of few units."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from support.populations import population

from instruct_lab.comparison.scores import RunScores
from instruct_lab.metrics import ChrF, ExactMatch, Perplexity, RewardMargin, paired_difference, summarize
from instruct_lab.metrics.resampling import FEW_UNITS, MIN_CLUSTERS, influences, units_of, widening
from instruct_lab.metrics.sampling import sampling_variance
from instruct_lab.metrics.signatures import measured_alike

# ---- clusters


def clustered_rows(num_clusters, size, seed=0, name="perplexity"):
    return population(name, num_clusters, size, 0.5, seed).draw(np.random.default_rng(seed), num_clusters)


def test_an_interval_over_clusters_is_scipys_over_the_sums_of_clusters():
    rows, clusters = clustered_rows(120, 5)
    found = summarize(Perplexity(), rows, clusters=clusters, resamples=4000)
    sums = np.array(rows).reshape(120, 5, 2).sum(axis=1)
    other = scipy.stats.bootstrap(
        (sums[:, 0], sums[:, 1]),
        lambda loss, tokens, axis: np.exp(loss.sum(axis=axis) / tokens.sum(axis=axis)),
        paired=True,
        method="percentile",
        n_resamples=4000,
        random_state=1,
    ).confidence_interval
    width = other.high - other.low
    assert found.low == pytest.approx(other.low, abs=0.05 * width)
    assert found.high == pytest.approx(other.high, abs=0.05 * width)
    assert found.signature.endswith("|clusters:120")


def test_an_interval_over_clusters_has_the_width_of_the_clustered_standard_error():
    """Miller, 2024, equation 4: the sum over clusters of the squared sum of residuals."""
    rows, clusters = clustered_rows(200, 4, name="accuracy")
    right = np.array(rows)[:, 0].reshape(200, 4)
    error = 100 * math.sqrt(((right - right.mean()).sum(axis=1) ** 2).sum()) / right.size
    found = summarize(ExactMatch(), rows, clusters=clusters, resamples=4000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.05)
    assert found.by_example == pytest.approx((found.value - 3.46, found.value + 3.46), abs=0.4)


def test_both_intervals_are_kept_only_if_their_widths_differ():
    rows, clusters = clustered_rows(200, 4, name="accuracy")
    assert summarize(ExactMatch(), rows, clusters=clusters).by_example is not None
    order = np.random.default_rng(0).permutation(len(clusters))
    unrelated = [clusters[index] for index in order]
    assert summarize(ExactMatch(), rows, clusters=unrelated).by_example is None


def test_a_paired_difference_resamples_clusters_too():
    rows, clusters = clustered_rows(100, 6, name="accuracy")
    better = [[1.0, *row[1:]] if int(cluster) % 5 == 0 else row for row, cluster in zip(rows, clusters, strict=True)]
    whole = paired_difference(ExactMatch(), rows, better, clusters=clusters)
    single = paired_difference(ExactMatch(), rows, better)
    assert whole.value == single.value
    assert whole.high - whole.low > 1.5 * (single.high - single.low)
    assert whole.by_example == (single.low, single.high)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=200), st.randoms())
def test_sums_of_units_keep_the_total_and_names_do_not_matter(clusters, source):
    names = {one: f"{source.random()}-{one}" for one in clusters}
    units = units_of([f"c{one}" for one in clusters], len(clusters))
    assert units == units_of([names[one] for one in clusters], len(clusters))
    rows = [[float(index), 1.0] for index in range(len(clusters))]
    assert units.sums(rows).sum(axis=0).tolist() == [sum(range(len(clusters))), len(clusters)]
    assert units.count == (len(set(clusters)) if units.resamples_clusters else len(clusters))


def test_few_or_unequal_clusters_are_not_resampled_and_a_note_says_so():
    few, unequal = ["a", "b", "c"] * 20, ["a"] * 500 + [str(index) for index in range(60)]
    for clusters in (few, unequal):
        units = units_of(clusters, len(clusters))
        assert not units.resamples_clusters
        assert [f"{len(set(clusters))} clusters" in note for note in units.notes()] == [True]
    enough = units_of([str(index % MIN_CLUSTERS) for index in range(60)], 60)
    assert enough.resamples_clusters
    assert not list(enough.notes())


@pytest.mark.parametrize("clusters", [(), [""] * 40, [str(index) for index in range(40)], ["a"] * 7])
def test_examples_without_clusters_of_several_are_resampled_one_by_one(clusters):
    units = units_of(clusters, 40)
    assert (units.count, units.of_example, list(units.notes())) == (40, None, [])


def test_examples_without_a_cluster_are_units_of_their_own():
    assert units_of(["a", "", "", "a"] * 20, 80).num_clusters == 41


def test_counts_and_intervals_do_not_decide_whether_values_can_be_compared():
    plain = "chrF2|nrefs:1|version:2.5.1"
    for signature in (plain, f"{plain}|empty:3|clusters:12|interval:t-percentile", f"{plain}|interval:t-percentile"):
        assert measured_alike(signature) == plain


# ---- few units


@pytest.mark.parametrize("count", [8, 20, 60])
def test_the_interval_of_the_mean_of_few_normal_scores_is_that_of_a_t_test(count):
    scores = np.random.default_rng(count).normal(size=count)
    found = summarize(RewardMargin(), [[score, 1.0] for score in scores], resamples=20_000)
    expected = scipy.stats.ttest_1samp(scores, 0).confidence_interval()
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.06 * width)
    assert found.signature.endswith("|interval:t-percentile")
    paired = paired_difference(
        RewardMargin(), [[0.0, 1.0]] * count, [[score, 1.0] for score in scores], resamples=20_000
    )
    assert (paired.low, paired.high) == pytest.approx((found.low, found.high))


@pytest.mark.parametrize("count", [1, FEW_UNITS, 400])
def test_many_units_and_one_are_not_widened(count):
    assert "interval" not in summarize(ExactMatch(), [[1.0, 1.0, 0.0]] * count).signature


@pytest.mark.parametrize("metric", [ExactMatch(), ChrF(), Perplexity()])
def test_widened_intervals_stay_within_the_values_of_the_units(metric):
    """One example of many that is right: the heavy tail widens, but not below 0 or a perplexity of 1."""
    rows = [[1.0, 1.0, 0.0], *[[0.0, 1.0, 0.0]] * 30]
    if isinstance(metric, ChrF):
        rows = [metric.statistics(answer, ("one two",)) for answer in ("one two", *["xyz"] * 30)]
    elif isinstance(metric, Perplexity):
        rows = [[200.0, 40.0], *[[0.0, 40.0]] * 30]
    found = summarize(metric, rows)
    scores = [metric.example_score(row) for row in rows]
    assert min(scores) <= found.low <= found.value <= found.high <= max(scores)
    compared = RunScores(metric, [rows, rows[::-1]], [[0], [1]]).mean([0])
    assert (compared.low, compared.high) == pytest.approx((found.low, found.high))
    difference = paired_difference(metric, rows, rows[::-1])
    assert abs(difference.low) <= max(scores) - min(scores) + 1e-9


def test_few_units_that_contribute_much_widen_more():
    normal = np.random.default_rng(0).normal(size=40)
    heavy = np.where(np.arange(40) < 2, 20.0, normal)
    widths = [np.percentile(widening(scores, 5000), 97.5) for scores in (np.sign(normal), normal, heavy)]
    assert widths[0] <= widths[1] * 1.01
    assert widths[2] > 1.5 * widths[1]


def test_influences_of_a_mean_are_its_deviations_and_of_chrf_those_of_scipys_jackknife():
    scores = np.random.default_rng(0).normal(size=30)
    found = influences(RewardMargin(), np.stack([scores, np.ones(30)], axis=1))
    assert found == pytest.approx(scores - scores.mean())
    rows, _ = population("chrf", 30, 1, 0.0).draw(np.random.default_rng(0), 30)
    error = influences(ChrF(), np.array(rows)).std() / math.sqrt(29)
    resampled = scipy.stats.bootstrap(
        (np.arange(30),),
        lambda chosen: ChrF().value(np.array(rows)[chosen].sum(axis=0).tolist()),
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        random_state=0,
    )
    assert error == pytest.approx(resampled.standard_error, rel=0.15)


def test_units_without_spread_or_with_undefined_values_give_no_error():
    assert influences(Perplexity(), np.array([[1.0, 1.0]])) is None
    assert influences(Perplexity(), np.array([[0.0, 0.0], [2.0, 1.0]])) is None
    found = summarize(ExactMatch(), [[1.0, 1.0, 0.0]] * 20)
    assert (found.low, found.high) == (100, 100)


# ---- how often intervals hold the truth (the whole simulation is in tests/benchmarks/interval_coverage.py)


def coverage(drawn_from, num_clusters, trials, with_clusters):
    generator, held = np.random.default_rng(1), 0
    for trial in range(trials):
        rows, clusters = drawn_from.draw(generator, num_clusters)
        names = clusters if with_clusters else ()
        found = summarize(drawn_from.metric, rows, clusters=names, seed=trial, resamples=300)
        held += found.low <= drawn_from.truth <= found.high
    return held / trials


@pytest.mark.slow
def test_intervals_over_clusters_hold_the_truth_and_those_over_examples_do_not():
    clustered = population("perplexity", 2000, 10, 0.5)
    assert coverage(clustered, 70, 200, True) >= 0.9
    assert coverage(clustered, 70, 200, False) <= 0.8


def test_intervals_of_few_examples_hold_the_truth_more_often_than_percentiles(monkeypatch):
    examples = population("perplexity", 20_000, 1, 0.0)
    widened = coverage(examples, 32, 400, False)
    monkeypatch.setattr("instruct_lab.metrics.intervals.FEW_UNITS", 0)
    assert coverage(examples, 32, 400, False) + 0.01 <= widened
    assert widened >= 0.91


# ---- sampled answers


def test_the_parts_of_the_variance_are_those_of_an_analysis_of_variance():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(40, 1)) + 0.5 * generator.normal(size=(40, 6))
    found = sampling_variance(RewardMargin(), [[[score, 1.0] for score in row] for row in scores.tolist()])
    within = scores.var(axis=1, ddof=1).mean()
    between = scores.mean(axis=1).var(ddof=1) - within / 6
    assert (40 * found.sampling, 40 * found.examples) == pytest.approx((within, between))
    assert found.share == pytest.approx(within / (within + between))


def test_the_variance_of_sampling_is_that_between_draws_of_the_answers():
    generator = np.random.default_rng(1)
    answers = [[[float(hit), 1.0, 0.0] for hit in generator.random(400) < rate] for rate in generator.random(50)]
    found = sampling_variance(ExactMatch(), [rows[:8] for rows in answers])
    values = [ExactMatch().value(np.sum([rows[draw] for rows in answers], axis=0).tolist()) for draw in range(400)]
    assert found.sampling == pytest.approx(np.var(values), rel=0.2)


@pytest.mark.parametrize("answers", [[[[1.0, 1.0]] * 3], [[[1.0, 1.0]], [[0.0, 1.0]]], [[[0.0, 0.0]] * 2] * 2])
def test_without_several_answers_to_several_prompts_nothing_is_separated(answers):
    assert sampling_variance(Perplexity(), answers) is None

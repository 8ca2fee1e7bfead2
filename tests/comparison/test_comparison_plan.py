"""How many examples and seeds a difference needs: components of the variance, the power of the test, the command."""

import json
import math

import numpy as np
import pytest
import scipy.stats
from support.planted_runs import NAME, record_of

from instruct_lab import cli
from instruct_lab.comparison.power import detectable, examples_needed, power
from instruct_lab.comparison.scores import RunScores
from instruct_lab.comparison.variances import Variances, estimate_variances
from instruct_lab.metrics import RewardMargin

# ---- components of the variance


def layout(generator, examples, seeds, product, *, num_arms=2, num_seeds=3, num_examples=200):
    """Scores `[runs, examples]` of a two-way layout with these standard deviations, and the runs of each arm."""
    shared, runs = generator.normal(size=num_examples), []
    for _ in range(num_arms):
        own = shared + examples / math.sqrt(2) * generator.normal(size=num_examples)
        for _ in range(num_seeds):
            runs.append(own + seeds * generator.normal() + product * generator.normal(size=num_examples))
    return np.array(runs), [range(arm * num_seeds, (arm + 1) * num_seeds) for arm in range(num_arms)]


@pytest.mark.parametrize("sizes", [(2.0, 0.3, 1.0), (1.0, 0.0, 2.0), (0.5, 1.0, 0.1)])
def test_the_components_are_those_of_the_layout(sizes):
    generator = np.random.default_rng(0)
    found = [estimate_variances(*layout(generator, *sizes)) for _ in range(200)]
    means = [np.mean([getattr(one, name) for one in found]) for name in ("examples", "seeds", "product")]
    assert means == pytest.approx([size**2 for size in sizes], rel=0.15, abs=0.02)


def test_the_variance_of_a_difference_is_that_between_evaluations():
    """Independent evaluations of two configurations: their difference varies as the components say."""
    generator = np.random.default_rng(1)
    sizes = {"num_seeds": 2, "num_examples": 30}
    differences = []
    for _ in range(3000):
        scores, (first, second) = layout(generator, 2.0, 0.3, 1.0, **sizes)
        differences.append(scores[second].mean() - scores[first].mean())
    assert Variances(4.0, 0.09, 1.0).of_difference(30, 2) == pytest.approx(np.var(differences), rel=0.1)


def test_one_run_each_leaves_seeds_unknown_and_clusters_count_by_their_size():
    scores, arms = layout(np.random.default_rng(2), 2.0, 0.3, 1.0, num_seeds=1, num_examples=4000)
    found = estimate_variances(scores, arms)
    assert (found.seeds, found.product) == (None, None)
    assert found.examples == pytest.approx(4.0 + 2 * 1.0, rel=0.1)
    rows = [[[float(score), 1.0] for score in np.repeat(run[:50], 4)] for run in scores]
    clusters = [str(index) for index in range(50) for _ in range(4)]
    whole, single = (RunScores(RewardMargin(), rows, arms, 10, names).variances() for names in (clusters, ()))
    assert whole.examples == pytest.approx(4 * single.examples, rel=0.03)


@pytest.mark.parametrize(
    ("influences", "arms"),
    [([[1.0, 2.0, 3.0]], [[0]]), ([[1.0], [2.0]], [[0], [1]]), ([[1.0, math.inf], [1.0, 2.0]], [[0], [1]])],
)
def test_what_cannot_be_estimated_is_none(influences, arms):
    assert estimate_variances(np.array(influences), arms) is None


# ---- power


@pytest.mark.parametrize("difference", [0.1, 0.3, 0.5])
def test_without_noise_between_seeds_the_power_is_that_of_a_normal_test(difference):
    error = 2.0 / math.sqrt(100)
    expected = scipy.stats.norm.sf(1.96 - difference / error) + scipy.stats.norm.cdf(-1.96 - difference / error)
    assert power(difference, Variances(4.0, None, None), 100, 1) == pytest.approx(expected, abs=1e-4)
    assert power(difference, Variances(4.0, 0.0, 0.0), 100, 4) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("count", [10, 32, 95])
def test_the_power_of_few_examples_is_that_of_a_t_test(count):
    difference, error = 2.0, 2.0 / math.sqrt(count)
    limit = scipy.stats.t.ppf(0.975, count - 1)
    expected = scipy.stats.norm.sf(limit - difference / error) + scipy.stats.norm.cdf(-limit - difference / error)
    assert power(difference, Variances(4.0, None, None), count, 1) == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("num_seeds", [2, 3, 6])
def test_without_noise_of_examples_the_power_is_that_of_a_t_test(num_seeds):
    """Up to the test's own 1000 draws."""
    freedom, effect = 2 * (num_seeds - 1), 1.5
    limit = scipy.stats.t.ppf(0.975, freedom)
    shift = effect / math.sqrt(2 / num_seeds)
    expected = scipy.stats.nct.sf(limit, freedom, shift) + scipy.stats.nct.cdf(-limit, freedom, shift)
    assert power(effect, Variances(1e-12, 1.0, 0.0), 100, num_seeds) == pytest.approx(expected, abs=0.07)


def test_more_seeds_need_fewer_examples_and_a_detectable_difference_has_the_power():
    variances = Variances(100.0, 0.25, 20.0, 4)
    needed = [examples_needed(2.0, variances, count) for count in (2, 3, 5, 10)]
    assert needed[0] is None
    assert needed[1:] == sorted(needed[1:], reverse=True)
    assert power(2.0, variances, needed[1], 3) >= 0.8 > power(2.0, variances, needed[1] - 1, 3)
    assert power(detectable(variances, 96, 3), variances, 96, 3) == pytest.approx(0.8, abs=0.01)


@pytest.mark.slow
def test_planned_power_is_reached():
    """A small form of tests/benchmarks/planned_power.py."""
    generator, variances, found, difference = np.random.default_rng(3), Variances(1.0, 0.01, 0.5, 4), 0, 0.4
    needed = examples_needed(difference, variances, 3)
    for _ in range(200):
        scores, arms = layout(generator, 1.0, 0.1, math.sqrt(0.5), num_examples=needed)
        scores[arms[1]] += difference
        rows = [[[float(score), 1.0] for score in run] for run in scores]
        ((_, probability),) = RunScores(RewardMargin(), rows, arms, 300).differences(arms, 0)
        found += probability < 0.05
    assert 0.72 <= found / 200 <= 0.88


# ---- the command


def records_of(runs_path, seeds, num_examples=120, **facts):
    generator = np.random.default_rng(4)
    hardness = generator.normal(size=num_examples)
    for arm, ability in (("a", 0.0), ("b", 0.6)):
        for seed in range(seeds):
            chance = 1 / (1 + np.exp(-(hardness + ability + 0.1 * generator.normal())))
            right = list(map(bool, generator.random(num_examples) < chance))
            record_of(runs_path, f"{arm}-s{seed}", right, {"x": arm}, seed=seed, **facts)
    return [f"{arm}-s{seed}" for arm in "ab" for seed in range(seeds)]


def plan(capsys, runs_path, names, *options):
    code = cli.main(["compare", *names, "--runs", str(runs_path), "--plan", *options])
    return code, capsys.readouterr()


@pytest.mark.slow
def test_the_cheapest_pair_is_the_cheapest(tmp_path, capsys):
    names = records_of(tmp_path, 3, seconds=48.0)  # of 60: 12 for 120 examples
    code, shown = plan(capsys, tmp_path, names, "12", "--json")
    found = json.loads(shown.out)
    assert (code, found["metric"], found["examples"], found["seeds"]) == (0, NAME, 120, 3)
    assert (found["run_seconds"], found["example_seconds"]) == pytest.approx((48.0, 0.1))
    sizes = [one for one in found["sizes"] if one["examples"] is not None]
    for one in sizes:
        assert one["seconds"] == pytest.approx(2 * one["seeds"] * (48 + 0.1 * one["examples"]))
    assert found["cheapest"] == min(sizes, key=lambda one: one["seconds"])
    code, shown = plan(capsys, tmp_path, names, "12")
    assert "find a difference of 12 in test/exact_match" in shown.out
    assert sum("cheapest" in line for line in shown.out.splitlines()) == 1


def test_one_run_each_is_planned_as_a_lower_bound(tmp_path, capsys):
    code, shown = plan(capsys, tmp_path, records_of(tmp_path, 1), "12")
    assert code == 0
    assert "training noise is unknown" in shown.out
    assert "sweep.seeds=3" in shown.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["0"], "above 0"),
        (["-1"], "above 0"),
        (["nan"], "above 0"),
        (["inf"], "above 0"),
        (["2", "--markdown"], "--markdown"),
        (["2", "--html", "page.html"], "--html"),
        (["2", "--disagreements", "0"], "--disagreements"),
        (["2", "--metric", "test/exact"], "test/exact_match"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(tmp_path, capsys, options, reason):
    code, shown = plan(capsys, tmp_path, records_of(tmp_path, 1), *options)
    assert code == 2
    assert reason in shown.err
    assert not shown.out


def test_runs_of_one_configuration_cannot_be_planned_with(tmp_path, capsys):
    code, shown = plan(capsys, tmp_path, records_of(tmp_path, 3)[:3], "2")
    assert code == 2
    assert "all of one configuration" in shown.err

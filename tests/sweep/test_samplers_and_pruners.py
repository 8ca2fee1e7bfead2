"""Samplers choose the points they should, and pruners stop bad trials early."""

import pytest
from support.exhaustive import exhaustive
from support.planted import STEPS, final_loss
from support.sweeps import GRID

BEST = {"tuning.r": "16", "optimizer.lr": "0.003"}


def steps_of(runs):
    return sum(run["lines"][-1]["step"] for run in runs)


def best_of(runs):
    finished = [run for run in runs if run["status"] == "finished"]
    return min(finished, key=lambda run: run["lines"][-1]["val/loss"])["sweep"]["values"]


@pytest.mark.slow
def test_the_grid_tries_every_point_once(planted):
    runs = planted(*GRID)
    assert len(runs) == 30
    assert len({tuple(run["sweep"]["values"].items()) for run in runs}) == 30
    assert best_of(runs) == BEST


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["successive_halving", "hyperband", "median"])
def test_a_pruner_finds_the_best_point_of_the_grid_in_fewer_steps(planted, pruner):
    settings = {
        "successive_halving": ["pruner.first_steps=2", "pruner.reduction=3"],
        "hyperband": ["pruner.first_steps=2", f"pruner.last_steps={STEPS}"],
        "median": ["pruner.first_steps=4", "pruner.first_trials=2"],
    }[pruner]
    settings = [f"sweep.{text}" for text in settings]
    runs = planted(*GRID, f"pruner={pruner}", *settings)
    share = steps_of(runs) / (30 * STEPS)
    print(f"{pruner}: {share:.0%} of the grid's steps")
    assert len(runs) == 30
    assert best_of(runs) == BEST
    assert {run["status"] for run in runs} == {"finished", "pruned"}
    assert share <= {"successive_halving": 0.4, "hyperband": 0.75, "median": 0.75}[pruner]


@pytest.mark.slow
@pytest.mark.parametrize("first_trials", [exhaustive(0), 9])
def test_successive_halving_never_stops_the_first_trials(planted, first_trials):
    """The first points are the worst of the grid, so that without the setting most of them are stopped."""
    settings = ["first_steps=2", "reduction=3", f"first_trials={first_trials}"]
    runs = planted(*GRID, "pruner=successive_halving", *(f"sweep.pruner.{text}" for text in settings))
    stopped = [index for index, run in enumerate(runs) if run["status"] == "pruned"]
    assert {index for index in stopped if index < first_trials} == set()
    assert len([index for index in stopped if index >= first_trials]) > (30 - first_trials) / 2
    assert best_of(runs) == BEST


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["random", "tpe", "cmaes", "gaussian_process"])
def test_a_sampler_is_reproducible_and_comes_near_the_best(planted, sampler):
    space = ["tuning.r=tag(log, int(interval(2, 64)))", "optimizer.lr=tag(log, interval(1e-4, 1e-2))"]
    arguments = [*space, f"hydra/sweeper={sampler}"]
    first, second = planted(*arguments, "sweep.num_points=16"), planted(*arguments, "sweep.num_points=12")
    assert [run["sweep"]["values"] for run in first[:12]] == [run["sweep"]["values"] for run in second]
    assert len(first) == 16
    other = planted(*arguments, "sweep.num_points=3", "hydra.sweeper.seed=1")
    assert [run["sweep"]["values"] for run in other] != [run["sweep"]["values"] for run in first[:3]]
    losses = [final_loss(run["sweep"]["values"]["tuning.r"], run["sweep"]["values"]["optimizer.lr"]) for run in first]
    assert min(losses) < 1.35


@pytest.mark.slow
def test_several_metrics_give_a_front(planted):
    metrics = "sweep.metric=[val/loss,trained_parameters]"
    runs = planted(*GRID, "hydra/sweeper=nsga2", "hydra.sweeper.population=6", "sweep.num_points=18", metrics)
    assert len(runs) == 18
    assert {run["status"] for run in runs} == {"finished"}


@pytest.mark.slow
def test_conditions_reach_the_trials(planted):
    space = 'sweep.space={tuning: "lora,rslora", tuning.alpha: {values: "1.0,2.0", when: "tuning=lora"}}'
    runs = planted(space)
    assert [run["sweep"]["values"] for run in runs] == [
        {"tuning": "lora", "tuning.alpha": "1.0"},
        {"tuning": "lora", "tuning.alpha": "2.0"},
        {"tuning": "rslora"},
    ]


@pytest.mark.slow
def test_seeds_are_runs_of_each_point(planted):
    runs = planted("tuning.r=4,16", "sweep.seeds=3", "seed=5", "sweep.metric=[val/loss,trained_parameters]")
    assert all(run["sweep"]["metrics"] == ["val/loss", "trained_parameters"] for run in runs)
    found = [(run["sweep"]["values"]["tuning.r"], run["sweep"]["seed"]) for run in runs]
    assert found == [(r, seed) for r in ("4", "16") for seed in (5, 6, 7)]
    assert [run["id"].rpartition("-")[2] for run in runs] == ["s0", "s1", "s2"] * 2


@pytest.mark.slow
def test_a_pruned_point_makes_no_further_seeds(planted):
    runs = planted(*GRID[:1], "sweep.seeds=2", "pruner=successive_halving", "sweep.pruner.first_steps=2")
    by_point = {}
    for run in runs:
        by_point.setdefault(run["sweep"]["point"], []).append(run["status"])
    assert ["pruned"] in by_point.values()
    assert ["finished", "finished"] in by_point.values()
    assert all(statuses in (["pruned"], ["finished", "finished"]) for statuses in by_point.values())

"""Effects of choices, importance, Pareto fronts and disagreements, on planted grids."""

import numpy as np
import pytest
from support.planted_runs import NAME, record_of

from instruct_lab import cli
from instruct_lab.comparison.compare import compare
from instruct_lab.comparison.text import tables


def grid(runs_path, cells, num_examples=200):
    """A run for each (r, lr, share of correct answers, seconds)."""
    generator = np.random.default_rng(0)
    hardness = generator.random(num_examples)
    records = []
    for index, (r, lr, share, seconds) in enumerate(cells):
        config = {"tuning": {"r": r}, "optimizer": {"lr": lr}}
        outcomes = (hardness < share).tolist()
        records.append(record_of(runs_path, f"x-{index:04d}", outcomes, config, seconds=seconds, trained=r))
    return records


@pytest.fixture
def two_by_three(tmp_path):
    """The learning rate matters, the rank does not."""
    cells = [(r, lr, share, r * 1.0) for r in (4, 16) for lr, share in ((1e-4, 0.3), (1e-3, 0.6), (1e-2, 0.9))]
    return grid(tmp_path, cells)


@pytest.mark.slow
def test_marginal_means_differences_and_importance(two_by_three):
    compared = compare(two_by_three)
    rank, rate = compared.effects
    assert (rank.key, rate.key) == ("tuning.r", "optimizer.lr")
    assert rank.is_balanced
    assert rate.is_balanced
    values = [one.value for one in compared.metrics[NAME]]
    assert [level.mean.value for level in rate.levels] == pytest.approx([values[0], values[1], values[2]])
    assert [level.runs for level in rate.levels] == [2, 2, 2]
    assert rate.levels[2].difference is None
    assert rate.levels[0].difference.value == pytest.approx(values[0] - values[2])
    assert rate.levels[0].probability < 0.05
    assert rank.levels[1].probability == 1.0  # equal to the digit
    assert rate.importance > 0.9
    assert rank.importance + rate.importance == pytest.approx(1.0)
    titles = [table.title for table in tables(compared)]
    assert any(title.startswith(f"Effect of optimizer.lr on {NAME}; importance 9") for title in titles)


@pytest.mark.slow
def test_without_scikit_learn_importance_is_left_out_with_a_hint(two_by_three, monkeypatch, capsys):
    monkeypatch.setattr("instruct_lab.comparison.effects.is_installed", lambda name: False)
    runs_path = two_by_three[0].path.parent.parent
    assert cli.main(["compare", *(record.id for record in two_by_three), "--runs", str(runs_path)]) == 0
    shown = capsys.readouterr().out
    assert "Effect of tuning.r" in shown
    assert "pip install 'instruct-lab[report]'" in shown
    assert "importance 9" not in shown


def test_an_effect_over_other_choices_that_differ_is_marked_as_not_balanced(tmp_path):
    records = grid(tmp_path, [(4, 1e-4, 0.3, 1), (4, 1e-3, 0.6, 1), (16, 1e-3, 0.6, 1)])
    rank = next(effect for effect in compare(records).effects if effect.key == "tuning.r")
    assert not rank.is_balanced
    assert any("not balanced" in table.title for table in tables(compare(records)))


@pytest.mark.slow
def test_many_numbers_are_grouped_into_ranges(tmp_path):
    records = grid(tmp_path, [(4 + index % 2, 1e-4 * (1 + index), 0.02 * index, 1) for index in range(24)])
    rate = next(effect for effect in compare(records).effects if effect.key == "optimizer.lr")
    assert [level.value for level in rate.levels] == [
        "0.0001 to 0.0006",
        "0.0007 to 0.0012",
        "0.0013 to 0.0018",
        "0.0019 to 0.0024",
    ]
    assert [level.runs for level in rate.levels] == [6, 6, 6, 6]


def test_the_front_has_the_configurations_that_none_beats_in_both(tmp_path):
    cells = [(4, 1e-4, 0.3, 10), (8, 1e-4, 0.2, 20), (16, 1e-4, 0.8, 30), (32, 1e-4, 0.8, 40), (2, 1e-4, 0.1, 5)]
    compared = compare(grid(tmp_path, cells))
    fronts = {front.cost: front for front in compared.fronts}
    assert set(fronts) == {"training_seconds", "trained_parameters"}  # no run has recorded its memory
    assert fronts["training_seconds"].arms == ["x-0004", "x-0000", "x-0002"]
    assert fronts["trained_parameters"].costs == [4, 8, 16, 32, 2]


def test_disagreements_are_the_examples_that_one_of_the_two_best_gets_right(tmp_path):
    right = [[True] * 10, [True] * 7 + [False] * 3, [False] * 10]
    records = [record_of(tmp_path, f"run-{index}", one, {"x": index}) for index, one in enumerate(right)]
    compared = compare(records, num_disagreements=2)
    assert [one.id for one in compared.disagreements] == ["example-7", "example-8"]
    first = compared.disagreements[0]
    assert (first.runs, first.predictions, first.scores) == (("run-0", "run-1"), ("yes", "no"), (100.0, 0.0))
    assert compare(records, num_disagreements=0).disagreements == []


def test_choices_that_always_vary_together_are_one_factor(tmp_path):
    records = [
        record_of(tmp_path, f"{index}", [True, False] * 10, {"tuning": {"r": r, "alpha": 2 * r}, "x": x})
        for index, (r, x) in enumerate([(4, 0), (8, 0), (4, 1), (8, 1)])
    ]
    assert [effect.key for effect in compare(records).effects] == ["tuning.r", "x"]

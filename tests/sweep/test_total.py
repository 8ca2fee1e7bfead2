"""The estimate of a whole sweep."""

import pytest

from instruct_lab.planning.catalogue import find_device
from instruct_lab.sweep import total
from instruct_lab.sweep.plan import plan

ONE_LAYER = "model.weights.settings.num_hidden_layers=1"


@pytest.mark.slow
def test_runs_that_cost_the_same_are_planned_once_and_the_total_counts_all(lab, tiny):
    planned = plan([*tiny, ONE_LAYER, "tuning.r=2,4", "optimizer.lr=1e-3,2e-3", "sweep.seeds=3"])
    found = total.estimate_sweep(planned, find_device("t4"))
    assert found.num_runs == 2 * 2 * 3
    assert len(found.estimates) == 2
    assert found.seconds == pytest.approx(6 * sum(one.seconds for one in found.estimates.values()))
    assert found.largest.trained_parameters == max(one.trained_parameters for one in found.estimates.values())
    assert found.cost(3600.0) == pytest.approx(found.seconds)


@pytest.mark.slow
def test_runs_at_equal_distances_are_estimated(lab, tiny):
    planned = plan([*tiny, ONE_LAYER, "tuning.r=1,2,3,4,5"])
    found = total.estimate_sweep(planned, find_device("t4"), max_planned=3)
    assert [key[-1] for key in found.estimates] == ["tuning.r=1", "tuning.r=3", "tuning.r=5"]
    assert found.num_different == 5


@pytest.mark.slow
def test_a_sweep_describes_its_total_before_it_starts_unless_its_model_is_tiny(lab, tiny, monkeypatch):
    planned = plan([*tiny, ONE_LAYER, "tuning.r=2,4"])
    assert total.describe_total(planned) is None
    monkeypatch.setattr(total, "MIN_PARAMETERS", 0)
    assert total.describe_total(planned).startswith("planned: 2 runs, about ")
    monkeypatch.setattr(total, "MAX_PLANNED_AT_START", 2)
    planned = plan([*tiny, ONE_LAYER, "tuning.r=2,4,8"])
    assert total.describe_total(planned).endswith(" (estimated from 2 of 3 different runs)")

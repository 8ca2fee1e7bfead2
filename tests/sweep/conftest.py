import pytest
from support.sweeps import sweep_runs

from instruct_lab import cli
from instruct_lab.sweep import plan


@pytest.fixture
def planted(lab, tiny, monkeypatch):
    """Run a sweep of planted trials; returns its records' manifests with their metrics' lines, in order."""

    monkeypatch.setattr(plan, "MAX_CHECKED", 0)  # checking each point of a large grid takes a tenth of a second each

    def run(*overrides, code=0):
        assert cli.main(["train", "-m", *tiny, "hydra.launcher._target_=support.planted.Planted", *overrides]) == code
        return sweep_runs(lab)

    return run

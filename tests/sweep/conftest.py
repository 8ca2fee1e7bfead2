import json

import pytest

from instruct_lab import cli
from instruct_lab.sweep import plan
from instruct_lab.tracking.files import read_lines

GRID = ["tuning.r=2,4,8,16,32,64", "optimizer.lr=1e-4,3e-4,1e-3,3e-3,1e-2"]


@pytest.fixture
def planted(lab, tiny, monkeypatch):
    """Run a sweep of planted trials; gives its records' manifests with their last validation loss, in order."""

    monkeypatch.setattr(plan, "MAX_CHECKED", 0)  # checking each point of a large grid takes a tenth of a second each

    def run(*overrides, code=0):
        assert cli.main(["train", "-m", *tiny, "hydra.launcher._target_=planted.Planted", *overrides]) == code
        return sweep_runs(lab)

    return run


def sweep_runs(lab):
    """Of the newest sweep: each run's manifest, with its metrics' lines, by its number."""
    folder = max(lab.glob("runs/*/*/sweep.json"), key=lambda path: path.parent.name).parent
    runs = []
    for manifest in sorted(folder.parent.glob(f"{folder.name}-*/manifest.json")):
        told = json.loads(manifest.read_text(encoding="utf-8"))
        lines = read_lines(manifest.parent / "metrics.jsonl")
        runs.append({**told, "lines": lines})
    return runs

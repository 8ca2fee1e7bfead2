"""Reads the records of a sweep in tests."""

import json

from instruct_lab.files import read_lines

GRID = ["tuning.r=2,4,8,16,32,64", "optimizer.lr=1e-4,3e-4,1e-3,3e-3,1e-2"]


def sweep_runs(lab, runs_path="runs"):
    """The runs of the newest sweep: each run's manifest with the lines of its metrics, in order."""
    folder = max(lab.glob(f"{runs_path}/*/*/sweep.json"), key=lambda path: path.parent.name).parent
    runs = []
    for manifest in sorted(folder.parent.glob(f"{folder.name}-*/manifest.json")):
        entries = json.loads(manifest.read_text(encoding="utf-8"))
        lines = read_lines(manifest.parent / "metrics.jsonl")
        runs.append({**entries, "lines": lines})
    return runs

"""Reading what runs recorded."""

import json
from pathlib import Path


def newest_run(lab: Path) -> Path:
    """The folder of the last run."""
    return max((path.parent for path in lab.glob("*/*/*/manifest.json")), key=lambda path: path.stat().st_mtime_ns)


def logged(record: Path, name: str) -> list[tuple[int, float]]:
    """The steps and values of one name in `metrics.jsonl`."""
    lines = [json.loads(line) for line in (record / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(line["step"], line[name]) for line in lines if name in line]


def size_up_to(record: Path, step: int) -> int:
    """The size of the lines of `metrics.jsonl` up to a step, in bytes."""
    lines = (record / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    return sum(len(line) for line in lines if line.endswith(b"\n") and json.loads(line)["step"] <= step)

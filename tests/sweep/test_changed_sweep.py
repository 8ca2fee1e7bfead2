"""A sweep whose code or settings changed is continued only by force."""

import json

import pytest

from instruct_lab import cli
from instruct_lab.records import RunRecord
from instruct_lab.sweep.task import Task
from instruct_lab.sweep.trial import run_task

SHORT = ["trainer.max_steps=2", "evaluation.before=false", "evaluation.baselines=false", "sweep.metric=test/perplexity"]


@pytest.mark.slow
@pytest.mark.parametrize("entries", [{"source_sha256": "0" * 64}, {"packages": {"transformers": "1.0"}}])
def test_a_sweep_with_other_code_is_continued_only_by_force(lab, tiny, capsys, entries):
    assert cli.main(["train", "-m", *tiny, *SHORT, "tuning.r=2,4"]) == 0
    (path,) = lab.glob("runs/*/*-0001")
    record = RunRecord.open(path)
    record.write_manifest(**entries)
    name = next(iter(entries.values()))
    before = "0" * 12 if isinstance(name, str) else "package transformers 1.0"
    assert cli.main(["resume", "latest"]) == 2
    assert f"{before} →" in capsys.readouterr().err
    for change in ("trainer.max_steps=5", "trainer.devices=2"):
        assert cli.main(["resume", "latest", change]) == 2
        assert "compares runs of one length, on the same devices" in capsys.readouterr().err

    def outcome(force):
        record.write_manifest(status="interrupted", **entries)
        sweep = {"id": "s", "point": 1, "values": {}, "seed": 0}
        paths = {"working_path": str(lab), "output_path": str(lab / "output.txt"), "runs_path": str(lab / "runs")}
        task = Task(
            name=path.parent.name, run_id=path.name, overrides=record.overrides, sweep=sweep, **paths, force=force
        )
        return run_task(Task.from_json(json.loads(json.dumps(task.to_json()))))

    refused = outcome(force=False)
    assert (refused.status, before in refused.message) == ("failed", True)
    assert outcome(force=True).status == "finished"
    assert record.manifest.continuations[0].changes
    record.write_manifest(**entries)
    assert cli.main(["resume", "latest", "--force"]) == 0
    (sweep,) = lab.glob("runs/*/*/sweep.json")
    assert any(before in change for change in json.loads(sweep.read_text())["changes"])

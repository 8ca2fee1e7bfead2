"""Two processes evaluate as one does, and each of them does half of the work; see also `tests/invariance`."""

import json
import subprocess

import pytest
from support.command_server import command
from support.records import newest_run

from instruct_lab import cli

SETTINGS = [
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "trainer.accumulate_grad_batches=2",
    "evaluation.baselines=false",
    "evaluation.during_examples=2",
    "metrics=[text,perplexity]",
    "generation.do_sample=true",  # each example has its own seed
    "+metrics.counted._target_=counted.Counted",
]
COUNTED = '''
import os
from instruct_lab.config import component
from instruct_lab.metrics import ExactMatch

@component
class Counted(ExactMatch):
    """Exact match that notes which process scored which example."""

    def of_prediction(self, prediction):
        with open(f"scored-by-{os.environ.get('LOCAL_RANK', '0')}.txt", "a") as file:
            file.write(f"{prediction.split} {prediction.id}\\n")
        return super().of_prediction(prediction)
'''


def scored_by(lab, rank):
    path = lab / f"scored-by-{rank}.txt"
    return path.read_text().splitlines() if path.exists() else []


def results(record):
    predictions = [json.loads(line) for line in (record / "predictions.jsonl").read_text().splitlines()]
    return predictions, json.loads((record / "summary.json").read_text())["metrics"]


@pytest.mark.slow
def test_two_processes_evaluate_as_one_and_share_the_work(lab, lab_code_allowed, tiny):
    (lab / "counted.py").write_text(COUNTED)
    assert cli.main(["train", *tiny, *SETTINGS, "batching.batch_size=6"]) == 0
    one = newest_run(lab)
    by_one = scored_by(lab, 0)
    (lab / "scored-by-0.txt").unlink()
    two_devices = ["trainer.strategy=ddp", "trainer.devices=2", "batching.batch_size=3"]
    arguments = command("train", "--debug", *tiny, *SETTINGS, *two_devices)
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list(lab.glob("runs/*/*"))) == 2  # the second process created no record
    two = newest_run(lab)
    assert two != one
    for record in (one, two):
        assert not json.loads((record / "manifest.json").read_text()).get("warnings")
    (predictions, metrics), (shared_predictions, shared_metrics) = results(one), results(two)
    texts = [(p["id"], p["prediction_before"], p["prediction"]) for p in predictions]
    assert [(p["id"], p["prediction_before"], p["prediction"]) for p in shared_predictions] == texts
    assert len(texts) == 8
    assert list(shared_metrics) == list(metrics)
    for name, systems in metrics.items():
        for system in ("before", "after"):
            assert shared_metrics[name][system]["value"] == pytest.approx(systems[system]["value"], rel=1e-4), name
            assert shared_metrics[name][system]["count"] == systems[system]["count"] == 4
    by_first, by_second = scored_by(lab, 0), scored_by(lab, 1)
    assert len(by_first) == len(by_second) == len(by_one) / 2
    assert sorted(by_first + by_second) == sorted(by_one)


FAILING = '''
import os
from instruct_lab.config import component
from instruct_lab.errors import InstructLabError
from instruct_lab.metrics import ExactMatch

@component
class FailsOnSecondRank(ExactMatch):
    """Exact match that one of two processes cannot compute."""

    def of_prediction(self, prediction):
        if os.environ["LOCAL_RANK"] == "1":
            raise InstructLabError("This example cannot be scored", where=prediction.id)
        return super().of_prediction(prediction)
'''


@pytest.mark.slow
def test_an_error_of_one_rank_ends_the_run_on_all(lab, lab_code_allowed, tiny):
    (lab / "failing.py").write_text(FAILING)
    failing = "+metrics.fails._target_=failing.FailsOnSecondRank"
    two_devices = ["trainer.accelerator=cpu", "trainer.strategy=ddp", "trainer.devices=2"]
    arguments = command("train", *tiny, failing, *two_devices)
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr[-3000:]
    assert "This example cannot be scored" in done.stderr
    manifest = json.loads((newest_run(lab) / "manifest.json").read_text())
    assert manifest["status"] == "failed"
    assert "This example cannot be scored" in manifest["exception"]["message"]

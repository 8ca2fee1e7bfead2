"""`evaluate` measures a recorded model again, as it was measured or on other data, and `compare` pairs the results."""

import json

import pytest
from support.lab import TINY, instruction_rows, write_lab
from support.records import newest_run

from instruct_lab import cli
from instruct_lab.records import RunRecord, find_run
from instruct_lab.records.evaluations import EvaluationFiles

pytestmark = pytest.mark.slow
SHORT = ["trainer.max_steps=2", "optimizer.lr=0.05"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with two runs of different ranks; the command runs there."""
    folder = tmp_path_factory.mktemp("evaluated")
    write_lab(folder)
    rows = [{**row, "instruction": f"Please: {row['instruction']}"} for row in instruction_rows(40)]
    (folder / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("INSTRUCT_LAB_CACHE", str(folder / "cache"))
        records = []
        for rank in (2, 4):
            assert cli.main(["train", *TINY, *SHORT, f"tuning.r={rank}"]) == 0
            records.append(RunRecord.open(newest_run(folder)))
        yield records


def evaluate(*words):
    return cli.main(["evaluate", *map(str, words)])


def values(summary):
    return {
        (metric, system): (one.value, one.low, one.high, one.count, one.signature, one.notes)
        for metric, systems in summary.metrics.items()
        for system, one in systems.items()
    }


def test_a_run_on_its_own_data_has_its_recorded_values(runs):
    record = runs[0]
    assert evaluate(record.path) == 0
    found = EvaluationFiles(record, "own")
    assert values(found.summary) == values(record.summary)
    assert found.read_predictions() == record.read_predictions()
    assert found.read_results()["test"]["after"] == record.read_results("after")["test"]["after"]


def test_runs_are_paired_on_other_data(runs, capsys):
    overrides = ["data=path:other.jsonl", "data.split.test=0.4", "evaluation.max_examples=30", "--name", "other"]
    for record in runs:
        assert evaluate(record.path, *overrides) == 0
    capsys.readouterr()
    paths = [str(record.path) for record in runs]
    assert cli.main(["compare", *paths, "--on", "other", "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert compared["differences"]["test/chrf"][0]["count"] == len(
        [line for line in EvaluationFiles(runs[0], "other").read_predictions() if line.split == "test"]
    )
    assert (
        compared["metrics"]["test/chrf"][0]["value"]
        == EvaluationFiles(runs[0], "other").summary.value("test/chrf").value
    )
    assert cli.main(["compare", *paths, "--on", "othr"]) == 2
    assert "choose --on other" in capsys.readouterr().err


def test_a_model_folder_gets_a_record(runs, capsys):
    assert cli.main(["export", str(runs[0].path), "plain"]) == 0
    for _ in range(2):
        assert evaluate("plain", "data=mine", "evaluation.max_examples=4", "generation.max_new_tokens=6") == 0
    (record,) = list(runs[0].path.parent.parent.glob("model-plain/*"))
    (name,) = [file.stem for file in (record / "evaluations").glob("*.json")]
    measured = EvaluationFiles(find_run("runs", record), name).summary
    for metric in ("test/chrf", "val/chrf"):
        assert measured.value(metric).value == runs[0].summary.value(metric).value

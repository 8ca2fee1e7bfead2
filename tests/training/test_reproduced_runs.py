"""A reproduced run is compared with the recorded one, value by value."""

import json

import pytest
from support.records import newest_run

from instruct_lab import cli
from instruct_lab.metrics import MetricValue
from instruct_lab.records import PredictionLine, RunRecord, Summary
from instruct_lab.records.reproduction import compare_with_recorded

QUICK = [
    "evaluation.before=false",
    "evaluation.baselines=false",
    "evaluation.during_examples=0",
    "batching.batch_size=12",
]


@pytest.mark.slow
def test_a_run_is_reproduced_to_the_last_bit(train, lab, capsys):
    record = train(*QUICK)
    assert cli.main(["reproduce", "latest"]) == 0
    assert "bit-identical to " in capsys.readouterr().out
    reproduced = newest_run(lab)
    assert reproduced != record
    content = json.loads((reproduced / "reproduction.json").read_text())
    assert content["identical"] is True
    assert content["reproduces"] == f"{record.parent.name}/{record.name}"
    assert content["num_values"] > 20
    assert content["num_predictions"] > 0
    assert content["weights_equal"] is True
    assert content["changes"] == []


@pytest.mark.slow
def test_changed_data_is_refused_and_with_force_named(train, lab, capsys):
    train(*QUICK)
    text = (lab / "rows.jsonl").read_text()
    (lab / "rows.jsonl").write_text(text.replace("Turn around", "Turn about"))
    assert cli.main(["reproduce", "latest"]) == 2
    message = capsys.readouterr().err
    assert "rows.jsonl" in message
    assert "→" in message
    assert len(list(lab.glob("runs/*/*/config.yaml"))) == 1
    assert cli.main(["reproduce", "latest", "--force"]) == 1
    printed = capsys.readouterr()
    assert "different: input rows.jsonl" in printed.err
    assert "values differ; the first is train/loss at step 1" in printed.out
    assert "largest relative difference" in printed.out
    content = json.loads((newest_run(lab) / "reproduction.json").read_text())
    assert content["identical"] is False
    assert content["first"]["step"] == 1
    assert 0 < content["largest"]["relative"] <= 2
    assert [change["name"] for change in content["changes"]] == ["rows.jsonl"]


# ---- the comparison of two records


@pytest.fixture
def records(tmp_path):
    def new(losses, status="finished", answers=("a", "b"), value=0.5):
        record = RunRecord.create(tmp_path, "run", {"seed": 1}, [])
        for step, loss in enumerate(losses, start=1):
            record.append_metrics(step, 0, {"train/loss": loss, "train/target_tokens_per_second": 100.0 * step})
        record.write_predictions(PredictionLine(str(i), "test", prediction=text) for i, text in enumerate(answers))
        record.write_summary(Summary(metrics={"test/chrf": {"after": MetricValue(value, value, value, 2, "")}}))
        record.write_manifest(status=status)
        return record

    return new


def test_equal_records_are_identical_whatever_time_they_took(records):
    first, second = records([1.0, float("nan"), 0.5]), records([1.0, float("nan"), 0.5])
    found = compare_with_recorded(first, second, [])
    assert found.is_identical
    assert found.num_values == 4
    assert "bit-identical" in str(found)


@pytest.mark.parametrize(
    ("changed", "first", "relative"),
    [
        ({"losses": [1.0, 0.8, 0.5]}, "train/loss at step 2: 0.75 recorded, 0.8 now", 0.0625),
        ({"losses": [1.0, 0.75]}, "train/loss at step 3: 0.5 recorded, None now", float("inf")),
        ({"losses": [1.0, 0.75, 0.5, 0.4]}, "train/loss at step 4: None recorded, 0.4 now", float("inf")),
        ({"losses": [1.0, float("nan"), 0.5]}, "train/loss at step 2: 0.75 recorded, nan now", float("inf")),
        ({"losses": [1.0, 0.75, 0.0]}, "train/loss at step 3: 0.5 recorded, 0.0 now", 1.0),
        ({"value": 0.25}, "test/chrf (after) in the results: 0.5 recorded, 0.25 now", 0.5),
    ],
)
def test_the_first_difference_and_the_largest_are_named(records, changed, first, relative):
    recorded = records([1.0, 0.75, 0.5])
    found = compare_with_recorded(recorded, records(**{"losses": [1.0, 0.75, 0.5], **changed}), [])
    assert not found.is_identical
    assert str(found.first) == first
    assert found.largest.relative == pytest.approx(relative)


def test_answers_are_compared_one_by_one(records):
    found = compare_with_recorded(records([1.0]), records([1.0], answers=("a", "c")), [])
    assert (found.num_predictions, found.num_different_predictions, found.is_identical) == (2, 1, False)


def test_of_an_unfinished_run_only_what_it_recorded_is_compared(records):
    found = compare_with_recorded(records([1.0, 0.75], status="interrupted"), records([1.0, 0.75, 0.5]), [])
    assert found.is_identical
    assert "as far as the recorded run got (interrupted)" in str(found)

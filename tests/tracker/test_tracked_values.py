"""The settings, final values and tables that trackers receive."""

from types import SimpleNamespace

import pytest

from instruct_lab.records import PredictionLine, RunRecord, Summary
from instruct_lab.tracker.recorder import Recorder
from instruct_lab.tracker.values import (
    audit_reasons_table,
    estimates_of,
    final_values,
    flat_config,
    predictions_table,
    results_table,
    tracker_names,
    without_intervals,
)

SUMMARY = {
    "status": "finished",
    "seconds": 3.5,
    "tokens": 12,
    "peak_memory_bytes": None,
    "metrics": {
        "test/chrf": {
            "before": {"value": 10.0, "low": 9.0, "high": 11.0, "count": 4, "signature": "x"},
            "after": {"value": 20.0, "low": 18.0, "high": 22.0, "count": 4, "signature": "x"},
        }
    },
}


def test_a_config_becomes_settings_by_full_keys():
    config = {
        "seed": 1,
        "name": None,
        "tuning": {"r": 16, "target_modules": ["q", "v"]},
        "sources": [{"path": "a"}, {"path": "b"}],
        "empty": {},
        "none": [],
    }
    assert flat_config(config) == {
        "seed": 1,
        "name": None,
        "tuning.r": 16,
        "tuning.target_modules": '["q", "v"]',
        "sources.0.path": "a",
        "sources.1.path": "b",
        "empty": "{}",
        "none": "[]",
    }


def test_final_values_have_every_system_and_its_interval():
    assert final_values(Summary.from_json(SUMMARY)) == {
        "cost/seconds": 3.5,
        "cost/tokens": 12,
        "test/chrf/before": 10.0,
        "test/chrf/before_low": 9.0,
        "test/chrf/before_high": 11.0,
        "test/chrf/after": 20.0,
        "test/chrf/after_low": 18.0,
        "test/chrf/after_high": 22.0,
    }
    assert final_values(Summary()) == {}


def test_intervals_are_left_out_where_each_would_be_a_chart():
    assert list(without_intervals(final_values(Summary.from_json(SUMMARY)))) == [
        "cost/seconds",
        "cost/tokens",
        "test/chrf/before",
        "test/chrf/after",
    ]
    assert without_intervals({"val/low": 1, "val/share_low": 2}) == {"val/low": 1, "val/share_low": 2}


def test_results_are_a_row_for_each_system():
    after = SUMMARY["metrics"]["test/chrf"]["after"]
    noted = {"metrics": {"test/chrf": {**SUMMARY["metrics"]["test/chrf"], "after": {**after, "notes": ["a", "b"]}}}}
    columns, rows = results_table(Summary.from_json(noted))
    assert columns == ["metric", "system", "value", "low", "high", "count", "notes"]
    assert rows == [
        ["test/chrf", "before", 10.0, 9.0, 11.0, 4, ""],
        ["test/chrf", "after", 20.0, 18.0, 22.0, 4, "a; b"],
    ]
    assert results_table(Summary())[1] == []


def test_predictions_come_with_references_and_scores():
    lines = [
        {
            "id": "1",
            "split": "test",
            "prompt": "p",
            "prediction": "a",
            "prediction_before": None,
            "references": ["x", "y"],
        },
        {"id": "2", "split": "test", "prompt": "q", "prediction": "b", "prediction_before": "c", "scores": {"f1": 0.5}},
    ]
    columns, rows = predictions_table([PredictionLine.from_json(line) for line in lines])
    assert columns == ["id", "split", "prompt", "references", "prediction_before", "prediction", "f1"]
    assert rows == [["1", "test", "p", "x\ny", None, "a", None], ["2", "test", "q", "", "c", "b", 0.5]]


def test_an_audit_is_a_row_for_each_reason_with_its_first_sample():
    reason = {"stage": "data", "action": "dropped", "reason": "empty", "count": 3}
    audit = {"reasons": [{**reason, "samples": [{"before": "a", "after": None}, {"before": "b"}]}]}
    assert audit_reasons_table(audit)[1] == [["data", "dropped", "empty", 3, "a", None]]
    assert audit_reasons_table({}) == (["stage", "action", "reason", "count", "before", "after"], [])


METRICS = {
    "chrf": {"_target_": "instruct_lab.metrics.ChrF"},
    "accuracy": {"_target_": "instruct_lab.metrics.PreferenceAccuracy"},
    "perplexity": {"_target_": "instruct_lab.metrics.Perplexity"},
    "bleu": None,
}


def test_metrics_of_answers_are_estimates_during_training_and_likelihoods_are_not():
    estimates = estimates_of({"evaluation": {"during_examples": 16}, "metrics": METRICS})
    assert estimates == {"val/chrf"}
    values = {"val/chrf": 1.0, "val/perplexity": 2.0, "val/accuracy": 3.0, "val/loss": 4.0, "train/loss": 5.0}
    named = tracker_names(values, estimates)
    assert named == {"val/chrf_estimate": 1.0, **{name: values[name] for name in list(values)[1:]}}
    assert not set(named) & {name.rpartition("/")[0] for name in final_values(Summary.from_json(SUMMARY))}


@pytest.mark.parametrize(
    "config",
    [{}, {"evaluation": {}}, {"evaluation": {"during_examples": 0}, "metrics": METRICS}, {"evaluation": None}],
    ids=["earlier version", "none set", "none answered", "null"],
)
def test_without_answers_during_training_nothing_is_an_estimate(config):
    assert estimates_of(config) == frozenset()


def test_the_record_keeps_the_name_that_monitors_read_and_trackers_get_the_estimate(tmp_path):
    config = {"evaluation": {"during_examples": 2}, "metrics": METRICS}
    record = RunRecord.create(tmp_path, "run", config, [])
    received = []
    session = SimpleNamespace(log=lambda values, step: received.append((step, values)))
    Recorder(record, {"one": session}).log({"val/chrf": 3.0, "val/loss": 1.0}, step=4, epoch=0)
    assert received == [(4, {"val/chrf_estimate": 3.0, "val/loss": 1.0})]
    assert record.read_metrics()[0]["val/chrf"] == 3.0

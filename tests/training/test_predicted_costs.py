"""The plan of a run that is about to train: printed, in the record beside what was measured, and without effect."""

import json

import pytest

from instruct_lab.training import predicted


def lines(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_planned_run_has_prediction_and_measurement_and_the_same_losses(train, monkeypatch, capsys):
    plain = train("tuning.dropout=0.1")
    assert "plan" not in json.loads((plain / "manifest.json").read_text())
    monkeypatch.setattr(predicted, "SHORT_SECONDS", 0.0)
    planned = train("tuning.dropout=0.1")
    plan = json.loads((planned / "manifest.json").read_text())["plan"]
    assert 0 < plan["peak_memory_bytes"] < plan["measured_process_bytes"]
    assert 0 < plan["training_seconds"] < plan["seconds"]
    assert plan["measured_seconds"] > 0
    losses = [[line.get("train/loss") for line in lines(path)] for path in (plain, planned)]
    assert losses[0] == losses[1]
    assert "fits into" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_cannot_be_planned_trains_and_logs_the_reason(train, monkeypatch):
    monkeypatch.setattr(predicted, "SHORT_SECONDS", 0.0)
    monkeypatch.setattr(predicted, "estimate", lambda *_, **__: 1 / 0)
    record = train("evaluation.before=false")
    assert "plan" not in json.loads((record / "manifest.json").read_text())
    assert "The run was not planned: division by zero" in (record / "log.txt").read_text()

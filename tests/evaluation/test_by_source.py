"""Evaluation results for each data source."""

import json

import pytest
from support.lab import data_set, mixture, write_data


@pytest.fixture
def both(lab):
    words, sums = (data_set(f"{name}.jsonl", validation=0.2, test=0.2) for name in ("rows", "sums"))
    write_data(lab, "both", mixture(words=words, sums=sums))
    rows = [{"instruction": f"{n} + {n}?", "output": f"It is {2 * n}."} for n in range(60)]
    (lab / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.mark.slow
def test_a_mixture_is_evaluated_source_by_source_before_during_and_after_training(both, train) -> None:
    record = train("data=both", "trainer.max_steps=3", "trainer.val_check_interval=2")
    metrics = json.loads((record / "summary.json").read_text())["metrics"]
    for split in ("val", "test"):
        whole, parts = metrics[f"{split}/chrf"], [metrics[f"{split}/{part}/chrf"] for part in ("words", "sums")]
        assert [part["after"]["count"] for part in parts] == [4, 4], "evaluation.max_examples of each"
        assert whole["after"]["count"] == 8
        assert {*parts[0]} >= {"before", "after", "difference"}
    lines = [json.loads(line) for line in (record / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "val/loss" in line]
    assert logged
    for line in logged:
        low, high = sorted([line["val/words/loss"], line["val/sums/loss"]])
        assert low <= line["val/loss"] <= high
        assert "val/sums/perplexity" in line
    audit = json.loads((record / "audit.json").read_text())
    assert set(audit["facts"]["sources"]["train"]) == {"words", "sums"}


@pytest.mark.slow
def test_results_by_source_can_be_switched_off_and_on(both, train) -> None:
    record = train("data=both", "trainer.max_steps=1", "evaluation.by_source=false")
    assert not [name for name in json.loads((record / "summary.json").read_text())["metrics"] if "sums" in name]
    record = train("trainer.max_steps=1", "evaluation.by_source=true")
    metrics = json.loads((record / "summary.json").read_text())["metrics"]
    assert not [name for name in metrics if "mine" in name], "one source: the whole says it"

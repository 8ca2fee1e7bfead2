"""Runs compared on planted scores: no difference where there is none, and a real one found."""

import json
import math
import random

import numpy as np
import pytest

from instruct_lab import cli
from instruct_lab.metrics import ExactMatch
from instruct_lab.metrics.intervals import paired_difference, paired_test
from instruct_lab.tracking.compare import compare, holm
from instruct_lab.tracking.record import RunRecord

NUM_EXAMPLES = 100
METRICS = {"exact_match": {"_target_": "instruct_lab.metrics.ExactMatch"}}


def rows_of(outcomes):
    """Rows of exact match: right or not, one example, not empty."""
    reference = ("yes",)
    return [ExactMatch().statistics("yes" if right else "no", reference) for right in outcomes]


def record_of(runs_path, run_id, outcomes, tuning="lora", ids=None):
    config = {"tuning": {"name": tuning, "r": 8}, "metrics": METRICS, "name": run_id}
    record = RunRecord.create(runs_path, "planted", config, [], run_id=run_id)
    ids = ids or range(len(outcomes))
    predictions = [{"id": f"example-{number}"} for number in ids]
    measured = {"rows": {"exact_match": rows_of(outcomes)}, "predictions": predictions}
    record.write_json("after.json", {"test": {"after": measured}})
    value = 100 * float(np.mean(outcomes))
    told = {"value": value, "low": value - 5, "high": value + 5, "count": len(outcomes), "signature": "exact"}
    record.write_summary({"status": "finished", "metrics": {"test/exact_match": {"after": told}}})
    record.write_manifest(status="finished")
    return record


def test_a_thousand_null_pairs_differ_in_one_of_twenty():
    generator = np.random.default_rng(0)
    metric = ExactMatch()
    false = 0
    for _ in range(1000):
        hardness = generator.random(NUM_EXAMPLES)
        first, second = (rows_of(generator.random(NUM_EXAMPLES) < hardness) for _ in range(2))
        false += paired_test(metric, first, second, resamples=400)[1] < 0.05
    print(f"false positives: {false / 10:.1f} %")
    assert 30 <= false <= 70


def test_a_real_difference_is_found_though_the_intervals_overlap(tmp_path):
    source = random.Random(0)
    first = [source.random() < 0.5 for _ in range(NUM_EXAMPLES)]
    second = [right or source.random() < 0.2 for right in first]
    compared = compare([record_of(tmp_path, "a", first), record_of(tmp_path, "b", second, tuning="dora")])
    (difference,) = compared.differences["test/exact_match"]
    assert compared.best["test/exact_match"] == "b"
    assert difference.word == "differs"
    expected = paired_difference(ExactMatch(), rows_of(second), rows_of(first))
    assert (difference.value, difference.low, difference.high) == (expected.value, expected.low, expected.high)
    assert compared.config == {"tuning.name": ["lora", "dora"]}


def test_equal_runs_are_not_distinguishable_and_other_examples_are_not_paired(tmp_path):
    outcomes = [number % 3 == 0 for number in range(NUM_EXAMPLES)]
    same = compare([record_of(tmp_path, "a", outcomes), record_of(tmp_path, "b", outcomes[::-1])])
    assert [one.word for one in same.differences["test/exact_match"]] == ["not distinguishable"]
    other = record_of(tmp_path, "c", outcomes, ids=range(1000, 1000 + NUM_EXAMPLES))
    apart = compare([RunRecord.open(tmp_path / "planted" / "a"), other])
    assert apart.differences == {}
    assert "same examples" in apart.unpaired["test/exact_match"]


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("form", [[], ["--json"], ["--markdown"]])
def test_the_command(tmp_path, capsys, form):
    source = random.Random(1)
    for name in ("a", "b"):
        record_of(tmp_path, name, [source.random() < 0.5 for _ in range(NUM_EXAMPLES)])
    assert cli.main(["compare", "a", "b", "--runs", str(tmp_path), *form]) == 0
    shown = capsys.readouterr().out
    if form == ["--json"]:
        told = json.loads(shown)
        assert told["runs"] == ["a", "b"]
        (one,) = told["differences"]["test/exact_match"]
        assert one["word"] in ("differs", "not distinguishable")
        assert math.isfinite(one["probability"])
    else:
        assert "test/exact_match" in shown
        assert "best" in shown
    assert cli.main(["compare", "a", "--runs", str(tmp_path)]) == 2

"""Rows that a source holds several times count as often in every held-out measurement."""

import json

import pytest
from support.lab import data_set, mixture, write_data

from instruct_lab.comparison.page.examples import predictions
from instruct_lab.records import PredictionLine
from instruct_lab.records.occurrences import key_predictions


@pytest.fixture
def held_out(lab):
    rows = [{"instruction": f"Say {word}", "output": word} for word in ("one", "two", "three")]
    rows = [rows[0], rows[1], rows[0], rows[2], rows[0], rows[1]]
    (lab / "held_out.jsonl").write_text("\n".join(map(json.dumps, rows)))
    others = [{"instruction": f"Repeat {number}", "output": str(number)} for number in range(9)]
    (lab / "others.jsonl").write_text("\n".join(map(json.dumps, others)))
    one, other = (data_set(f"{name}.jsonl", held_out="held_out.jsonl") for name in ("rows", "others"))
    write_data(lab, "twice", one)
    write_data(lab, "both", {**mixture(one=one, other=other), "overlap": "allow"})
    return rows


@pytest.mark.slow
@pytest.mark.parametrize(("data", "sources"), [("twice", 1), ("both", 2)])
@pytest.mark.parametrize("limit", ["null", "5"])
def test_each_of_several_equal_rows_is_measured_and_written(held_out, train, data, sources, limit):
    options = ["trainer.max_steps=1", "metrics=[text,perplexity]", f"evaluation.max_examples={limit}"]
    record = train(f"data={data}", *options)
    count = (len(held_out) if limit == "null" else int(limit)) * sources
    metrics = json.loads((record / "summary.json").read_text())["metrics"]
    counts = {name: {one["count"] for one in systems.values()} for name, systems in metrics.items()}
    assert {name: found for name, found in counts.items() if name.count("/") == 1} == {
        name: {count} for name in counts if name.count("/") == 1
    }
    assert all(found == {count // sources} for name, found in counts.items() if name.count("/") == 2)
    assert sum(name.count("/") == 2 for name in counts) == (0 if sources == 1 else 2 * (len(counts) // 3))
    lines = [json.loads(line) for line in (record / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == count
    expected = {name.partition("/")[2] for name in counts if name.count("/") == 1}
    assert all(set(line["scores"]) == expected for line in lines)
    by_id = {}
    for line in lines:
        by_id.setdefault(line["id"], []).append(line["scores"]["perplexity"])
    assert all(len(set(scores)) == 1 for scores in by_id.values()), "equal rows have equal likelihoods"
    counted = sorted(len(scores) for scores in by_id.values())
    assert counted == [1 * sources, 2 * sources, 3 * sources] or limit == "5"


def line(name, split="test", prediction="yes"):
    return PredictionLine(id=name, split=split, prompt="?", prediction=prediction, scores={"exact_match": 1.0})


def test_equal_ids_are_keyed_by_their_number_within_the_split():
    lines = [line("a"), line("b"), line("a", "validation"), line("a"), line("a")]
    found = key_predictions(lines)
    assert list(found["test"]) == [("a", 0), ("b", 0), ("a", 1), ("a", 2)]
    assert list(found["validation"]) == [("a", 0)]
    assert [one for split in ("test", "validation") for one in found[split].values()] == [
        *lines[:2],
        *lines[3:],
        lines[2],
    ]


def test_the_comparison_page_keeps_equal_rows_apart():
    first = [line("a", prediction="1"), line("a", prediction="2"), line("b", prediction="3")]
    second = [line("a", prediction="4"), line("a", prediction="5")]
    kept, _ = predictions([first, second])
    texts = [[one["texts"][index] if index is not None else None for index in one["after"]] for one in kept["test"]]
    assert texts == [["1", "4"], ["2", "5"], ["3", None]]

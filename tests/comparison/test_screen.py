"""A comparison in the terminal begins with the answer and fits one screen."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.planted_runs import NAME, record_of, rows_of

from instruct_lab import cli
from instruct_lab.comparison.compare import compare
from instruct_lab.comparison.screen import _with_labels, screen_lines
from instruct_lab.comparison.text import answer
from instruct_lab.metrics import MetricValue
from instruct_lab.records import Summary

NUM_EXAMPLES = 200
BASE = 20.0


def plant(runs_path, share, number, others=(), status="finished", seed=0, **values):
    """A run that is right on this share of the examples, with the base model's value and further metrics."""
    outcomes = (np.arange(NUM_EXAMPLES) < round(share * NUM_EXAMPLES)).tolist()
    config = {"tuning": {"r": values.get("r", 8)}, "optimizer": {"lr": values.get("lr", 0.01)}}
    name = f"20260101-000000-abcd1-{number:04d}"
    record = record_of(runs_path, name, outcomes, config, seed=seed, seconds=10.0 + number, trained=number)
    value = record.summary.metrics[NAME]["after"]
    before = MetricValue(BASE, BASE - 5, BASE + 5, NUM_EXAMPLES, "exact")
    gain = MetricValue(value.value - BASE, value.value - BASE - 4, value.value - BASE + 4, NUM_EXAMPLES, "exact")
    metrics = {NAME: {"before": before, "after": value, "difference": gain}}
    metrics |= {other: {"after": value} for other in others}
    record.write_summary(Summary(seconds=60.0, training_seconds=10.0 + number, metrics=metrics))
    if status != "finished":
        (record.path / "summary.json").unlink()
        record.write_manifest(status=status)
    return record


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """Eight runs of a grid; r=32 and r=16 with the high rate are nearly equal."""
    path = tmp_path_factory.mktemp("runs")
    grid = [(r, lr) for lr in (0.001, 0.01) for r in (4, 8, 16, 32)]
    shares = [0.44, 0.48, 0.5, 0.55, 0.57, 0.6, 0.675, 0.68]
    others = [f"test/metric_{number}" for number in range(9)]
    return [
        plant(path, share, n, others, r=r, lr=lr) for n, ((r, lr), share) in enumerate(zip(grid, shares, strict=True))
    ]


def lines_of(records, width, unfinished=(), metric=None):
    compared = compare(records, metric, 1)
    return [line.plain.rstrip() for line in screen_lines(compared, width, unfinished)]


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 120, 160])
def test_eight_runs_fit_one_screen(eight, width):
    lines = lines_of(eight, width)
    assert len(lines) <= 40
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("Best by test/exact_match: r=32 lr=0.01, 68.00 [")
    assert any(line == "Not distinguishable from it: r=16 lr=0.01." for line in lines)
    text = " ".join(lines)
    worse = "Worse on these examples (one run each: training noise unknown): r=8 lr=0.01, r=4 lr=0.01, r=32 lr=0.001"
    assert worse in text
    heading = next(index for index, line in enumerate(lines) if line.startswith("configuration"))
    values = [
        float(re.search(r"\d+\.\d\d", line.replace("lr=0.0", ""))[0]) for line in lines[heading + 1 : heading + 10]
    ]
    assert values == [68.0, 67.5, 60.0, 57.0, 55.0, 50.0, 48.0, 44.0, BASE]
    assert lines[heading + 9].startswith("before training")
    assert "-48.00 [-52.00, -44.00]" in lines[heading + 9]
    assert ("verdict" in lines[heading]) == (width > 80)
    assert not any(" 0.00 [" in line for line in lines)
    assert sum("test/metric_" in line for line in lines) == 1


@pytest.mark.slow
@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_no_number_and_no_label_is_broken(eight, width):
    text = "\n".join(lines_of(eight, width))
    assert text.count("[") == text.count("]")
    for line in text.split("\n"):
        assert line.count("[") == line.count("]")
        assert not line.endswith((" r=32", " r=16", "r=8", "r=4"))


def test_runs_without_results_are_named(tmp_path, capsys):
    records = [plant(tmp_path, 0.5 + n / 10, n, r=2**n) for n in range(3)]
    records += [plant(tmp_path, 0.5, 3, status="pruned", r=64), plant(tmp_path, 0.5, 4, status="failed", r=128)]
    assert cli.main(["compare", *(one.id for one in records), "--runs", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "Not compared: r=64 (pruned), r=128 (failed)" in shown
    assert "Best by test/exact_match: r=4, 70.00" in shown
    assert cli.main(["compare", records[0].id, records[3].id, "--runs", str(tmp_path)]) == 2
    assert "no results to compare" in capsys.readouterr().err


def test_notes_name_configurations_and_are_few(tmp_path):
    records = [plant(tmp_path, 0.5 + n / 10, n, r=2**n) for n in range(5)]
    for record in records:
        summary = record.summary
        after = summary.metrics[NAME]["after"]
        notes = (f"cut {record.id[-1]}",)
        summary.metrics[NAME]["after"] = MetricValue(after.value, after.low, after.high, after.count, "exact", notes)
        record.write_summary(summary)
    lines = lines_of(records, 80)
    assert [line for line in lines if line.startswith("note: ")] == [f"note: r={2**n}: cut {n}" for n in range(3)]
    assert "and 2 more notes (--all-metrics)" in lines


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        ("a: a cut answer", "r=1: a cut answer"),
        ("a, b and 3 more: cut", "r=1, r=2 and 3 more: cut"),
        ("a, c: of one configuration", "r=1: of one configuration"),
        ("few examples: a", "few examples: a"),
        ("few", "few"),
    ],
)
def test_only_the_ids_before_a_note_are_replaced(note, expected):
    assert _with_labels(note, {"a": "r=1", "b": "r=2", "c": "r=1"}) == expected


def test_a_metric_by_which_another_configuration_is_better_is_reported(tmp_path):
    parts = {"test/left/exact_match": "left", "test/right/exact_match": "right"}
    records = [plant(tmp_path, share, n, parts, r=2**n) for n, share in enumerate((0.2, 0.5))]
    for record, first_right in zip(records, (0, 100), strict=True):
        plain = record.read_json("after.json")
        after = plain["test"]["after"]
        right = [first_right <= number < first_right + 40 + first_right // 2 for number in range(NUM_EXAMPLES)]
        after |= {"sources": ["left"] * 100 + ["right"] * 100, "rows": {"exact_match": rows_of(right)}}
        record.write_json("after.json", plain)
    lines = lines_of(records, 120, metric=NAME)
    assert lines[0].startswith("Best by test/exact_match: r=2")
    assert any(
        line.startswith("But by test/left/exact_match, r=1 is better: the difference is -40.00 [") for line in lines
    )
    assert "Also measured: test/right/exact_match (--metric NAME, --all-metrics)" in lines


def test_several_seeds_have_a_column_and_the_mean_in_the_answer(tmp_path):
    records = [
        plant(tmp_path, 0.4 + r / 20 + seed / 50, 10 * r + seed, r=r, seed=seed) for r in (2, 4) for seed in (0, 1)
    ]
    compared = compare(records, NAME, 1)
    assert "mean of 2 runs" in answer(compared)[0]
    assert not any(sentence.startswith("One run each") for sentence in answer(compared))
    lines = [line.plain for line in screen_lines(compared, 80)]
    heading = next(line for line in lines if line.startswith("configuration"))
    assert heading.split()[:3] == ["configuration", "runs", "value"]


def test_runs_that_cannot_be_paired_are_listed(tmp_path):
    records = [record_of(tmp_path, name, [True, False] * n, {"x": n}) for n, name in enumerate("ab", start=5)]
    lines = lines_of(records, 80)
    assert lines[0].startswith("No answer: the runs cannot be compared example by example")
    assert "50.00 [45.00, 55.00]" in "\n".join(lines)


def test_all_tables_are_printed_on_request(tmp_path, capsys):
    records = [plant(tmp_path, 0.5 + n / 10, n, r=2**n) for n in range(3)]
    arguments = ["compare", *(one.id for one in records), "--runs", str(tmp_path)]
    assert cli.main([*arguments, "--all-metrics"]) == 0
    shown = capsys.readouterr().out
    assert "What differs" in shown
    assert shown.count("Where the two best differ most") == 3
    assert cli.main([*arguments, "--disagreements", "2"]) == 0
    assert capsys.readouterr().out.count("Where the two best differ most") == 2


@pytest.mark.slow
@settings(max_examples=15)
@given(st.lists(st.integers(0, 20), min_size=2, max_size=5, unique=True), st.integers(60, 160))
def test_the_first_row_and_the_answer_are_the_best_run(tmp_path_factory, shares, width):
    path = tmp_path_factory.mktemp("runs")
    records = [plant(path, share / 20, n, r=n) for n, share in enumerate(shares)]
    lines = lines_of(records, width)
    best = shares.index(max(shares))
    assert lines[0].startswith(f"Best by {NAME}: r={best}, ")
    trained = [line for line in lines if re.match(r"r=\d+ +\d", line)]
    assert [int(line[2]) for line in trained[: len(shares)]] == sorted(range(len(shares)), key=lambda n: -shares[n])
    assert max(map(len, lines)) <= max(width, 80)

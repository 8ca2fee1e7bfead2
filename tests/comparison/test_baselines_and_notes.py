"""A comparison shows what its runs are better than, and the notes on their values."""

import json

import numpy as np
import pytest
from support.planted_runs import NAME, record_of

from instruct_lab.comparison.compare import compare
from instruct_lab.comparison.page.page import comparison_page
from instruct_lab.comparison.text import markdown, tables
from instruct_lab.metrics import MetricValue
from instruct_lab.records import Summary

OUTCOMES = np.arange(40) % 4 < 3
BEFORE_TRAINING = MetricValue(10.0, 5.0, 15.0, 40, "exact")
GAIN = MetricValue(65.0, 60.0, 71.0, 40, "exact")


@pytest.fixture
def planted(tmp_path):
    """Adds a run whose summary holds further systems, and notes on its value."""

    def plant(run_id, outcomes=OUTCOMES, notes=(), seed=0, rank=8, **systems):
        record = record_of(tmp_path, run_id, outcomes, {"tuning": {"r": rank}}, seed=seed)
        after = record.summary.metrics[NAME]["after"]
        after = MetricValue(after.value, after.low, after.high, after.count, after.signature, tuple(notes))
        record.write_summary(Summary(seconds=60.0, metrics={NAME: {**systems, "after": after}}))
        return record

    return plant


def rows_of(compared):
    return next(table for table in tables(compared) if table.title.startswith(NAME)).baseline_rows


def test_the_model_before_training_is_a_row_with_its_difference_from_the_best(planted):
    systems = {"before": BEFORE_TRAINING, "difference": GAIN}
    compared = compare([planted("a", rank=1, **systems), planted("b", np.zeros(40, bool), rank=2, **systems)])
    assert rows_of(compared) == [
        ["before training", "-", "10.00 [5.00, 15.00]", "-65.00 [-71.00, -60.00]"],
    ]
    assert "| before training | - | 10.00" in markdown(compared).replace("\\", "")
    plain = compared.to_json()["baselines"]
    assert [(one["label"], one["runs"], one["metrics"][NAME]["value"]) for one in plain] == [
        ("before training", [0, 1], 10.0)
    ]


def test_runs_of_different_models_have_a_row_each(planted):
    other = MetricValue(12.0, 5.0, 15.0, 40, "exact")
    compared = compare([planted("a", rank=1, before=BEFORE_TRAINING), planted("b", rank=2, before=other)])
    assert [row[0] for row in rows_of(compared)] == ["before training (a)", "before training (b)"]


def test_the_baselines_of_the_data_are_rows_too(planted):
    frequent = MetricValue(25.0, 20.0, 30.0, 40, "exact")
    systems = {"before": BEFORE_TRAINING, "most_frequent": frequent}
    compared = compare([planted(name, rank=rank, **systems) for rank, name in enumerate("ab", start=1)])
    assert [row[0] for row in rows_of(compared)] == ["before training", "baseline most_frequent"]


def test_no_difference_is_given_for_a_best_of_several_runs_and_no_row_without_a_measurement(planted):
    systems = {"before": BEFORE_TRAINING, "difference": GAIN}
    seeds = [planted(f"a{seed}", rank=1, seed=seed, **systems) for seed in (1, 2)]
    worse = [planted(f"b{seed}", np.zeros(40, bool), rank=2, seed=seed, **systems) for seed in (1, 2)]
    assert [row[-1] for row in rows_of(compare([*seeds, *worse]))] == ["-"]
    assert rows_of(compare([planted("x", rank=3), planted("y", rank=4)])) == []


def test_unpaired_metrics_have_the_row_as_well(planted):
    compared = compare([planted("a", before=BEFORE_TRAINING), planted("b", OUTCOMES[:20], before=BEFORE_TRAINING)])
    assert compared.unpaired
    assert rows_of(compared) == [["before training", "10.00 [5.00, 15.00]"]]


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ([["few"], ["few"]], ["few"]),
        ([["few", "cut"], ["few"]], ["few", "a: cut"]),
        ([[], ["cut <b>"]], ["b: cut <b>"]),
        ([[], []], []),
    ],
)
def test_notes_stand_below_the_metric_in_every_output(planted, notes, expected):
    records = [planted(name, notes=of, rank=rank) for (rank, name), of in zip(enumerate("ab"), notes, strict=True)]
    compared = compare(records)
    assert compared.notes[NAME] == expected
    assert next(table for table in tables(compared) if table.title == NAME).notes == expected
    text, page = markdown(compared), comparison_page(records, compared)
    assert text.count("Note: ") == len(expected)
    assert page.count("Note: ") == len(expected)
    assert "<b>" not in page.split("</style>")[-1].split("<script")[0]


def test_the_page_has_the_baselines_in_its_data(planted):
    records = [planted(name, rank=rank, before=BEFORE_TRAINING) for rank, name in enumerate("ab")]
    page = comparison_page(records, compare(records))
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    (base,) = data["baselines"]
    assert base["label"] == "base model"
    assert base["base"]
    assert base["values"] == {f"metric {NAME}": [10, 5, 15]}

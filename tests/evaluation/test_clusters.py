"""The cluster of a row, from the data set's column to intervals, predictions and comparisons."""

import dataclasses

import numpy as np
import pytest
from support.data import load_splits
from support.planted_runs import NAME, record_of, rows_of

from instruct_lab.cache import describe
from instruct_lab.comparison.compare import compare
from instruct_lab.data import Columns, DataSet, Files, Mixture
from instruct_lab.errors import InstructLabError
from instruct_lab.metrics import ExactMatch
from instruct_lab.metrics.intervals import paired_difference, summarize
from instruct_lab.records.measurement import Measurement
from instruct_lab.records.note_lines import note_lines
from instruct_lab.records.schema import PredictionLine, Summary


def data_set(tmp_path, lines, **settings):
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(lines))
    return DataSet(
        train={"file": Files(path=str(file))},
        format=Columns(prompt="{q}", completion="{a}"),
        cluster="topic",
        **settings,
    )


ROWS = [
    '{"q": "1+1", "a": "2", "topic": "sums"}',
    '{"q": "2+2", "a": "4", "topic": null}',
    '{"q": "3", "a": "3", "topic": 7}',
]


def test_a_row_is_in_the_cluster_that_its_column_names(tmp_path):
    data = data_set(tmp_path, ROWS)
    rows = load_splits(data, tmp_path / "cache")["train"]
    assert [data.cluster_of(row) for row in rows] == ["sums", "", "7"]
    assert [dataclasses.replace(data, cluster=None).cluster_of(row) for row in rows] == ["", "", ""]
    mixture = Mixture(parts={"a": data, "b": dataclasses.replace(data, cluster=None)})
    mixed = [dataclasses.replace(row, source=source) for source in ("a", "b") for row in rows]
    assert [mixture.cluster_of(row) for row in mixed] == ["a/sums", "", "a/7", "", "", ""]


def test_naming_clusters_changes_no_cached_rows(tmp_path):
    data = data_set(tmp_path, ROWS)
    stages = [one.stage(tmp_path / "cache") for one in (data, dataclasses.replace(data, cluster=None))]
    assert stages[0].depends_on == stages[1].depends_on
    assert describe(data) != describe(dataclasses.replace(data, cluster=None))


def test_a_column_that_rows_do_not_have_and_one_that_goes_into_messages_are_refused(tmp_path):
    data = data_set(tmp_path, ROWS)
    (row, *_) = load_splits(data, tmp_path / "cache")["train"]
    with pytest.raises(InstructLabError, match=r"data\.cluster"):
        dataclasses.replace(data, cluster="chapter").cluster_of(row)
    (problem,) = dataclasses.replace(
        data, cluster="topic", format=Columns(prompt="{q}", completion="{topic}")
    ).problems()
    assert problem.key == "cluster"


def test_clusters_are_written_and_read_and_old_records_have_none():
    measured = Measurement(
        rows={"exact_match": rows_of([True, False, True])}, sources=["a", "b", "a"], clusters=["x", "", "y"]
    )
    assert Measurement.from_json(measured.to_json()) == measured
    assert measured.of_source("a").clusters == ["x", "y"]
    assert "clusters" not in Measurement(sources=["a"]).to_json()
    assert Measurement.from_json({"rows": {"exact_match": rows_of([True])}}).clusters == []
    assert PredictionLine.from_json({"id": "1"}).cluster == ""
    entry = {"value": 1, "low": 0, "high": 2, "count": 3, "by_example": [0.5, 1.5]}
    summary = Summary.from_json({"metrics": {NAME: {"after": entry, "before": {**entry, "by_example": None}}}})
    assert [summary.value(NAME, one).by_example for one in ("after", "before")] == [(0.5, 1.5), None]


def clustered_records(tmp_path, generator, num_clusters=40, size=8):
    """Two runs; in the second, some whole clusters are answered better."""
    clusters = [f"document {index}" for index in range(num_clusters) for _ in range(size)]
    first = generator.random(num_clusters * size) < 0.5
    second = first | np.repeat(generator.random(num_clusters) < 0.15, size)
    records = [
        record_of(tmp_path, name, list(map(bool, one)), {"x": name}) for name, one in (("a", first), ("b", second))
    ]
    for record in records:
        entries = record.read_json("after.json")
        entries["test"]["after"]["clusters"] = clusters
        record.write_json("after.json", entries)
    return records, clusters, first, second


def test_a_comparison_resamples_clusters_and_gives_both_intervals(tmp_path):
    records, clusters, first, second = clustered_records(tmp_path, np.random.default_rng(0))
    compared = compare(records)
    (difference,) = compared.differences[NAME]
    expected = paired_difference(ExactMatch(), rows_of(second), rows_of(first), clusters=clusters)
    assert (difference.value, difference.low, difference.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    low, high = expected.by_example
    (note,) = compared.notes[NAME]
    assert note.startswith("intervals and p-values resample the 40 clusters of the 320 examples")
    assert f"[{low:+.2f}, {high:+.2f}]" in note
    for record in records:
        entries = record.read_json("after.json")
        del entries["test"]["after"]["clusters"]
        record.write_json("after.json", entries)
    (of_examples,) = compare(records).differences[NAME]
    assert of_examples.probability < difference.probability
    assert (of_examples.low, of_examples.high) == (low, high)


def test_the_line_below_a_table_lists_intervals_over_examples():
    plain = summarize(ExactMatch(), rows_of([True, False] * 20))
    both = dataclasses.replace(plain, by_example=(1.0, 2.5))
    lines = list(
        note_lines({"val/em": {"before": plain, "after": both}, "val/f1": {"after": plain}}, "val/", {"after": "tuned"})
    )
    assert lines == ["intervals resample whole clusters (data.cluster); over single examples: em tuned [1.00, 2.50]"]

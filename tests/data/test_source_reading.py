"""Rows that are cut, shuffled through a buffer, or streamed."""

import json
from pathlib import Path

import datasets
import pydantic
import pytest

from instruct_lab.data import Audit, Files, HubDataSet
from instruct_lab.data.sources.base import shuffle

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def read(tmp_path):
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"n": n}) for n in range(100)))

    def rows(**fields):
        source = Files(path=str(tmp_path / "rows.jsonl"), **fields)
        return [row.columns["n"] for row in source.read(Path(), Audit(), "data/train/file")]

    return rows


def test_rows_are_cut_after_so_many(read) -> None:
    assert read(max_rows=3) == [0, 1, 2]
    assert read(max_rows=1000) == list(range(100))


def test_a_shuffle_buffer_gives_every_row_once_by_seed(read) -> None:
    found = read(shuffle_buffer=10)
    assert sorted(found) == list(range(100))
    assert found != list(range(100))
    assert found == read(shuffle_buffer=10)
    assert found != read(shuffle_buffer=10, shuffle_seed=1)
    assert all(number <= index + 10 for index, number in enumerate(found)), "no row is given before it was read"
    assert read(shuffle_buffer=10, max_rows=5) == found[:5], "shuffled first, then cut"


def test_a_shuffle_buffer_holds_no_more_rows_than_it_says() -> None:
    given_out, most = 0, 0

    def rows():
        nonlocal most
        for number in range(200):
            most = max(most, number - given_out)
            yield number

    for _ in shuffle(rows(), 16, 0):
        given_out += 1
    assert (given_out, most) == (200, 16)


def hub(**fields):
    return HubDataSet(**{"repository": "owner/name", "revision": COMMIT, **fields})


def test_a_stream_reads_no_more_rows_than_it_gives(monkeypatch, tmp_path) -> None:
    seen = []

    def load(repository, configuration, **named):
        assert named["streaming"] is True
        return (seen.append(n) or {"n": n} for n in range(10**9))

    monkeypatch.setattr(datasets, "load_dataset", load)
    source = hub(streaming=True, max_rows=4, shuffle_buffer=3)
    (found,) = source.inputs(tmp_path)
    assert found.name == f"owner/name/train@{COMMIT} (streamed)"
    assert not seen, "its inputs are known without reading a row"
    assert len(list(source.read(tmp_path, Audit(), "s"))) == 4
    assert len(seen) == 7


@pytest.mark.parametrize(
    ("fields", "expected"), [({"max_rows": None}, "max_rows"), ({"max_rows": 5, "revision": "main"}, "commit")]
)
def test_a_stream_without_an_end_or_a_commit_is_refused(fields, expected) -> None:
    with pytest.raises(pydantic.ValidationError, match=expected):
        hub(streaming=True, **fields)


def test_the_rows_of_a_pinned_commit_are_hashed_once_and_those_of_a_branch_each_time(monkeypatch, tmp_path) -> None:
    loads = []

    def load(*args, **named):
        loads.append(named["revision"])
        return [{"n": 1}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert hub().inputs(tmp_path) == hub().inputs(tmp_path)
    assert loads == [COMMIT]
    assert hub(revision="main").inputs(tmp_path)[0].sha256 == hub().inputs(tmp_path)[0].sha256
    hub(revision="main").inputs(tmp_path)
    assert loads == [COMMIT, "main", "main"]

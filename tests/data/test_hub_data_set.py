"""Rows from the Hub, with the network taken away."""

from pathlib import Path
from types import SimpleNamespace

import datasets
import pydantic
import pytest

from instruct_lab.data import Audit, HubDataSet
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment.check import check

ROWS = [{"q": "a", "n": 1}, {"q": "é", "n": 2}]


def read(**fields):
    source = HubDataSet(**{"repository": "owner/name", "revision": "abc", **fields})
    rows = list(source.read(Path(), Audit(), "data/train/hub"))
    return SimpleNamespace(rows=rows, inputs=source.inputs(Path()))


def test_rows_of_the_named_split_and_revision(monkeypatch) -> None:
    asked = {}

    def load(repository, configuration, **named):
        asked.update(named, repository=repository, configuration=configuration)
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load)
    found = read(configuration="small", split="test")
    assert asked == {"repository": "owner/name", "configuration": "small", "split": "test", "revision": "abc"}
    assert [row.columns for row in found.rows] == ROWS
    assert found.rows[1].where == "owner/name, split test, row 2"
    assert found.inputs[0].name == "owner/name/small/test@abc"
    first = found.inputs[0].sha256
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: datasets.Dataset.from_list(ROWS[:1]))
    assert read(configuration="small", split="test").inputs[0].sha256 != first


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionError("Couldn't reach owner/name on the Hub"), "The Hub cannot be reached"),
        (ValueError("Unknown split 'x'"), "cannot be loaded .Unknown split"),
        (datasets.exceptions.DatasetNotFoundError("doesn't exist"), "cannot be loaded"),
        (FileNotFoundError("no such revision"), "revision abc"),
    ],
)
def test_a_refusal_of_the_hub_is_an_error(monkeypatch, error, expected) -> None:
    def load(*args, **named):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(InstructLabError, match=expected) as caught:
        read()
    assert "owner/name" in str(caught.value)


def test_a_repository_is_a_name(monkeypatch) -> None:
    with pytest.raises(pydantic.ValidationError, match="repository"):
        HubDataSet(repository="https://x/y/z", revision="main")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("model.weights.repository", "https://x/y/z", "owner/name"),
        ("model.weights.gguf_file", "model.bin", "instead of the safetensors"),
        ("model.weights.repository", "a/b/c", "name of the repository"),
    ],
)
def test_a_text_of_the_wrong_form_is_refused_with_what_the_field_is(key, value, expected) -> None:
    found = {
        one.key: one.reason for one in check(["model=hub", "model.weights.repository=a/b", f"{key}={value}"]).problems
    }
    assert expected in found[key]
    assert "pattern" not in found[key]

"""A data set: sources, format, division, overlap, limits."""

import json
import tempfile
from pathlib import Path

import pydantic
import pytest
from support.data import load_splits

from instruct_lab.assets import Input
from instruct_lab.config import component
from instruct_lab.data import (
    Audit,
    Columns,
    Copy,
    DataSet,
    Files,
    HashSplit,
    PromptCompletion,
    Row,
    Source,
)
from instruct_lab.errors import InstructLabError


@component
class Given(Source):
    """Rows that are given in the config."""

    given: list[list[str]]

    def inputs(self, cache_path):
        return [Input("given", "0" * 64, 1)]

    def rows(self, cache_path, audit, stage):
        for number, row in enumerate(self.given, 1):
            yield Row({"prompt": row[0], "completion": row[1]}, f"row {number}")


@component
class DistinctlyGiven(Given):
    """A source that keeps one of equal rows."""

    keeps_one_of_equal_rows = True


def given(*rows: tuple[str, str]) -> Given:
    return Given(given=[list(row) for row in rows])


def questions(count: int, name: str = "question") -> Given:
    return given(*((f"{name} {number}", f"answer {number}") for number in range(count)))


def data_set(**fields) -> DataSet:
    return DataSet(**{"format": PromptCompletion(), **fields})


def load(audit: Audit | None = None, **fields) -> dict[str, list[str]]:
    with tempfile.TemporaryDirectory() as cache:
        splits = load_splits(data_set(**fields), Path(cache), audit)
    return {name: [conversation.messages[0].content for conversation in rows] for name, rows in splits.items()}


def test_named_sources_are_pooled_and_null_removes_one() -> None:
    audit = Audit()
    found = load(audit, train={"a": questions(2, "a"), "gone": None, "b": questions(1, "b")}, test={"t": questions(1)})
    assert found == {"train": ["a 0", "a 1", "b 0"], "validation": [], "test": ["question 0"]}
    assert audit.stages["data/train/a"] == {"in": 2, "out": 2}
    assert audit.facts["splits"] == {"train": 3, "validation": 0, "test": 1}


def test_the_hash_split_divides_the_training_pool() -> None:
    found = load(train={"a": questions(300)}, split=HashSplit(validation=0.2, test=0.1))
    assert sorted(found["train"] + found["validation"] + found["test"]) == sorted(
        load(train={"a": questions(300)})["train"]
    )
    assert all(found.values())
    more = load(train={"b": questions(50, "new"), "a": questions(300)}, split=HashSplit(validation=0.2, test=0.1))
    for name, rows in found.items():
        assert set(rows) < set(more[name])


@pytest.mark.parametrize("name", ["validation", "test"])
def test_a_split_has_sources_or_is_taken_from_the_training_rows_and_not_both(name) -> None:
    split = HashSplit(**{"validation": 0.0, "test": 0.0, name: 0.1})
    with pytest.raises(pydantic.ValidationError, match=f"split.{name}"):
        data_set(train={"a": questions(2)}, split=split, **{name: {"t": questions(1)}})
    data_set(train={"a": questions(2)}, split=split, **{name: {"t": None}})


def test_a_prompt_of_two_splits_stays_in_the_test_set() -> None:
    sources = {
        "train": {"a": given(("Save!", "1"), ("Open", "2"), ("Close", "3"))},
        "validation": {"a": given(("Save!", "1"), (" Close", "3"), ("save", "4"))},
        "test": {"a": given(("Save!\n", "other"))},
    }
    audit = Audit()
    assert load(audit, **sources) == {"train": ["Open"], "validation": [" Close", "save"], "test": ["Save!\n"]}
    assert {tally.reason: tally.count for tally in audit.tallies.values()} == {
        "validation prompt also in test": 1,
        "train prompt also in test": 1,
        "train prompt also in validation": 1,
        "validation prompt with the words of a prompt in test, but other characters": 1,
    }
    assert load(**sources, overlap="allow")["train"] == ["Save!", "Open", "Close"]
    with pytest.raises(InstructLabError, match=r"also in test.*overlap=drop"):
        load(**sources, overlap="error")


def test_equal_rows_are_kept_unless_the_source_keeps_one_of_them() -> None:
    twice = [["Save", "1"], ["Save", "1"], ["Save", "2"]]
    assert len(load(train={"a": Given(given=twice)})["train"]) == 3
    audit = Audit()
    found = load(
        audit,
        train={"a": DistinctlyGiven(given=twice), "b": DistinctlyGiven(given=twice[:1])},
        test={"t": questions(1)},
    )
    assert found["train"] == ["Save", "Save"]
    assert audit.count("dropped", "data/train/a") == audit.count("dropped", "data/train/b") == 1
    assert audit.stages["data/train/b"] == {"in": 1, "out": 0}


def test_a_limit_takes_the_same_rows_whatever_their_order() -> None:
    rows = [(f"question {number}", "a") for number in range(50)]
    first = load(train={"a": given(*rows)}, limit={"train": 10, "test": None})["train"]
    assert len(first) == 10
    assert set(first) == set(load(train={"a": given(*reversed(rows))}, limit={"train": 10})["train"])
    assert first == sorted(first, key=lambda text: int(text.split()[1])), "in the order of the source"
    assert set(first) < set(load(train={"a": given(*rows)}, limit={"train": 20})["train"])
    assert len(load(train={"a": given(*rows)}, limit={"train": 99})["train"]) == 50


def test_inputs_are_listed_once(tmp_path) -> None:
    data = data_set(train={"a": questions(1), "b": questions(1)})
    assert data.inputs(tmp_path) == [Input("given", "0" * 64, 1)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"train": {}}, "train"),
        ({"train": {"a": None}}, "names no source"),
        ({"train": {"a": {"path": "x"}}}, "Source"),
        ({"train": {"a": None}, "format": {"prompt": "x"}}, "Format"),
        ({"limit": {"train": 0}}, "limit"),
        ({"limit": {"dev": 1}}, "limit"),
        ({"overlap": "ignore"}, "overlap"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_fields_that_cannot_be_right_are_refused(fields, expected) -> None:
    with pytest.raises(pydantic.ValidationError, match=expected):
        data_set(**{"train": {"a": questions(1)}, **fields})


def test_prompts_with_the_same_words_can_be_kept_apart_too() -> None:
    sources = {"train": {"a": given(("Save!", "1"), ("Open", "2"))}, "test": {"a": given(("save", "3"))}}
    audit = Audit()
    assert load(audit, **sources, same_prompt="words")["train"] == ["Open"]
    assert [(tally.action, tally.count) for tally in audit.tallies.values()] == [("dropped", 1)]
    assert load(**sources)["train"] == ["Save!", "Open"]


def test_a_source_without_rows_and_a_training_set_without_rows_are_errors() -> None:
    with pytest.raises(InstructLabError, match=r"no rows.*data\.test\.empty"):
        load(train={"a": questions(1)}, test={"empty": given()})
    with pytest.raises(InstructLabError, match="No row is left to train on"):
        load(train={"a": given(("Save", "1"))}, test={"t": given((" Save", "2"))})


def test_a_missing_column_is_an_error_before_any_row_is_mapped() -> None:
    with pytest.raises(InstructLabError, match=r"prompt names the column 'promt'.*'prompt'\? .*prompt, completion"):
        load(train={"a": questions(1)}, format=Columns(prompt="{promt}", completion="{completion}"))


def test_problems_name_the_format_s_field_once_with_the_nearest_column(tmp_path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"question": "x", "answer": "y"}))
    files = {name: Files(path=str(tmp_path / f"{name}.jsonl")) for name in ("a", "b")}
    wrong = data_set(train=files, format=PromptCompletion(prompt="qestion", completion="answer"))
    problems = list(wrong.problems())
    assert [(problem.key, problem.value, problem.suggestion) for problem in problems] == [
        ("format.prompt", "qestion", "question")
    ]
    assert "question, answer" in problems[0].reason
    right = data_set(train=files, format=PromptCompletion(prompt="question", completion="answer"))
    assert not list(right.problems())
    assert not list(data_set(train={"a": Files(path=str(tmp_path / "missing.jsonl"))}).problems())


def test_baselines_and_language_are_fields() -> None:
    data = data_set(train={"a": questions(1)}, baselines={"copy": Copy(), "gone": None}, language="fr")
    assert data.language == "fr"
    assert data.baselines["copy"].answers([], []) == []


def test_no_prompt_of_real_files_is_in_two_splits(tmp_path) -> None:
    lines = [json.dumps({"prompt": f"Question {n % 40}{' ' * (n % 3)}", "completion": str(n)}) for n in range(200)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    found = load(train={"a": Files(path=str(tmp_path / "rows.jsonl"))}, split=HashSplit(validation=0.3, test=0.3))
    keys = [{prompt.strip() for prompt in rows} for rows in found.values()]
    assert sum(map(len, keys)) == len(set().union(*keys)) == 40
    assert sum(map(len, found.values())) == 200

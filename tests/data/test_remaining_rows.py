"""Splits without rows, or with far fewer than their share, are warned of; without training rows, the error says why."""

import json

import pytest

from instruct_lab.cache import Store
from instruct_lab.data import DataSet, Files, HashSplit, Mixture, PromptCompletion, ShareGPT
from instruct_lab.data.remaining import NoRowsLeft
from instruct_lab.data.stages import audit_of

FORMAT = PromptCompletion(prompt="prompt", completion="completion")


@pytest.fixture
def file(tmp_path):
    """Return a function that writes rows to a file and returns its source."""

    def write(name, rows):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return {name: Files(path=str(path))}

    return write


def pairs(*prompts):
    return [{"prompt": prompt, "completion": f"answer {number}"} for number, prompt in enumerate(prompts)]


def audit(data, tmp_path):
    return audit_of(Store(tmp_path / "cache").result([data.stage(tmp_path / "cache")]))


def warnings(data, tmp_path):
    return audit(data, tmp_path)["facts"].get("warnings", [])


def questions(number):
    return pairs(*(f"Question {n}" for n in range(number)))


def test_a_split_that_no_row_was_drawn_for_is_warned_of_with_its_share(file, tmp_path) -> None:
    data = DataSet(train=file("few", questions(3)), format=FORMAT, split=HashSplit(validation=0.001))
    (warning,) = warnings(data, tmp_path)
    assert warning.startswith("The validation split is empty, so nothing is measured on it: no row was drawn for it")
    assert "data.split.validation=0.001 of 3 rows is 0.003 rows" in warning
    assert "Raise data.split.validation, or give files of its own under data.validation" in warning


def test_a_split_that_has_rows_or_was_not_asked_for_is_not_warned_of(file, tmp_path) -> None:
    assert not warnings(DataSet(train=file("many", questions(200)), format=FORMAT, split=HashSplit()), tmp_path)
    assert not warnings(DataSet(train=file("all", questions(3)), format=FORMAT), tmp_path)


def test_many_rows_with_one_opening_are_warned_of_and_can_be_divided(file, tmp_path) -> None:
    def chat(number):
        turns = ["Hi", "Hello, what can I do?", f"Explain {number}", f"Item {number} is thus."]
        first = f"Question {number}" if number % 5 > 2 else turns[0]
        speakers = ["human", "gpt", "human", "gpt"]
        return {"conversations": [{"from": s, "value": t} for s, t in zip(speakers, [first, *turns[1:]], strict=True)]}

    source = file("chats", [chat(number) for number in range(200)])
    (warning,) = warnings(DataSet(train=source, format=ShareGPT(), split=HashSplit()), tmp_path)
    assert warning.startswith("120 of 200 rows begin with the same messages ('user Hi') and stay in one split")
    assert warning.endswith("data.split.by=prompt divides them by their whole prompt")
    divided = audit(DataSet(train=source, format=ShareGPT(), split=HashSplit(by="prompt")), tmp_path)
    assert 8 <= divided["facts"]["splits"]["validation"] <= 35
    assert "warnings" not in divided["facts"]


def test_frequent_openings_leave_no_fact_in_the_audit(file, tmp_path) -> None:
    data = DataSet(train=file("same", pairs(*["Hi"] * 30)), format=FORMAT, split=HashSplit())
    facts = audit(data, tmp_path)["facts"]
    assert set(facts) == {"splits", "warnings"}
    assert "30 of 30 rows begin with the same messages ('user Hi')" in facts["warnings"][0]


def test_no_row_left_says_how_many_rows_went_where_and_keeps_the_audit(file, tmp_path) -> None:
    data = DataSet(
        train=file("train", [*pairs("a", "b", " a "), {"prompt": 1, "completion": []}]),
        test=file("test", pairs("a", "b")),
        format=FORMAT,
        max_broken_share=0.5,
    )
    with pytest.raises(NoRowsLeft) as caught:
        audit(data, tmp_path)
    text = str(caught.value)
    assert (
        "No row is left to train on: 3 rows were for train, 2 to test; dropped: 3 × train prompt also in test" in text
    )
    assert "1 × broken row" in text
    assert "inspect --dropped" in text
    assert {"train prompt also in test"} < {reason["reason"] for reason in caught.value.audit["reasons"]}


def test_a_validation_split_whose_rows_are_all_in_test_is_warned_of(file, tmp_path) -> None:
    data = DataSet(
        train=file("train", questions(4)),
        validation=file("validation", pairs("x", "y")),
        test=file("test", pairs("x", "y")),
        format=FORMAT,
    )
    (warning,) = warnings(data, tmp_path)
    assert "The validation split is empty" in warning
    assert "all of its 2 rows were dropped (2 × validation prompt also in test (data/overlap))" in warning


def test_a_mixture_names_the_part_of_a_warning_and_why_a_part_has_no_row_left(file, tmp_path) -> None:
    few = DataSet(train=file("few", questions(3)), format=FORMAT, split=HashSplit(validation=0.001))
    many = DataSet(train=file("many", pairs(*(f"q {n}" for n in range(50)))), format=FORMAT, split=HashSplit())
    (warning,) = warnings(Mixture(parts={"few": few, "many": many}), tmp_path)
    assert warning.startswith("data.parts.few: The validation split is empty")
    held = DataSet(train=file("other", pairs("z")), test=file("held", questions(3)), format=FORMAT)
    mixture = Mixture(parts={"few": few, "held": held})
    stages = [mixture.stage(tmp_path / "cache"), mixture.stage_after_preprocessing()]
    with pytest.raises(NoRowsLeft, match=r"No training row of few is left.*3 × train prompt also in test"):
        Store(tmp_path / "cache").result(stages)

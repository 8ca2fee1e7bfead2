"""An audit in plain words: its summary, stages and facts."""

import pytest

from instruct_lab.data.audit import Audit
from instruct_lab.pages.audit_page import audit_page
from instruct_lab.pages.audit_stages import read_stages
from instruct_lab.pages.audit_words import describe_fact, describe_rows, describe_stage, summarize


def summary_of(audit):
    content = audit.to_json()
    return summarize(read_stages(content), content.get("facts", {}))


def test_the_summary_names_the_examples_then_what_was_done_and_why():
    audit = Audit()
    audit.facts["examples"] = {"train": 5, "validation": 1}
    for number in range(4):
        for _ in range(number + 1):
            audit.record("data/train/mine", "dropped", f"reason {number}", "row")
    audit.record("preprocessing/train/clean", "changed", "white space", "a  b", "a b")
    audit.record("preprocessing/validation/clean", "changed", "white space", "c  d", "c d")
    assert summary_of(audit) == [
        "The data gave 6 examples: 5 for training, 1 for validation.",
        "10 rows were dropped: reason 3 (4); reason 2 (3); reason 1 (2); and 1 more reason.",
        "2 rows were changed: white space (2).",
    ]


@pytest.mark.parametrize(
    ("action", "one", "two"),
    [
        ("dropped", "1 row was dropped: why (1).", "2 rows were dropped: why (2)."),
        ("truncated", "1 row was cut to the length limit: why (1).", "2 rows were cut to the length limit: why (2)."),
        ("added", "1 row was added: why (1).", "2 rows were added: why (2)."),
        (
            "reported",
            "1 row was kept as it was, but reported: why (1).",
            "2 rows were kept as they were, but reported: why (2).",
        ),
        ("of_a_plugin", "1 row was of_a_plugin: why (1).", "2 rows were of_a_plugin: why (2)."),
    ],
)
def test_each_action_is_a_sentence(action, one, two):
    audit = Audit()
    audit.record("preprocessing/train/step", action, "why", "row")
    assert summary_of(audit) == [one]
    audit.record("preprocessing/train/step", action, "why", "row")
    assert summary_of(audit) == [two]


@pytest.mark.parametrize(
    ("fact", "is_shown"),
    [
        ({"num_clusters": 0, "num_rows": 0, "sizes": {}, "largest": []}, False),
        ({"num_clusters": 1, "num_rows": 2, "sizes": {"2": 1}, "largest": []}, True),
        ({}, False),
        ([[], {"a": 0}], False),
    ],
)
def test_facts_without_content_have_no_section(fact, is_shown):
    audit = Audit()
    audit.note("preprocessing/train/deduplicate", clusters=fact)
    page = audit_page(audit.to_json(), "title")
    assert ("preprocessing step deduplicate" in page) == is_shown
    assert "num_clusters" not in page


def test_an_audit_without_changes_says_so():
    assert summary_of(Audit()) == ["Every row was kept as it was."]


@pytest.mark.parametrize(
    ("stage", "text"),
    [
        (("data", "source mine"), "reading of source mine"),
        (("data", "overlap"), "removal of rows that are also in another split"),
        (("preprocessing", "clean"), "preprocessing step clean"),
        (("batching", "batching"), "conversion of rows to tokens"),
        (("data", "new"), "data: new"),
    ],
)
def test_stages_are_described(stage, text):
    assert describe_stage(*stage) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data/train/mine", "reading of source mine, train"),
        ("preprocessing/test/clean", "preprocessing step clean, test"),
        ("warnings", "warnings"),
        ("num_rows", "num rows"),
    ],
)
def test_facts_are_described_by_their_stage(name, text):
    assert describe_fact(name) == text


def test_the_page_has_the_summary_the_reason_and_the_described_fact():
    audit = Audit()
    audit.record("data/train/mine", "dropped", "no answer", "user: hello")
    audit.note("data/train/mine", unused_columns={"file": 3})
    page = audit_page(audit.to_json(), "my data")
    assert "1 row was dropped: no answer (1)." in page
    assert "1 row dropped:" in page
    assert "columns that no conversation uses" in page
    assert "unused_columns" not in page
    assert describe_rows("truncated", 1200) == "1,200 rows cut to the length limit"
    assert describe_rows("reported", 1) == "1 row kept as it was, but reported"

"""Samples of changed rows in the terminal: where, before and after, shortened around the change, nothing invisible."""

import io

import pytest
from rich.console import Console

from instruct_lab.data.audit import MAX_SAMPLE_CHARACTERS, Audit
from instruct_lab.data.conversation import Conversation, Message
from instruct_lab.pages.audit_page import audit_page
from instruct_lab.pages.audit_stages import Sample
from instruct_lab.pages.audit_table import show
from instruct_lab.pages.change_samples import MAX_KINDS, shorten_change


def row(text: str, number: int = 0) -> Conversation:
    return Conversation((Message("user", text),), id=f"id{number}", origin=f"rows.jsonl:{number + 1}")


def printed(audit: Audit, width: int = 200, encoding: str = "utf-8") -> list[str]:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    show(Console(file=stream, width=width), audit.to_json())
    stream.flush()
    return stream.buffer.getvalue().decode(encoding).splitlines()


def changed(pairs, reason: str = "mojibake", stage: str = "preprocessing/train/clean") -> Audit:
    audit = Audit()
    for number, (before, after) in enumerate(pairs):
        audit.record(stage, "changed", reason, row(before, number), row(after, number))
    audit.rows(stage, len(pairs), len(pairs))
    return audit


def test_a_change_without_its_old_text_is_listed_by_its_new_text() -> None:
    audit = Audit()
    audit.record("preprocessing/train/redact", "changed", "EMAIL", None, row("write to <EMAIL>"))
    audit.rows("preprocessing/train/redact", 1, 1)
    assert "None" not in "\n".join(printed(audit))
    page = audit_page(audit.to_json(), "a run")
    assert "write to &lt;EMAIL&gt;" in page
    assert "None" not in page


def test_three_samples_of_every_kind_are_printed_with_their_file_and_line() -> None:
    audit = changed([(f"CafÃ© {n}", f"Café {n}") for n in range(7)])
    lines = [line for line in printed(audit) if line.startswith("  clean")]
    assert lines[0] == "  clean, mojibake (rows.jsonl:1): “user: CafÃ© 0” → “user: Café 0”"
    assert [line.split(":")[1].split(")")[0] for line in lines] == ["1", "2", "3"]


def test_rows_without_a_file_are_named_by_their_id_and_dropped_rows_are_no_changes() -> None:
    audit = Audit()
    audit.record("preprocessing/train/clean", "changed", "white space", Conversation((), id="abc"), "after")
    audit.record("preprocessing/train/clean", "dropped", "empty answer", row("x"))
    lines = [line for line in printed(audit) if line.startswith("  clean")]
    assert len(lines) == 1
    assert lines[0].startswith("  clean, white space (abc): ")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("Hello  ", "Hello", ("“Hello··”", "“Hello”")),
        ("a\x00b", "ab", ("“a␀b”", "“ab”")),
        ("e\u0301t", "ét", ("“e\\u0301t”", "“\\xe9t”")),
        ("x" * 100 + "A" + "y" * 100, "x" * 100 + "B" + "y" * 100, ("“…" + "x" * 16 + "A" + "y" * 16 + "…”",) * 2),
        ("one\ntwo", "one two", ("“one↵two”", "“one·two”")),
        ("a" * 200, "", ("“" + "a" * 24 + " … " + "a" * 24 + "”", "“”")),
    ],
    ids=["space", "control", "stored", "long", "line", "limit"],
)
def test_the_changed_part_is_visible(before, after, expected) -> None:
    shown = shorten_change(Sample("train", before, after))
    assert (shown[0], shown[1].replace("B", "A")) == expected


def test_a_change_far_inside_a_long_text_is_in_the_sample_and_on_the_page() -> None:
    before, after = "word " * 500 + "CafÃ©" + " word" * 500, "word " * 500 + "Café" + " word" * 500
    audit = changed([(before, after)])
    (sample,) = audit.to_json()["reasons"][0]["samples"]
    assert "CafÃ©" in sample["before"]
    assert "Café" in sample["after"]
    assert len(sample["before"]) < MAX_SAMPLE_CHARACTERS + 40
    assert any("CafÃ©" in line and "→" in line for line in printed(audit))
    page = audit_page(audit.to_json(), "title")
    assert "CafÃ©" in page
    assert "rows.jsonl:1" in page


def test_many_kinds_of_changes_fit_and_lines_are_cut_at_the_width() -> None:
    audit = Audit()
    for kind in range(MAX_KINDS + 3):
        for number in range(5):
            audit.record(
                "preprocessing/train/x", "changed", f"kind {kind}", row("a" * 90, number), row("b" * 90, number)
            )
    lines = printed(audit, width=100)
    assert sum(line.startswith("  x, kind") for line in lines) == 3 * MAX_KINDS
    assert "and 3 more kinds of changes, see audit.html" in lines
    assert all(len(line) <= 100 for line in lines)
    narrow = printed(audit, width=60)
    assert all(len(line) <= 60 for line in narrow)
    assert sum(line.startswith("    →") for line in narrow) == 3 * MAX_KINDS, "the text after has its own line"
    assert all(line.isascii() for line in printed(audit, width=80, encoding="ascii"))

"""Broken, enormous and malicious input: valid rows are trained on, the others are counted."""

import json
from pathlib import Path

import pytest
from support.chat_tokenizers import byte_level
from support.data import load_splits
from support.hanging import no_hang

from instruct_lab.batching import Padded
from instruct_lab.data import Alpaca, Audit, DataSet, Files, Messages
from instruct_lab.errors import InstructLabError
from instruct_lab.template import ChatTemplate

GOOD = [{"instruction": f"Say {number}", "output": f"It is {number}"} for number in range(20)]


def write(path: Path, *lines: bytes | str | dict) -> Path:
    whole = [
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        for line in lines
    ]
    path.write_bytes(b"\n".join([json.dumps(row).encode() for row in GOOD] + whole))
    return path


def load(path, tmp_path, **fields):
    audit = Audit()
    data = DataSet(**{"train": {"file": Files(path=str(path))}, "format": Alpaca(), "max_broken_share": 0.5, **fields})
    return load_splits(data, tmp_path / "cache", audit)["train"], audit


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"instruction": "Say", "outp', "not JSON"),
        ('{"instruction": "caf\xe9", "output": "x"}'.encode("latin-1"), "not UTF-8"),
        ('{"instruction": "Say \0 it", "output": "x"}', "not JSON"),
        (["Say", "it"], "list found"),
        ('["Say", "it"]', "list found"),
        ("null", "NoneType found"),
        ({"instruction": 5, "output": "x"}, "int found"),
        ({"instruction": "x", "output": None}, "NoneType found"),
        ({"instruction": ["x"], "output": "x"}, "list found"),
        ('{"instruction": "Say", "output": "x", "output": "y"}', "twice"),
        ('{"instruction": "half \\ud800 a pair", "output": "x"}', "surrogate"),
        ({"output": "x"}, "no column"),
        ("[" * 100_000, "nested too deeply"),
        ('{"instruction": NaN, "output": "x"}', "float found"),
    ],
    ids=str,
)
def test_a_broken_line_is_dropped_and_counted(tmp_path, line, reason) -> None:
    line = json.dumps(line) if isinstance(line, list) else line
    rows, audit = load(write(tmp_path / "rows.jsonl", line), tmp_path)
    assert len(rows) == 20
    (tally,) = audit.tallies.values()
    assert (tally.action, tally.count) == ("dropped", 1)
    assert reason in tally.reason
    assert "line 21" in tally.samples[0]["before"], "the sample has the line"
    assert audit.stages["data/train/file"] == {"in": 21, "out": 20}


def test_reasons_are_shared_by_rows_that_are_broken_alike(tmp_path) -> None:
    rows, audit = load(write(tmp_path / "rows.jsonl", *({"instruction": n, "output": "x"} for n in range(7))), tmp_path)
    assert [tally.count for tally in audit.tallies.values()] == [7]
    assert len(rows) == 20


def test_more_broken_rows_than_the_share_are_an_error_that_says_how_many(tmp_path) -> None:
    file = write(tmp_path / "rows.jsonl", *({"instruction": n, "output": "x"} for n in range(5)))
    with pytest.raises(InstructLabError, match=r"5 of 25 rows.*line 21.*max_broken_share=0\.2"):
        load(file, tmp_path, max_broken_share=0.1)
    assert len(load(file, tmp_path, max_broken_share=0.2)[0]) == 20
    with pytest.raises(InstructLabError, match="1 of 21"):
        load(write(tmp_path / "rows.jsonl", "{"), tmp_path, max_broken_share=0.0)


def test_a_file_that_is_broken_from_the_start_is_not_read_to_its_end(tmp_path) -> None:
    (tmp_path / "rows.jsonl").write_text("not json\n" * 10_000)
    with pytest.raises(InstructLabError, match="100 of 100 rows"):
        load(tmp_path / "rows.jsonl", tmp_path, max_broken_share=0.9)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("rows.jsonl", b"", "has no rows"),
        ("rows.json", json.dumps(GOOD).encode()[:-30], "cut off"),
        ("rows.json", b'[{"instruction": "a", "output": "b", "output": "c"}]', "'output' twice"),
        ("rows.jsonl", "\n".join(map(json.dumps, GOOD)).encode("utf-16"), "UTF-16"),
        ("rows.csv", "instruction,output\né,x\n".encode("latin-1"), "not UTF-8.*line 2"),
    ],
)
def test_damage_that_affects_the_whole_file_is_an_error(tmp_path, name, content, expected) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InstructLabError, match=expected):
        load(tmp_path / name, tmp_path)


def test_a_folder_is_refused(tmp_path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(InstructLabError, match="folder"):
        load(tmp_path / "folder.jsonl", tmp_path)


def test_unknown_roles_are_counted(tmp_path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    lines = [json.dumps({"messages": turns})] * 9 + [json.dumps({"messages": [{"role": "wizard", "content": "x"}]})]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    rows, audit = load(tmp_path / "rows.jsonl", tmp_path, format=Messages())
    assert len(rows) == 9
    assert "role" in next(iter(audit.tallies.values())).reason


def encoded(rows, audit, **fields):
    return list(Padded(**fields).encode(rows, ChatTemplate(), byte_level("chatml"), audit, "train"))


@pytest.mark.slow
def test_a_message_of_ten_megabytes_is_dropped_for_its_length_in_seconds(tmp_path) -> None:
    rows, audit = load(write(tmp_path / "rows.jsonl", {"instruction": "word " * 2_000_000, "output": "x"}), tmp_path)
    assert len(rows) == 21
    with no_hang():
        examples = encoded(rows, audit)
        assert len(examples) == 20
        assert audit.count("dropped", "batching") == 1
        assert len(json.dumps(audit.to_json())) < 10_000, "the sample is cut"


@pytest.mark.slow
def test_a_conversation_of_ten_thousand_turns_survives(tmp_path) -> None:
    turns = [{"role": ["user", "assistant"][n % 2], "content": f"turn {n}"} for n in range(10_000)]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": turns}))
    rows, audit = load(tmp_path / "rows.jsonl", tmp_path, format=Messages())
    assert len(rows[0].messages) == 10_000
    (example,) = encoded(rows, audit, max_tokens=None)
    assert example.num_target_tokens > 10_000
    assert not encoded(rows, audit)
    assert audit.count("dropped", "batching") == 1

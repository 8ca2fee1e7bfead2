"""The files that a folder's path names: what is read is what was found."""

import json

import pytest

from instruct_lab.data.sources.files import Files
from instruct_lab.data.sources.referenced_files import find_files

ROW = json.dumps({"prompt": "a", "completion": "b"}) + "\n"


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(ROW)


@pytest.mark.parametrize("ignored", ["_drafts/x.jsonl", "_schema.jsonl", "sub/_old/x.jsonl", ".hidden/x.jsonl"])
def test_files_that_are_hidden_are_not_read_by_the_pattern_either(tmp_path, ignored) -> None:
    write(tmp_path, "a.jsonl", "sub/b.jsonl", ignored)
    path = find_files(str(tmp_path)).paths["train"]
    assert set(Files(path=path).files()) == {tmp_path / "a.jsonl", tmp_path / "sub" / "b.jsonl"}


def test_equal_files_are_named_by_a_pattern(tmp_path) -> None:
    write(tmp_path, "a.jsonl", "sub/b.jsonl")
    assert find_files(str(tmp_path)).paths == {"train": f"{tmp_path}/**/*.jsonl"}


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\3\4"])
def test_a_broken_archive_beside_the_data_is_passed_over(tmp_path, content) -> None:
    write(tmp_path, "train.jsonl", "test.jsonl")
    (tmp_path / "notes.zip").write_bytes(content)
    assert find_files(str(tmp_path)).paths == {split: f"{tmp_path}/{split}.jsonl" for split in ("train", "test")}

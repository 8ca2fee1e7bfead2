"""Named pipes, devices, folders and links to nowhere, given where a file is expected, are refused and never read."""

import gzip
import json

import pytest
from support.hanging import no_hang
from support.special_files import SPECIAL, make_special

from instruct_lab import cli
from instruct_lab.files import NotARegularFile, open_regular, read_regular


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_is_not_opened(tmp_path, kind):
    make_special(tmp_path / "odd", kind)
    with pytest.raises(NotARegularFile, match="A file is expected"):
        open_regular(tmp_path / "odd")


def test_a_link_to_a_file_is_a_file_and_a_missing_file_is_missing(tmp_path):
    (tmp_path / "file").write_text("text", encoding="utf-8")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link") == b"text"
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")


DATA = {
    "rows.jsonl": ["data=mine", "data.train.mine.path=odd/rows.jsonl"],
    "rows.csv": ["data=mine", "data.train.mine.path=odd/rows.csv"],
    "rows.parquet": ["data=mine", "data.train.mine.path=odd/rows.parquet"],
    "rows.jsonl.gz": ["data=mine", "data.train.mine.path=odd/rows.jsonl.gz"],
    "rows.zip": ["data=mine", "data.train.mine.path=odd/rows.zip"],
    "text.txt": ["data=local_text", "data.train.file.path=odd/text.txt"],
    "task.json": ["data=local_tasks", "data.train.file.path=odd/task.json"],
    "held.jsonl": [
        "data=mine",
        "preprocessing/step=[decontaminate]",
        "preprocessing.steps.decontaminate.benchmarks.own._target_=instruct_lab.preprocessing.FileBenchmark",
        "preprocessing.steps.decontaminate.benchmarks.own.path=odd/held.jsonl",
    ],
    "model.gguf": ["data=mine", "model=local_gguf", "model.weights.path=odd/model.gguf"],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fifo", "device", "dangling"])
@pytest.mark.parametrize("name", DATA)
def test_data_and_models_that_are_no_files_are_refused(lab, capsys, name, kind):
    (lab / "odd").mkdir()
    make_special(lab / "odd" / name, kind)
    overrides = [*DATA[name], "tracker=none"]
    if not any(override.startswith("model=") for override in overrides):
        overrides.append("model=tiny_random")
    for command in ("check", "inspect"):
        with no_hang():
            assert cli.main([command, *overrides]) == 2
        printed = capsys.readouterr()
        assert name in printed.err
        assert "Traceback" not in printed.err


def test_a_name_that_is_too_long_is_refused(lab, capsys):
    assert cli.main(["check", "data=mine", "tracker=none", f"data.train.mine.path={'x' * 300}.jsonl"]) == 2
    assert "data.train.mine.path" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", ["manifest.json", "config.yaml", "summary.json", "metrics.jsonl"])
def test_a_record_with_a_file_that_is_none_hangs_nothing(tmp_path, monkeypatch, capsys, name, kind):
    monkeypatch.chdir(tmp_path)
    record = tmp_path / "runs" / "name" / "20260101-000000-aaaaaa"
    record.mkdir(parents=True)
    if name != "manifest.json":
        (record / "manifest.json").write_text(json.dumps({"id": record.name, "status": "finished"}), encoding="utf-8")
    make_special(record / name, kind)
    for command in (["runs"], ["runs", "seed=0"], ["compare", record.name], ["resume", record.name]):
        with no_hang():
            code = cli.main(command)
        assert code in (0, 2)
        assert "Traceback" not in capsys.readouterr().err


def test_compressed_files_are_read_as_before(lab, capsys):
    rows = (lab / "rows.jsonl").read_bytes()
    (lab / "rows.jsonl.gz").write_bytes(gzip.compress(rows))
    arguments = ["data=mine", "model=tiny_random", "tracker=none", "data.train.mine.path=rows.jsonl.gz"]
    assert cli.main(["inspect", "--json", *arguments]) == 0
    assert json.loads(capsys.readouterr().out)

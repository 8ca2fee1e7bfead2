"""Data files that are damaged, of a wrong form or at odd paths are refused, with the file or the key named."""

import gzip
import io
import json
import zipfile

import pytest

GOOD = json.dumps({"instruction": "Turn around", "input": "red green", "output": "green red"})
COLUMNS = "instruction,input,output\n"


def zipped(**files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)
    return stream.getvalue()


FILES = {
    "an empty file": ("rows.jsonl", ""),
    "blank lines": ("rows.jsonl", "\n \n\t\n"),
    "a byte order mark": ("rows.jsonl", "\ufeff"),
    "UTF-16": ("rows.jsonl", GOOD.encode("utf-16")),
    "bytes": ("rows.jsonl", bytes(range(256)) * 20),
    "latin-1": ("rows.jsonl", GOOD.replace("red", "é").encode("latin-1") + b"\n"),
    "a number of 5,000 digits": ("rows.jsonl", '{"instruction": ' + "9" * 5000 + "}\n"),
    "nested 100,000 deep": ("rows.jsonl", "[" * 100_000 + "]" * 100_000 + "\n"),
    "objects nested 100,000 deep": ("rows.jsonl", '{"a":' * 100_000 + "1" + "}" * 100_000 + "\n"),
    "only numbers": ("rows.jsonl", "1\n2\n3\n"),
    "only lists": ("rows.jsonl", "[1]\n[2]\n"),
    "only null": ("rows.jsonl", "null\nnull\n"),
    "empty objects": ("rows.jsonl", "{}\n{}\n"),
    "other columns": ("rows.jsonl", '{"question": "a", "reply": "b"}\n'),
    "objects where texts are expected": ("rows.jsonl", '{"instruction": {"a": 1}, "input": [], "output": 5}\n'),
    "empty answers": ("rows.jsonl", '{"instruction": "a", "input": "", "output": ""}\n'),
    "a key twice": ("rows.jsonl", '{"instruction": "a", "instruction": "b", "output": "c"}\n'),
    "a broken line": ("rows.jsonl", GOOD[:-5] + "\n"),
    "a list over several lines": ("rows.jsonl", "[\n" + GOOD + ",\n" + GOOD + "\n]\n"),
    "a page": ("rows.jsonl", "<!DOCTYPE html><html><body>404</body></html>"),
    "a pointer of Git LFS": ("rows.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"),
    "an empty JSON file": ("rows.json", ""),
    "an empty JSON list": ("rows.json", "[]"),
    "a JSON text": ("rows.json", '"rows"'),
    "a truncated JSON list": ("rows.json", f"[{GOOD}, {GOOD[:20]}"),
    "a JSON list that is not closed": ("rows.json", f"[{GOOD}"),
    "a JSON list nested 100,000 deep": ("rows.json", "[" * 100_000),
    "a JSON number of 5,000 digits": ("rows.json", '[{"instruction": ' + "9" * 5000 + "}]"),
    "a JSON file of a number of 5,000 digits": ("rows.json", "9" * 5000),
    "one object for each column": ("rows.json", '{"instruction": ["a"], "output": ["b"]}'),
    "an empty CSV file": ("rows.csv", ""),
    "a CSV header without rows": ("rows.csv", COLUMNS),
    "a CSV header of 131,073 characters": ("rows.csv", "a" * 131_073 + ",b\n1,2\n"),
    "a CSV column twice": ("rows.csv", "output,output\n1,2\n"),
    "an unclosed quotation mark in CSV": ("rows.csv", COLUMNS + 'a,b,"c\n'),
    "CSV with rows of other lengths": ("rows.csv", COLUMNS + "a\na,b,c,d,e\n"),
    "CSV with semicolons": ("rows.csv", "instruction;output\na;b\n"),
    "CSV in UTF-16": ("rows.csv", COLUMNS.encode("utf-16")),
    "an empty Parquet file": ("rows.parquet", b""),
    "only the marks of Parquet": ("rows.parquet", b"PAR1" + b"\0" * 8 + b"PAR1"),
    "text as Parquet": ("rows.parquet", GOOD * 10),
    "text as gzip": ("rows.jsonl.gz", GOOD),
    "a truncated gzip file": ("rows.jsonl.gz", gzip.compress(GOOD.encode() * 500)[:-20]),
    "a damaged gzip file": ("rows.jsonl.gz", gzip.compress(GOOD.encode())[:20] + b"\xff" * 30),
    "text as zip": ("rows.jsonl.zip", GOOD),
    "an empty zip file": ("rows.jsonl.zip", zipped()),
    "a zip file of two files": ("rows.jsonl.zip", zipped(a_jsonl=GOOD, b_jsonl=GOOD)),
    "a truncated zip file": ("rows.jsonl.zip", zipped(a_jsonl=GOOD)[:-30]),
    "text as xz": ("rows.jsonl.xz", GOOD),
    "text as bz2": ("rows.jsonl.bz2", GOOD),
    "text as zst": ("rows.jsonl.zst", GOOD),
    "an unknown ending": ("rows.xlsx", GOOD),
    "no ending": ("rows", GOOD),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "content"), FILES.values(), ids=FILES)
def test_a_bad_data_file_is_refused(lab, refused, name, content):
    folder = lab / "bad"
    folder.mkdir()
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    config = ["data=mine", "model=tiny_random", "tracker=none", f"data.train.mine.path=bad/{name}"]
    refused("check", *config, codes=(0, 2))
    refused("inspect", *config, names=[f"bad/{name}", "data.format", "the train split"])


PATHS = {
    "nothing": "''",
    "a file that is not there": "nowhere.jsonl",
    "a file below a file": "rows.jsonl/rows.jsonl",
    "a folder": "conf",
    "a name of 300 bytes": "n" * 300 + ".jsonl",
    "a path of 5,000 bytes": "folder/" * 800 + "rows.jsonl",
    "a pattern of 5,000 bytes": "folder/" * 800 + "*.jsonl",
    "a pattern in a name of 300 bytes": "n" * 300 + "/*.jsonl",
    "a pattern that matches nothing": "nowhere/**/*.jsonl",
    "a pattern that matches a folder": "con*",
    "a user who is not there": "'~nosuch/rows.jsonl'",
    "a pattern of a user who is not there": "'~nosuch/*.jsonl'",
    "a NUL": '"a\0b.jsonl"',
    "a pattern with a NUL": '"a\0b/*.jsonl"',
    "a surrogate": "'\udcff.jsonl'",
    "an empty list": "[]",
    "a list of lists": "[[rows.jsonl]]",
    "a number": "5",
    "memory of a process": "/proc/self/mem",
    "a URL": "'https://example.invalid/rows.jsonl'",
}


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_a_bad_path_is_refused(refused, path):
    config = ["data=mine", "model=tiny_random", "tracker=none", f"data.train.mine.path={path}"]
    refused("check", *config, names=["data.train.mine.path"])


def test_a_parent_folder_that_cannot_be_searched_is_refused(lab, refused, monkeypatch):
    import os

    found, original = [], os.stat

    def stat(path, *arguments, **named):
        if "locked" in str(path):
            found.append(path)
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *arguments, **named)

    monkeypatch.setattr(os, "stat", stat)
    config = ["data=mine", "model=tiny_random", "tracker=none", "data.train.mine.path=locked/rows.jsonl"]
    refused("check", *config, names=["data.train.mine.path"])
    assert found

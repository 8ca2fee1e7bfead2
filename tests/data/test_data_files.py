"""Rows from local files, and everything that can be wrong with a file."""

import csv
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from instruct_lab import files
from instruct_lab.data import Audit, BrokenRow, Files
from instruct_lab.errors import InstructLabError

ROWS = [{"question": "één\n“x”", "answer": "1"}, {"question": "b,\u2028c", "answer": ""}]


def read(path, **fields):
    source = Files(path=str(path) if isinstance(path, Path) else path, **fields)
    rows = list(source.read(Path(), Audit(), "data/train/file"))
    for row in rows:
        if isinstance(row, BrokenRow):
            raise row.error
    return SimpleNamespace(rows=rows, inputs=source.inputs(Path()))


def write(file: Path, file_format: str) -> Path:
    if file_format == "json":
        file.write_text(json.dumps(ROWS), encoding="utf-8")
    elif file_format == "jsonl":
        lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
        file.write_text(lines, encoding="utf-8")
    elif file_format in ("csv", "tsv"):
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, ["question", "answer"], delimiter="\t" if file_format == "tsv" else ",")
            writer.writeheader()
            writer.writerows(ROWS)
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), file)
    return file


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "tsv", "parquet"])
def test_every_format_gives_the_same_rows(tmp_path, ending) -> None:
    file = write(tmp_path / f"rows.{ending}", ending)
    found = read(file, quoting="standard" if ending == "tsv" else "auto")
    assert [row.columns for row in found.rows] == ROWS
    assert found.inputs[0].name == f"rows.{ending}"
    assert found.inputs[0].sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found.inputs[0].bytes == file.stat().st_size


@pytest.mark.parametrize(
    ("ending", "second"), [("json", "row 2"), ("jsonl", "line 3"), ("csv", "line 4"), ("parquet", "row 2")]
)
def test_a_row_knows_its_file_and_line(tmp_path, ending, second) -> None:
    file = write(tmp_path / f"rows.{ending}", ending)
    assert read(file).rows[1].where == f"{file}, {second}"


def test_the_file_format_can_be_set(tmp_path) -> None:
    file = write(tmp_path / "rows.txt", "jsonl")
    with pytest.raises(InstructLabError, match=r"'\.txt' is not of a known file format"):
        read(file)
    assert len(read(file, file_format="jsonl").rows) == 2


def test_the_delimiter_can_be_set(tmp_path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("question;answer\na;b\n")
    assert read(file, delimiter=";").rows[0].columns == {"question": "a", "answer": "b"}


def test_a_byte_order_mark_is_no_part_of_a_column(tmp_path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"\xef\xbb\xbfquestion,answer\r\na,b\r\n")
    assert read(file).rows[0].columns == {"question": "a", "answer": "b"}


def test_several_paths_and_patterns_are_read_once_each_in_order(tmp_path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.jsonl").write_text(json.dumps({"q": name}))
    found = read([str(tmp_path / "**" / "*.jsonl"), str(tmp_path / "b" / "rows.jsonl")])
    assert [row.columns["q"] for row in found.rows] == ["a", "b"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path) -> None:
    (tmp_path / "rows[1].jsonl").write_text('{"q": "x"}')
    assert len(read(tmp_path / "rows[1].jsonl").rows) == 1


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", '[{"q": "x"},\n{"q": "y"', r"line 2.*|cut off"),
        ("a.json", '[{"q": "x"},\n{"q": "y}]', "seems to be cut off"),
        ("a.json", '[{"q": "x"}, ["y"]]', r"list found.*row 2"),
        ("a.json", '{"q": "x"}', "A list of rows was expected and dict found"),
        ("a.json", '{"q": "x"}\n{"q": "y"}', "file_format=jsonl"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.jsonl", '{"q": "x"}\n{"q": "y\n', r"cut off.*a\.jsonl, line 2"),
        ("a.jsonl", '{"q": "x"}\n["y"]\n', r"list found.*a\.jsonl, line 2"),
        ("a.jsonl", '"text"\n', r"str found.*line 1"),
        ("a.csv", "q,a\nx,y\nz\n", r"1 values and the header 2 columns.*a\.csv, line 3"),
        ("a.csv", 'q,a\nx,"y', r"not CSV.*line 2"),
        ("a.csv", "q,q\nx,y\n", r"'q' twice"),
        ("a.parquet", "PAR1 no", "not a complete Parquet file"),
        ("a.json", "", "has no rows"),
        ("a.json", "[]", "has no rows"),
        ("a.jsonl", "\n\n", "has no rows"),
        ("a.csv", "q,a\n", "has no rows"),
    ],
)
def test_the_error_of_a_broken_file_names_its_line(tmp_path, name, content, expected) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InstructLabError, match=expected) as caught:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_truncated_parquet_file_is_an_error(tmp_path) -> None:
    file = write(tmp_path / "rows.parquet", "parquet")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InstructLabError, match=r"not a complete Parquet file.*rows\.parquet"):
        read(file)


def test_the_error_of_another_encoding_names_its_line(tmp_path) -> None:
    (tmp_path / "a.jsonl").write_bytes('{"q": "x"}\n{"q": "é"}\n'.encode("latin-1"))
    with pytest.raises(InstructLabError, match=r"not UTF-8 text.*a\.jsonl, line 2"):
        read(tmp_path / "a.jsonl")


def test_a_file_without_permissions_is_an_error(tmp_path, monkeypatch) -> None:
    file = write(tmp_path / "rows.jsonl", "jsonl")

    def closed(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.os, "open", closed)
    with pytest.raises(InstructLabError, match=r"Permission denied.*rows\.jsonl"):
        read(file)
    source = Files(path=str(file))
    assert [(problem.key, problem.value) for problem in source.problems()] == [("path", str(file))]
    assert source.known_columns() is None


@pytest.mark.parametrize(
    ("path", "reason", "suggestion"),
    [
        ("row.jsonl", "there is no such file", "rows.jsonl"),
        ("nothing-like-it", "there is no such file", None),
        ("*.csv", "no file matches the pattern", None),
        ("", "is a folder where a file is expected", "*.jsonl"),
    ],
)
def test_a_path_that_names_no_file_is_a_problem_before_and_an_error_while_reading(
    tmp_path, path, reason, suggestion
) -> None:
    write(tmp_path / "rows.jsonl", "jsonl")
    full = str(tmp_path / path)
    problem = next(iter(Files(path=full).problems()))
    assert (problem.key, problem.value, problem.reason) == ("path", full, reason)
    assert problem.suggestion == (suggestion and str(tmp_path / suggestion))
    with pytest.raises(InstructLabError, match=reason[1:]):
        read(full)


def test_a_good_path_is_no_problem_and_an_unknown_ending_is(tmp_path) -> None:
    assert not list(Files(path=str(write(tmp_path / "rows.csv", "csv"))).problems())
    (tmp_path / "rows.xyz").write_text("x")
    assert [problem.key for problem in Files(path=str(tmp_path / "*.xyz")).problems()] == ["file_format"]


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "parquet"])
def test_the_columns_are_known_from_the_first_row(tmp_path, ending) -> None:
    source = Files(path=str(write(tmp_path / f"rows.{ending}", ending)))
    assert source.known_columns() == ["question", "answer"]


def test_the_columns_of_a_broken_file_are_not_known(tmp_path) -> None:
    for name, content in (("a.json", "[{"), ("a.jsonl", "[1]"), ("a.csv", ""), ("a.json", ""), ("a.parquet", "PAR1")):
        (tmp_path / name).write_text(content)
        assert Files(path=str(tmp_path / name)).known_columns() is None

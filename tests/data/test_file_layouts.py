"""Files as people have them: quotation marks in TSV, other delimiters, compressed files, lists inside an object."""

import csv
import gzip
import io
import json
import lzma
import re
import zipfile

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_lab.data import Audit, BrokenRow, Files, Messages
from instruct_lab.data.sources.csv_rows import read_csv
from instruct_lab.errors import InstructLabError


def read(path, **fields) -> tuple[list[dict], list[str]]:
    """The columns of the rows, and the errors of the broken ones."""
    rows = list(Files(path=str(path), **fields).rows(path.parent, Audit(), "stage"))
    return (
        [row.columns for row in rows if not isinstance(row, BrokenRow)],
        [str(row.error) for row in rows if isinstance(row, BrokenRow)],
    )


def written(path, text: str):
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize(
    "lines",
    [
        ["Good day\tBonjour", '"Wait\tAttends', "Come in\tEntre", 'He shouted: "\tIl cria', "Bye\tAu revoir"],
        ['"Hi" she said\tElle dit salut', 'A 5" pipe\tUn tuyau'],
        ['"\t"', '"a" and "b"\tx', '"Hello"\t"Salut"'],
    ],
)
def test_quotation_marks_of_tsv_are_ordinary_characters(tmp_path, lines) -> None:
    rows, errors = read(written(tmp_path / "a.tsv", "en\tfr\n" + "\n".join(lines) + "\n"))
    assert [f"{row['en']}\t{row['fr']}" for row in rows] == lines
    assert not errors


def test_a_quoted_tsv_is_read_or_its_rows_are_broken(tmp_path) -> None:
    assert read(written(tmp_path / "a.tsv", '"en"\t"fr"\n"a\tb"\t"c ""d"""\n'))[0] == [{"en": "a\tb", "fr": 'c "d"'}]
    text = 'en\tfr\n"c ""d"""\te\n"a\nb"\tc\n'
    rows, errors = read(written(tmp_path / "b.tsv", text))
    assert rows == [{"en": 'b"', "fr": "c"}]  # the rest of a row that is broken above
    assert "quoted as in CSV" in errors[0]
    assert "b.tsv, line 2" in errors[0]
    assert "quoting to standard" in errors[1]
    assert read(tmp_path / "b.tsv", quoting="none")[0][0] == {"en": '"c ""d"""', "fr": "e"}
    assert read(tmp_path / "b.tsv", quoting="standard")[0] == [{"en": 'c "d"', "fr": "e"}, {"en": "a\nb", "fr": "c"}]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.tsv", 'en\tfr\na\tb\n"Wait\tAttends\nIn\tEntre\nShout: "\tIl cria\n', 3),
        ("a.csv", 'q,a\n"one,1\ntwo,2\nthree,3\nfour: ",4\nfive,5\n', 2),
        ("b.csv", 'q,a,b\nx,y,z\n"one,1,1\ntwo,2,2\nthree,3,3\nfour: ",4,4\n', 3),
    ],
)
def test_a_value_that_swallows_lines_is_a_broken_row_that_names_its_first_line(tmp_path, name, text, line) -> None:
    _, errors = read(written(tmp_path / name, text), quoting="standard")
    assert len(errors) == 1
    assert f"{name}, line {line}" in errors[0]
    assert "quotation mark" in errors[0]


def test_text_of_several_lines_in_csv_stays_one_value(tmp_path) -> None:
    code = "def f(a, b):\n    return a\n\nprint(1)"
    rows, errors = read(written(tmp_path / "a.csv", f'q,a\n"{code}","x, y\nz"\n'))
    assert rows == [{"q": code, "a": "x, y\nz"}]
    assert not errors


def test_bare_quotation_marks_in_csv_name_the_setting(tmp_path) -> None:
    file = written(tmp_path / "a.csv", 'q,a\n"x" y,z\n')
    with pytest.raises(InstructLabError, match=r"a\.csv, line 2.*quoting to none"):
        read(file)
    assert read(file, quoting="none")[0] == [{"q": '"x" y', "a": "z"}]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_another_delimiter_is_named(tmp_path, delimiter) -> None:
    file = written(tmp_path / "a.csv", f"q{delimiter}a\nx{delimiter}y\n")
    with pytest.raises(InstructLabError, match="delimiter"):
        read(file)
    [problem] = Files(path=str(file)).problems()
    assert (problem.key, problem.suggestion) == ("delimiter", delimiter)
    assert Files(path=str(file)).known_columns() is None
    assert read(file, delimiter=delimiter)[0] == [{"q": "x", "a": "y"}]
    assert not list(Files(path=str(file), delimiter=delimiter).problems())


@pytest.mark.parametrize("header", ["q, a", "q,  a", "q, a, b"])
def test_a_header_with_spaces_after_its_delimiters_skips_those_of_the_rows(tmp_path, header) -> None:
    columns = [column.strip() for column in header.split(",")]
    cells = ["x", "yes, 1", 'he said "no" '][: len(columns)]
    row = ", ".join([cells[0], *(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in cells[1:])])
    file = written(tmp_path / "a.csv", f"{header}\n{row}\n")
    assert read(file) == ([dict(zip(columns, cells, strict=True))], [])
    assert Files(path=str(file)).known_columns() == columns


@pytest.mark.parametrize("row", ['x, "yes"', 'x, "yes, 1"', 'x, "yes\n1"', ' "x",y', 'x,  "he said ""no"""'])
def test_a_space_before_a_quotation_mark_is_a_fault_that_names_the_setting(tmp_path, row) -> None:
    file = written(tmp_path / "a.csv", f"q,a\n{row}\nz,w\n")
    rows, errors = read(file)
    assert rows == [{"q": "z", "a": "w"}]
    assert "a.csv, line 2" in errors[0]
    assert "spacing to skip" in errors[0]
    [quoted, _] = read(file, spacing="skip")[0]
    assert quoted == dict(zip("qa", next(csv.reader([row], skipinitialspace=True)), strict=True)) or "\n" in row
    assert not any("quotation" in error for error in read(file, spacing="keep")[1])


@pytest.mark.parametrize("row", ['x, he said "no"', "x, y", 'x,"yes"', 'x,5" pipe'])
def test_spaces_and_quotation_marks_of_ordinary_text_stay(tmp_path, row) -> None:
    rows, errors = read(written(tmp_path / "a.csv", f"q,a\n{row}\n"))
    assert rows == [{"q": "x", "a": next(csv.reader([row]))[1]}]
    assert not errors


LINES = "".join(json.dumps({"q": f"é {i}", "a": "x" * 100}) + "\n" for i in range(50)).encode()


def compress(path, content: bytes, inner: str) -> None:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content))
    elif path.suffix == ".xz":
        path.write_bytes(lzma.compress(content))
    elif path.suffix == ".zst":
        path.write_bytes(pyarrow.Codec("zstd").compress(content, asbytes=True))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("folder/", "")
            archive.writestr(f"folder/{inner}", content)


@pytest.mark.parametrize("ending", ["gz", "xz", "zst", "zip"])
def test_compressed_files_give_the_same_rows(tmp_path, ending) -> None:
    tsv = "q\ta\n" + "".join(f"é {i}\t{'x' * 100}\n" for i in range(50))
    listed = b"[" + b",".join(LINES.splitlines()) + b"]"
    for inner, content in (("a.jsonl", LINES), ("a.json", listed), ("a.tsv", tsv.encode())):
        file = tmp_path / f"{inner}.{ending}"
        compress(file, content, inner)
        rows, errors = read(file)
        assert rows == [json.loads(line) for line in LINES.splitlines()]
        assert not errors
        assert Files(path=str(file)).known_columns() == ["q", "a"]
        assert not list(Files(path=str(file)).problems())


@pytest.mark.parametrize("ending", ["gz", "xz", "zst", "zip"])
def test_a_broken_compressed_file_is_an_error(tmp_path, ending) -> None:
    file = tmp_path / f"a.jsonl.{ending}"
    compress(file, LINES, "a.jsonl")
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], LINES):
        file.write_bytes(content)
        with pytest.raises(InstructLabError, match=rf"a\.jsonl\.{ending}"):
            read(file)


def test_an_archive_of_several_files_is_refused(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jsonl", "{}")
        archive.writestr("b.jsonl", "{}")
    with pytest.raises(InstructLabError, match=r"2 files \(a\.jsonl, b\.jsonl\).*Unpack"):
        read(tmp_path / "a.zip")
    assert [problem.key for problem in Files(path=str(tmp_path / "a.zip")).problems()] == ["file_format"]


def test_an_archive_with_a_method_that_python_cannot_read_is_named(tmp_path) -> None:
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", LINES)
    content = bytearray(file.read_bytes())
    for header, offset in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        position = content.index(header) + offset
        content[position : position + 2] = (9).to_bytes(2, "little")  # Deflate64
    file.write_bytes(content)
    with pytest.raises(InstructLabError, match=r"a\.jsonl\.zip|a\.zip"):
        read(file)


def test_a_header_with_a_quoted_column_anywhere_is_standard(tmp_path) -> None:
    assert read(written(tmp_path / "a.tsv", 'id\t"text"\n1\t"a b"\n'))[0] == [{"id": "1", "text": "a b"}]


@pytest.mark.parametrize(
    ("content", "records"),
    [
        ({"version": "1", "data": [{"q": 1}, {"q": 2}], "more": [3]}, "data"),
        ({"data": {"rows": [{"q": 1}, {"q": 2}]}}, "data.rows"),
        ({"a": {"b": {"c": [{"q": 1}, {"q": 2}]}, "d": None}}, "a.b.c"),
    ],
)
def test_rows_inside_an_object_are_read_by_records(tmp_path, content, records) -> None:
    file = written(tmp_path / "a.json", json.dumps(content, indent=1))
    assert read(file, records=records)[0] == [{"q": 1}, {"q": 2}]
    assert Files(path=str(file), records=records).known_columns() == ["q"]


@pytest.mark.parametrize(
    ("text", "records", "expected"),
    [
        ('{"version": 1, "data": [{"q": 1}]}', None, "dict found.*records=data"),
        ('{"labels": ["x"], "data": [{"q": 1}]}', None, "records=data if"),
        ('{"meta": {"tags": []}, "data": {"train": [{"q": 1}]}}', None, r"records=data\.train if"),
        ('{"train": [{"q": 1}], "test": [{"q": 2}]}', None, r"records=train if.*other lists: test"),
        ('{"q": ["x", "y"], "a": ["z", "w"]}', None, "one list for each column"),
        ('{"1": {"q": "x"}, "2": {"q": "y"}}', None, "values look like rows"),
        ('{"rows": [{"q": 1}]}', "data", "no key 'data'.*rows"),
        ('[{"q": 1}]', "data", "'data' was expected and a list found"),
        ('{"data": 5}', "data", "int found"),
        ('{"data": [{"q": 1}', "data", "not JSON"),
        ('{"data": [{"q": 1}]} x', "data", "not JSON"),
        ('{"data" [{"q": 1}]}', "data", "not JSON"),
        ('{"data": [{"q": 1}], "data": [{"q": 2}]}', "data", "'data' twice"),
        ('{"a": 1, "data": [{"q": 1}], "a": 2}', "data", "'a' twice"),
    ],
)
def test_records_that_are_not_there_are_named(tmp_path, text, records, expected) -> None:
    with pytest.raises(InstructLabError, match=expected):
        read(written(tmp_path / "a.json", text), records=records)


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ('{"q": 1},\n{"q": 2},\n', 1, "More follows.*one object a line"),
        ('{"q": 1}{"q": 2}\n', 1, "More follows.*one object a line"),
        ('{"q": 1} # note\n', 1, "More follows"),
        ('{\n "q": 1\n}\n', 1, "several lines.*file_format=json"),
        ('[\n{"q": 1}\n]\n', 1, "several lines.*file_format=json"),
    ],
)
def test_lines_that_are_not_one_object_each_name_what_to_write(tmp_path, text, line, expected) -> None:
    _, errors = read(written(tmp_path / "a.jsonl", text))
    assert re.search(rf"{expected}", errors[0])
    assert f"a.jsonl, line {line}" in errors[0]


def test_records_are_only_for_json(tmp_path) -> None:
    file = written(tmp_path / "a.jsonl", '{"data": []}\n')
    with pytest.raises(InstructLabError, match="records is only for JSON"):
        read(file, records="data")


def test_nulls_that_pad_a_table_are_not_arguments(tmp_path) -> None:
    def row(name, **arguments):
        return {"messages": [{"role": "user", "content": "u"}, call(name, arguments)]}

    def call(name, arguments):
        return {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": {"name": name, "arguments": arguments}}],
        }

    rows = [row("w", city="Lima"), row("c", expression="6*7"), row("n", where={"lat": 1}), row("m", where={"lon": 2})]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    source = Files(path=str(tmp_path / "a.parquet"))
    texts = [Messages().conversation(row).messages[-1].content for row in source.rows(tmp_path, Audit(), "s")]
    assert [json.loads(text.splitlines()[1])["arguments"] for text in texts] == [
        {"city": "Lima"},
        {"expression": "6*7"},
        {"where": {"lat": 1}},
        {"where": {"lon": 2}},
    ]
    written(tmp_path / "a.jsonl", json.dumps(row("w", city=None)) + "\n")
    [kept] = Files(path=str(tmp_path / "a.jsonl")).rows(tmp_path, Audit(), "s")
    assert '"city": null' in Messages().conversation(kept).messages[-1].content


def reports_a_fault(rows) -> bool:
    """Whether a row is broken or the file cannot be divided into rows."""
    try:
        return any(isinstance(row, BrokenRow) for row in rows)
    except InstructLabError:
        return True


@settings(max_examples=50)
@given(st.lists(st.text('ab ,"\n', max_size=6), min_size=2, max_size=3), st.sampled_from([",", ", "]))
def test_written_csv_is_read_as_written_or_as_a_broken_row(cells, delimiter) -> None:
    line = delimiter.join('"' + cell.replace('"', '""') + '"' for cell in cells)
    header = ",".join("cde"[: len(cells)])
    for first in (header, header.replace(",", delimiter)):
        text = io.StringIO(f"{first}\n{line}\n", newline="")
        if delimiter in first:
            assert [list(row.columns.values()) for row in read_csv(text, "a.csv", None, "auto")] == [cells]
        else:
            assert reports_a_fault(read_csv(text, "a.csv", None, "auto"))
    [skipped] = read_csv(io.StringIO(f"{header}\n{line}\n", newline=""), "a.csv", None, "auto", "skip")
    assert list(skipped.columns.values()) == cells


SCHEMAS = {
    "search": {
        "where": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "zip": {"type": "string"}},
        },
        "filters": {"type": "array", "items": {"type": "object", "properties": {"key": {}, "value": {}}}},
        "limit": {"type": "integer"},
    },
    "compute": {"expression": {"type": "string"}},
}


@pytest.mark.parametrize("with_tools", [True, False])
def test_nulls_that_pad_a_table_are_not_arguments_at_any_level_with_tools_too(tmp_path, with_tools) -> None:
    tools = [
        {"name": name, "parameters": {"type": "object", "properties": known, "required": []}}
        for name, known in SCHEMAS.items()
    ]
    called = [
        ("search", {"where": {"city": "Lima"}}),
        ("search", {"where": {"zip": "10115"}, "limit": 3}),
        ("search", {"filters": [{"key": "a", "value": "1"}, {"key": "b"}]}),
        ("compute", {"expression": "6*7"}),
    ]
    rows = [
        {
            "messages": [
                {"role": "user", "content": "u"},
                {"role": "assistant", "tool_calls": [{"function": {"name": name, "arguments": arguments}}]},
            ],
        }
        | ({"tools": json.dumps(tools)} if with_tools else {})
        for name, arguments in called
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    read = Files(path=str(tmp_path / "a.parquet")).rows(tmp_path, Audit(), "s")
    texts = [Messages().conversation(one).messages[-1].content for one in read]
    found = [json.loads(text.splitlines()[1])["arguments"] for text in texts]
    assert found == [arguments for _, arguments in called]


def test_a_null_that_the_schema_requires_is_an_argument(tmp_path) -> None:
    schema = {"type": "object", "required": ["city"], "properties": {"city": {}, "day": {}}}
    arguments = {"city": None, "day": None, "zone": None}
    turns = [
        {"role": "user", "content": "u"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "w", "arguments": arguments}}]},
    ]
    row = {"messages": turns, "tools": json.dumps([{"name": "w", "parameters": schema}])}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "a.parquet")
    [read] = Files(path=str(tmp_path / "a.parquet")).rows(tmp_path, Audit(), "s")
    text = Messages().conversation(read).messages[-1].content
    assert json.loads(text.splitlines()[1])["arguments"] == {"city": None}


def test_nulls_in_arguments_written_as_text_are_arguments_even_in_a_table(tmp_path) -> None:
    arguments = {"city": "Lima", "day": None, "near": {"zip": None}}
    turns = [
        {"role": "user", "content": "u"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "w", "arguments": json.dumps(arguments)}}]},
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"messages": turns}]), tmp_path / "a.parquet")
    [read] = Files(path=str(tmp_path / "a.parquet")).rows(tmp_path, Audit(), "s")
    text = Messages().conversation(read).messages[-1].content
    assert json.loads(text.splitlines()[1])["arguments"] == arguments


CELLS = st.text(st.characters(exclude_characters="\t\r\n", exclude_categories=["Cs"]), min_size=1)


@settings(max_examples=50)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1))
def test_every_character_of_a_tsv_is_in_its_rows_or_in_a_broken_row(pairs) -> None:
    text = "en\tfr\n" + "".join(f"{first}\t{second}\n" for first, second in pairs)
    rows = list(read_csv(io.StringIO(text, newline=""), "a.tsv", "\t", "auto"))
    assert len(rows) == len(pairs)
    for row, pair in zip(rows, pairs, strict=True):
        assert isinstance(row, BrokenRow) or tuple(row.columns.values()) == pair
    plain = list(read_csv(io.StringIO(text, newline=""), "a.tsv", "\t", "none"))
    assert [tuple(row.columns.values()) for row in plain] == pairs

"""Plain text: rows of one text, text files and how they are cut, and how such a conversation is rendered."""

import tracemalloc
from pathlib import Path

import pydantic
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support.data import load_splits

from instruct_lab.data import Audit, BrokenRow, DataSet, HashSplit, Message, PlainText, Row, TextFiles
from instruct_lab.errors import InstructLabError
from instruct_lab.template import TextTemplate

CONF = Path(__file__).parents[2] / "conf"


def read(path, audit=None, **fields):
    return list(TextFiles(path=str(path), **fields).rows(None, audit or Audit(), "texts"))


def texts(path, **fields) -> list[str]:
    return [row.columns["text"] for row in read(path, **fields)]


def test_a_text_is_one_answer_without_a_prompt() -> None:
    found = PlainText(text="body").conversation(Row({"body": "Once upon a time.", "author": "A"}, "x"))
    assert found.messages == (Message("assistant", "Once upon a time."),)
    assert found.prompt == ()
    assert found.metadata == {"author": "A"}
    assert PlainText().required() == {"text": ["text"]}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"text": " \n"}, "text is empty"),
        ({"text": 3}, "int found: 3"),
        ({"text": None}, "NoneType"),
        ({"text": ["a"]}, "list found"),
        ({"body": "a"}, "no column 'text'"),
        ({"text": "\ud800"}, "surrogate"),
    ],
)
def test_a_row_without_a_text_is_an_error(columns, expected) -> None:
    with pytest.raises(InstructLabError, match=expected) as caught:
        PlainText().conversation(Row(columns, "rows.jsonl, line 9"))
    assert "rows.jsonl, line 9" in str(caught.value)


def test_the_plain_template_trains_all_of_it_and_the_end_of_the_text() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocab={"a": 0, "</s>": 1}, merges=[])), eos_token="</s>"
    )
    settings = yaml.safe_load((CONF / "template" / "plain.yaml").read_text(encoding="utf-8"))
    settings.pop("_target_")
    segments = TextTemplate(**settings).render(PlainText().conversation(Row({"text": "aa"}, "x")), tokenizer)
    assert [(segment.text, segment.trained) for segment in segments] == [("aa", True), ("</s>", True)]


def test_a_file_is_a_document(tmp_path) -> None:
    (tmp_path / "b.txt").write_bytes("\ufeffOne.\r\n\r\nTwo. é".encode())
    (tmp_path / "a.txt").write_text("Other.", encoding="utf-8")
    (tmp_path / "c.md").write_text("Not read.", encoding="utf-8")
    assert [row.columns for row in read(tmp_path)] == [
        {"text": "Other.", "file": "a.txt", "part": 1},
        {"text": "One.\n\nTwo. é", "file": "b.txt", "part": 1},
    ]
    assert read(tmp_path)[1].where == f"{tmp_path}/b.txt, document 1"
    source = TextFiles(path=[str(tmp_path / "c.md"), str(tmp_path / "*.txt")])
    assert [found.name for found in source.inputs(tmp_path)] == ["c.md", "a.txt", "b.txt"]
    assert source.known_columns() == ["text", "file", "part"]
    assert source.location_fields() == {"path"}
    assert not list(source.problems())


def test_paragraphs_and_lines(tmp_path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\n\n  One,\nstill one.\n \t\nTwo.\n\n\n\nThree.\n", encoding="utf-8")
    assert texts(file, unit="paragraph") == ["One,\nstill one.", "Two.", "Three."]
    assert texts(file, unit="line") == ["  One,", "still one.", "Two.", "Three."]
    assert [row.columns["part"] for row in read(file, unit="line")] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One two.\n\nThree four.\nFive six seven.", "One two.\n\n"),
        ("One two\nthree. Four five six seven", "One two\n"),
        ("One two. Three four five six seven", "One two. "),
        ("一二三四五六七。八九十一二三四五六七八九十", "一二三四五六七。"),
        ("One two three four five six", "One two three "),
        ("x" * 40, "x" * 16),
    ],
)
def test_a_text_that_is_too_long_is_cut_at_the_preferred_break(tmp_path, text, first) -> None:
    file = tmp_path / "a.txt"
    file.write_text(text, encoding="utf-8")
    found = texts(file, max_characters=16)
    assert found[0] == first
    assert "".join(found) == text
    assert texts(file, max_characters=len(text)) == [text]


@pytest.mark.slow
@settings(max_examples=60)
@given(text=st.text(alphabet=" \n\t.a。é", max_size=300), most=st.integers(1, 40), many=st.sampled_from([1, 900]))
def test_nothing_of_a_text_is_lost(tmp_path_factory, text, most, many) -> None:
    file = tmp_path_factory.mktemp("text") / "a.txt"
    document = text * many
    file.write_text(document, encoding="utf-8", newline="")
    for unit in ("document", "paragraph", "line"):
        found = texts(file, unit=unit, max_characters=most)
        assert all(part.strip() and len(part) <= most for part in found)
        assert "".join("".join(found).split()) == "".join(document.split())
    if document.strip():
        assert texts(file, max_characters=len(document)) == [document]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("word " * 1_000_000, encoding="utf-8")  # 5 MB in one line
    peaks = []
    for unit in ("document", "paragraph", "line"):
        tracemalloc.start()
        total = sum(
            len(row.columns["text"])
            for row in TextFiles(path=str(file), unit=unit, max_characters=1000).rows(None, Audit(), "s")
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert total > 3_900_000
    assert max(peaks) < 2_000_000


def test_a_file_in_another_encoding_is_a_broken_row_and_the_next_is_read(tmp_path) -> None:
    (tmp_path / "a.txt").write_bytes("Où êtes-vous ?".encode("latin-1"))
    (tmp_path / "b.txt").write_text("Here.", encoding="utf-8")
    broken, fine = read(tmp_path)
    assert isinstance(broken, BrokenRow)
    assert "not utf-8 text" in str(broken.error)
    assert "a.txt" in str(broken.error)
    assert fine.columns["text"] == "Here."
    assert texts(tmp_path / "a.txt", encoding="latin-1") == ["Où êtes-vous ?"]


@pytest.mark.parametrize("encoding", ["utf8-of-mine", "hex", "a\0b"])
def test_an_encoding_that_there_is_not_is_refused(encoding) -> None:
    with pytest.raises(pydantic.ValidationError, match="no encoding of text"):
        TextFiles(path="a", encoding=encoding)


def test_files_without_text_are_counted(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.txt").write_text(" \n\n")
    audit = Audit()
    assert read(tmp_path, audit) == []
    assert audit.count("dropped", "texts") == 2


def test_a_path_without_files_is_an_error(tmp_path) -> None:
    (problem,) = TextFiles(path=str(tmp_path)).problems()
    assert problem.key == "path"
    with pytest.raises(InstructLabError, match="No file matches"):
        read(tmp_path)


def test_a_data_set_of_text_files(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("One.\n\nTwo.", encoding="utf-8")
    source = TextFiles(path=str(tmp_path), unit="paragraph")
    data = DataSet(train={"texts": source}, format=PlainText(), split=HashSplit(validation=0))
    assert not list(data.problems())
    assert [row.answers for row in load_splits(data, tmp_path / "cache")["train"]] == [("One.",), ("Two.",)]

"""Super-NaturalInstructions task files: their rows, the prompt, and files that are none."""

import json

import pytest
from support.data import load_splits

from instruct_lab.data import Audit, BrokenRow, DataSet, HashSplit, NaturalInstructions, Row, TaskFile
from instruct_lab.errors import InstructLabError

TASK = {
    "Contributors": ["A"],
    "Source": ["made"],
    "Categories": ["Sums"],
    "Input_language": ["English"],
    "Definition": ["Add the two numbers"],
    "Positive Examples": [
        {"input": "1 and 2", "output": "3", "explanation": "1 + 2 is 3."},
        {"input": "2 and 2.", "output": "4", "explanation": ""},
        {"input": "5 and 5", "output": "10", "explanation": "Ten"},
    ],
    "Negative Examples": [],
    "Instances": [{"id": f"t-{n}", "input": f"{n} and {n}", "output": [str(2 * n), f"{2 * n}.0"]} for n in range(5)],
}


def write(folder, name="task001_sums", **changes):
    file = folder / f"{name}.json"
    file.write_text(json.dumps(TASK | changes), encoding="utf-8")
    return file


def rows_of(audit=None, **fields):
    return list(NaturalInstructions(**fields).rows(None, audit or Audit(), "tasks"))


def test_a_row_is_an_instance_with_its_task(tmp_path) -> None:
    file = write(tmp_path)
    rows = rows_of(path=str(file), num_positive_examples=1)
    assert len(rows) == 5
    assert rows[1].columns == {
        "id": "t-1",
        "input": "1 and 1",
        "output": ["2", "2.0"],
        "task": "task001_sums",
        "definition": "Add the two numbers",
        "positive_examples": TASK["Positive Examples"][:1],
        "source": ["made"],
        "categories": ["Sums"],
        "input_language": ["English"],
    }
    assert rows[1].where == f"{file}, instance 2"


def test_a_folder_files_and_patterns(tmp_path) -> None:
    (tmp_path / "odd [1]" / "more").mkdir(parents=True)
    files = [write(tmp_path / "odd [1]", "b"), write(tmp_path / "odd [1]" / "more", "a")]
    (tmp_path / "odd [1]" / "readme.txt").write_text("no task")
    for path in (str(tmp_path / "odd [1]"), [str(file) for file in files], str(tmp_path / "**" / "*.json")):
        source = NaturalInstructions(path=path)
        assert [row.columns["task"] for row in source.rows(None, Audit(), "s")].count("a") == 5
        assert not list(source.problems())
        assert len(source.inputs(tmp_path)) == 2
    assert source.location_fields() == {"path"}
    assert {*source.known_columns()} <= {*next(source.rows(None, Audit(), "s")).columns}


def test_max_instances_keeps_the_same_ones_wherever_they_stand(tmp_path) -> None:
    write(tmp_path)
    audit = Audit()
    kept = [row.columns["id"] for row in rows_of(audit, path=str(tmp_path), max_instances=2)]
    assert len(kept) == 2
    assert audit.count("dropped", "tasks") == 3
    write(tmp_path, Instances=TASK["Instances"][::-1])
    assert [row.columns["id"] for row in rows_of(path=str(tmp_path), max_instances=2)] == kept[::-1]
    assert len(rows_of(path=str(tmp_path), max_instances=9)) == 5


@pytest.mark.parametrize("examples", [0, 2])
def test_the_prompt_is_tk_instruct_s(tmp_path, examples) -> None:
    write(tmp_path)
    row = rows_of(path=str(tmp_path), num_positive_examples=examples)[1]
    found = TaskFile().conversation(row)
    shown = (
        "Positive Example 1 -\nInput: 1 and 2.\nOutput: 3.\n\nPositive Example 2 -\nInput: 2 and 2.\nOutput: 4.\n\n"
        if examples
        else ""
    )
    assert found.messages[0].content == (
        f"Definition: Add the two numbers.\n\n{shown}Now complete the following example -\nInput: 1 and 1.\nOutput:"
    )
    assert found.messages[1].content == "2"
    assert found.references == ("2", "2.0")
    assert found.metadata["task"] == "task001_sums"
    assert {"definition", "positive_examples", "output"}.isdisjoint(found.metadata)


def test_explanations_and_names_of_columns() -> None:
    format = TaskFile(definition="d", positive_examples="p", input="i", output="o", explanations=True)
    columns = {"d": ["Add", "Sum"], "p": TASK["Positive Examples"], "i": "7 and 1？", "o": "8"}
    found = format.conversation(Row(columns, "x"))
    prompt = found.messages[0].content
    assert "Output: 3.\nExplanation: 1 + 2 is 3.\n\nPositive Example 2 -\nInput: 2 and 2.\nOutput: 4.\n\n" in prompt
    assert "Explanation: Ten." in prompt
    assert prompt.startswith("Definition: Add.\n")
    assert "Input: 7 and 1？\n" in prompt
    assert found.answers == ("8",)
    assert format.required() == {"definition": ["d"], "input": ["i"], "output": ["o"]}
    assert (
        "Positive"
        not in TaskFile(positive_examples=None, definition="d", input="i", output="o")
        .conversation(Row(columns, "x"))
        .messages[0]
        .content
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", r"not JSON.*task.json, line 1"),
        ("", "not JSON"),
        ("[]", "list of Instances was expected and list found"),
        ('{"rows": []}', "object with rows found"),
        ('{"Instances": 3}', "list of Instances"),
        ('{"Instances": []}', "no Definition"),
        ('{"Instances": [], "Definition": []}', "no Definition"),
        ('{"Instances": [], "Definition": [7]}', "no Definition"),
        ('{"Instances": [], "Definition": "d", "Positive Examples": {"a": 1}}', "list of Positive Examples"),
        ("[" * 100_000, "cannot be read"),
        (b"\xff\xfe{", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_task_is_an_error(tmp_path, content, expected) -> None:
    file = tmp_path / "task.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InstructLabError, match=expected) as caught:
        rows_of(path=str(file))
    assert "task.json" in str(caught.value)


def test_a_path_without_files_is_an_error(tmp_path) -> None:
    (problem,) = NaturalInstructions(path=str(tmp_path)).problems()
    assert problem.key == "path"
    with pytest.raises(InstructLabError, match="No file matches"):
        rows_of(path=str(tmp_path))
    with pytest.raises(InstructLabError, match="no such file"):
        NaturalInstructions(path=str(tmp_path / "none.json")).inputs(tmp_path)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"output": []}, "no output.*column 'output'"),
        ({"output": None}, "NoneType"),
        ({"output": [1]}, "int found: 1"),
        ({"input": 5}, "int found: 5.*column 'input'"),
        ({"input": "\ud800"}, "surrogate pair"),
        ({"definition": []}, "list found"),
        ({"definition": 1}, "int found"),
        ({"positive_examples": "a"}, "list of examples was expected and str"),
        ({"positive_examples": ["a"]}, "example was expected and str.*example 1"),
        ({"positive_examples": [{"input": "a"}]}, "NoneType.*example 1, 'output'"),
    ],
)
def test_an_instance_of_another_shape_is_a_broken_row(changes, expected) -> None:
    columns = {"definition": "d", "input": "i", "output": ["o"], "positive_examples": []} | changes
    with pytest.raises(InstructLabError, match=expected) as caught:
        TaskFile().conversation(Row(columns, "task.json, instance 2"))
    assert "task.json, instance 2" in str(caught.value)


def test_instances_that_are_no_objects_and_tasks_without_any_are_counted(tmp_path) -> None:
    write(tmp_path, Instances=["text", *TASK["Instances"]])
    first, *others = rows_of(path=str(tmp_path))
    assert isinstance(first, BrokenRow)
    assert "instance 1" in str(first.error)
    assert len(others) == 5
    audit = Audit()
    write(tmp_path, Instances=[])
    assert rows_of(audit, path=str(tmp_path)) == []
    assert audit.count("dropped", "tasks") == 1


def test_a_data_set_of_task_files(tmp_path) -> None:
    write(tmp_path)
    data = DataSet(
        train={"tasks": NaturalInstructions(path=str(tmp_path))}, format=TaskFile(), split=HashSplit(validation=0)
    )
    assert not list(data.problems())
    found = load_splits(data, tmp_path / "cache")["train"]
    assert [row.answers[0] for row in found] == ["0", "2", "4", "6", "8"]

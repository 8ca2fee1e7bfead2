"""A folder that exists holds a whole export or no file of it, and the refusal says if one was interrupted."""

from pathlib import Path

import pytest

from instruct_lab.errors import InstructLabError
from instruct_lab.export import export as module

FILES = ["README.md", "config.json", "model.safetensors"]


@pytest.fixture
def folders(tmp_path):
    """An empty folder, and in it the folder in which the export was written."""
    path = tmp_path / "out"
    partial = path / f"{module.PARTIAL}7"
    (partial / "results").mkdir(parents=True)
    (partial / "results" / "values.json").write_text("{}")
    for name in FILES:
        (partial / name).write_text(name)
    return path, partial


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_all_files_are_moved(folders):
    path, partial = folders
    module._move_into(path, partial)
    assert (names(path), names(partial)) == ([partial.name, *FILES, "results"], [])
    assert (path / "results" / "values.json").read_text() == "{}"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "ctrl-c"])
@pytest.mark.parametrize("number", range(4))
def test_the_folder_is_empty_again_if_a_file_cannot_be_moved(folders, monkeypatch, number, error):
    path, partial = folders
    rename, calls = Path.rename, []

    def fail_once(file, target):
        calls.append(file)
        if len(calls) == number + 1:
            raise error
        return rename(file, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(type(error)):
        module._move_into(path, partial)
    assert (names(path), names(partial)) == ([partial.name], [*FILES, "results"])


@pytest.mark.parametrize(
    ("left", "message"),
    [
        ("notes.txt", "folder is not empty"),
        (f"{module.PARTIAL}7", "holds an export that was interrupted"),
        (f"{module.PARTIAL}12", "empty it, or name a new folder"),
    ],
)
def test_the_refusal_says_whether_an_export_was_interrupted(tmp_path, left, message):
    (tmp_path / left).mkdir()
    job = module.Export(experiment=None, config=None, record=None, path=tmp_path, form="hf")
    with pytest.raises(InstructLabError, match=message):
        module.export(job)
    assert names(tmp_path) == [left]

"""A config writes outside the working directory only if the user allows it."""

import json
import os
from pathlib import Path

import pytest
import yaml
from support.records import newest_run

from instruct_lab import cli
from instruct_lab.config import permissions
from instruct_lab.config.outside_writes import outside_path, writable_folders

CHOSEN = ["data=mine", "model=tiny_random"]
CSV = "pytorch_lightning.loggers.CSVLogger"


@pytest.fixture
def outside(lab):
    """A folder beside the lab."""
    folder = lab.parent / f"{lab.name}-outside"
    folder.mkdir()
    yield folder
    assert not (lab.parent / "away").exists()


def run(capsys, *arguments):
    code = cli.main(list(arguments))
    printed = "".join(capsys.readouterr())
    assert "Traceback" not in printed
    return code, printed


def study(lab, content):
    (lab / "experiments").mkdir(exist_ok=True)
    (lab / "experiments" / "study.yaml").write_text("# study: a study\n" + yaml.safe_dump(content))
    return [*CHOSEN, "experiments=study"]


def paths(lab, outside):
    (lab / "link").symlink_to(outside)
    return {
        "an absolute path": str(outside),
        "a path upwards": "../away",
        "a path upwards after a folder": "a/b/../../../away",
        "a path upwards from the run's folder": "{run_path}/../../../../away",
        "a home folder": "~/away",
        "a link": "link/here",
        "a link after a folder that does not exist": f"{outside}/none/../x",
    }


NAMES = [
    *("an absolute path", "a path upwards", "a path upwards after a folder", "a path upwards from the run's folder"),
    *("a home folder", "a link", "a link after a folder that does not exist"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_path_in_a_file_that_leaves_the_lab_is_refused(lab, outside, capsys, name):
    path = paths(lab, outside)[name]
    contents = {
        "tracker.mine.save_dir": {"tracker": {"mine": {"_target_": CSV, "save_dir": path}}},
        "callbacks.mine.dirpath": {
            "callbacks": {"mine": {"_target_": "pytorch_lightning.callbacks.ModelCheckpoint", "dirpath": path}}
        },
        "runs_path": {"runs_path": path},
        "cache_path": {"cache_path": path},
    }
    of_all_keys = name in ("an absolute path", "a path upwards from the run's folder")
    for key in contents if of_all_keys else ("callbacks.mine.dirpath", "runs_path"):
        content = contents[key]
        if "{run_path}" in path and key in ("runs_path", "cache_path"):
            continue
        chosen = study(lab, content)
        code, printed = run(capsys, "check", *chosen)
        assert code == 2, key
        assert f"{key} = " in printed
        assert "--allow outside-writes" in printed
        assert run(capsys, "check", *chosen, "--allow", "outside-writes")[0] == 0
        others = [name for name in permissions.PERMISSIONS if name != "outside-writes"]
        assert run(capsys, "check", *chosen, *(f"--allow={name}" for name in others))[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize("key", ["runs_path", "cache_path", "tracker.mine.save_dir"])
def test_a_path_that_the_user_types_is_allowed_for_this_command(lab, outside, capsys, key):
    logger = study(lab, {"tracker": {"mine": {"_target_": CSV, "save_dir": "inside"}}})
    assert run(capsys, "check", *logger, f"{key}={outside}")[0] == 0
    assert run(capsys, "check", *logger)[0] == 0
    chosen = study(lab, {"tracker": {"mine": {"_target_": CSV, "save_dir": str(outside / "x")}}})
    code, printed = run(capsys, "check", *chosen, f"{key}={outside}")
    typed_folders = ("runs_path", "cache_path")  # what lies below them is allowed too
    assert code == (0 if key in typed_folders or key.startswith("tracker") else 2), printed


def test_the_settings_of_the_user_allow_it(lab, outside, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(lab / "settings"))
    chosen = study(lab, {"runs_path": str(outside)})
    assert run(capsys, "check", *chosen)[0] == 2
    assert run(capsys, "allow", "outside-writes")[0] == 0
    assert run(capsys, "check", *chosen)[0] == 0


@pytest.mark.slow
def test_the_folders_of_the_user_need_no_permission(lab, outside, monkeypatch, capsys):
    assert run(capsys, "check", *CHOSEN)[0] == 0
    monkeypatch.setenv("INSTRUCT_LAB_CACHE", str(outside))
    assert run(capsys, "check", *CHOSEN)[0] == 0
    monkeypatch.delenv("INSTRUCT_LAB_CACHE")
    assert run(capsys, "check", *CHOSEN)[0] == 0


@pytest.mark.parametrize(
    ("text", "is_outside"),
    [
        ("sqlite:///runs/mlflow.db", False),
        ("sqlite:///{runs_path}/mlflow.db", False),
        ("sqlite:////etc/mlflow.db", True),
        ("sqlite:///../mlflow.db", True),
        ("file:///etc/x", True),
        ("file:x", False),
        ("file:../x", True),
        ("FILE:///etc/x", True),
        ("SQLite:////etc/x.db", True),
        ("sqlite:///file:/etc/x.db?uri=true", True),
        ("file:%2e%2e/x", True),
        ("sqlite:///a%2fb/../../x.db", True),
        ("file:a%20b", False),
        ("$HOME/x", True),
        ("file:%24HOME/x", True),
        ("$NO_SUCH_VARIABLE/x", False),
        ("http://localhost:5000", False),
        ("val/loss", False),
        ("{epoch}-{step}", False),
        ("/etc/{run_id}", True),
        ("{runs_path}/mlflow", False),
        ("{runs_path}/../x", True),
        ("text\0with a null", False),
        ("~nobody_of_this_name/x", False),
        ("x" * 5000, False),
        (".", False),
        ("..", True),
    ],
)
def test_what_leaves_the_working_directory(lab, monkeypatch, text, is_outside):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert (outside_path(text, writable_folders()) is not None) == is_outside


@pytest.mark.parametrize("name", ["runs,execution", "runs,key:model.trust_remote_code,", "a%2c b", "é,\udcff"])
def test_the_name_of_a_folder_gives_no_other_permission(tmp_path, name):
    before = permissions.allowed_names()
    with permissions.allow(permissions.within(tmp_path / name)):
        assert permissions.allowed_folders() == [str(tmp_path / name)]
        assert len(permissions.allowed_names() - before) == 1
        assert not permissions.is_allowed("execution", "model.trust_remote_code")


@pytest.mark.slow
def test_a_permitted_path_is_printed_and_recorded_and_a_record_is_found_where_the_user_looks(
    lab, tiny, outside, capsys
):
    code, printed = run(capsys, "train", *tiny, "debug=fast", f"runs_path={outside}")
    line = f"with your permission (outside-writes): write to {outside} (runs_path)"
    assert code == 0, printed
    assert line in printed
    record = newest_run(outside.parent)
    assert json.loads((record / "manifest.json").read_text())["permissions"] == [line]
    assert run(capsys, "generate", str(record), "hello")[0] == 0
    assert run(capsys, "generate", record.name, "hello", "--runs", str(outside))[0] == 0
    moved = lab / "runs" / "foreign" / record.name
    moved.parent.mkdir(parents=True)
    os.rename(record, moved)  # a stranger's record, whose config names a folder of the user
    code, printed = run(capsys, "generate", str(moved), "hello")
    assert code == 2
    assert "runs_path" in printed
    assert Path(outside).is_dir()

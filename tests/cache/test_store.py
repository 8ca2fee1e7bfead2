"""The data cache: results are complete or absent, built once, found again by content."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from support.data import load_splits
from support.hanging import wait_until

from instruct_lab import cli
from instruct_lab.cache import Store, chain_keys, describe
from instruct_lab.data import Alpaca, Audit, DataSet, Files, HashSplit, PromptCompletion
from instruct_lab.data.stages import audit_of, audited_stage
from instruct_lab.errors import InstructLabError


def stage(name, setting=0, log: Path | None = None, seconds=0.0, fails=False):
    def build(before, folder, audit):
        if log is not None:
            with log.open("a") as stream:
                stream.write(f"{name}\n")
        (folder / "half.txt").write_text("half")
        time.sleep(seconds)
        if fails:
            raise InstructLabError("the build failed")
        so_far = (before.path / "text.txt").read_text() if before else ""
        (folder / "text.txt").write_text(f"{so_far}{name}{setting};")
        audit.record(name, "changed", "was here", "row")
        return {"setting": setting}

    return audited_stage(name, {"setting": setting}, build)


def test_a_chain_is_built_once_and_a_change_rebuilds_from_there_on(tmp_path) -> None:
    log = tmp_path / "log"
    chain = [stage("a", 1, log), stage("b", 2, log), stage("c", 3, log)]
    first = Store(tmp_path).result(chain)
    assert (first.path / "text.txt").read_text() == "a1;b2;c3;"
    assert first.facts["setting"] == 3
    assert [reason["stage"] for reason in audit_of(first)["reasons"]] == ["a", "b", "c"], "the audit of all before it"
    assert Store(tmp_path).result(chain).key == first.key
    assert log.read_text().split() == ["a", "b", "c"]
    changed = Store(tmp_path).result([chain[0], stage("b", 9, log), chain[2]])
    assert (changed.path / "text.txt").read_text() == "a1;b9;c3;"
    assert log.read_text().split() == ["a", "b", "c", "b", "c"]


def test_a_result_does_not_need_those_before_it(tmp_path) -> None:
    log = tmp_path / "log"
    chain = [stage("a", 1, log), stage("b", 2, log)]
    store = Store(tmp_path)
    store.result(chain)
    store.remove([entry for entry in store.entries() if entry.manifest["name"] == "a"])
    assert audit_of(Store(tmp_path).result(chain))["reasons"][0]["stage"] == "a"
    assert log.read_text().split() == ["a", "b"]


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "manifest removed"])
def test_a_damaged_result_is_detected_and_built_again(tmp_path, damage, caplog) -> None:
    log = tmp_path / "log"
    chain = [stage("a", 1, log)]
    entry = Store(tmp_path).result(chain)
    file = entry.path / ("manifest.json" if damage.startswith("manifest") else "text.txt")
    content = file.read_bytes()
    if damage == "flip":  # same size, same time
        times = file.stat()
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif damage == "cut" or damage == "manifest":
        file.write_bytes(content[:-1])
    else:
        file.unlink()
    again = Store(tmp_path).result(chain)
    assert (again.path / "text.txt").read_text() == "a1;"
    assert log.read_text().split() == ["a", "a"]
    assert ("damaged" in caplog.text) == (damage != "manifest removed")


def test_a_build_that_fails_leaves_nothing(tmp_path) -> None:
    with pytest.raises(InstructLabError, match="the build failed"):
        Store(tmp_path).result([stage("a", fails=True)])
    assert not Store(tmp_path).entries()
    assert {file.suffix for file in (tmp_path / "data").iterdir()} <= {".lock"}
    assert Store(tmp_path).result([stage("a")]).facts["setting"] == 0


def build_slowly(path: Path, seconds: float) -> None:
    Store(path).result([stage("a", 1, path / "log", seconds)])


def start(path: Path, seconds: float) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=build_slowly, args=(path, seconds))
    process.start()
    return process


@pytest.mark.slow
def test_two_processes_that_need_one_result_build_it_once(tmp_path) -> None:
    processes = [start(tmp_path, 0.5), start(tmp_path, 0.5)]
    for process in processes:
        process.join(20)
        assert process.exitcode == 0
    assert (tmp_path / "log").read_text().split() == ["a"]


def test_a_killed_build_leaves_nothing_that_is_taken_for_a_result(tmp_path) -> None:
    process = start(tmp_path, 60)
    key = chain_keys([stage("a", 1)])[0]
    wait_until((tmp_path / "data" / f".{key}" / "half.txt").is_file)
    os.kill(process.pid, signal.SIGKILL)
    process.join(20)
    assert not Store(tmp_path).entries()
    entry = Store(tmp_path).result([stage("a", 1, tmp_path / "log")])
    assert (entry.path / "text.txt").read_text() == "a1;"
    assert not list((tmp_path / "data").glob(".*")), "the files of the killed process are gone"


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    with pytest.raises(InstructLabError, match=r"data cache cannot be used.*cache_path"):
        Store(tmp_path).result([stage("a")])


# ---- what a key covers


def rows(path: Path, answer: str = "one") -> Path:
    path.write_text(f'{{"prompt": "a", "completion": "{answer}"}}\n{{"prompt": "b", "completion": "two"}}\n')
    return path


def key(path: Path, **fields) -> str:
    data = DataSet(**{"train": {"file": Files(path=str(path))}, "format": PromptCompletion(), **fields})
    return chain_keys([data.stage(path.parent / "cache")])[0]


def test_a_changed_byte_changes_the_key_and_a_name_or_time_does_not(tmp_path) -> None:
    file = rows(tmp_path / "rows.jsonl")
    first = key(file)
    os.utime(file, (1, 1))
    assert key(file) == first
    assert key(file.rename(tmp_path / "renamed.jsonl")) == first
    times = (tmp_path / "renamed.jsonl").stat()
    other = rows(tmp_path / "renamed.jsonl", "six")
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert other.stat().st_size == times.st_size
    assert key(other) != first, "same size and time, different byte"


@pytest.mark.parametrize(
    "fields",
    [
        {"format": Alpaca(instruction="prompt", output="completion")},
        {"split": HashSplit(validation=0.5)},
        {"overlap": "allow"},
        {"limit": {"train": 1}},
        {"max_broken_share": 0.5},
    ],
)
def test_options_that_affect_the_rows_change_the_key(tmp_path, fields) -> None:
    file = rows(tmp_path / "rows.jsonl")
    assert key(file, **fields) != key(file)


@pytest.mark.parametrize("fields", [{"language": "fr"}, {"baselines": {"none": None}}])
def test_options_that_affect_no_row_keep_the_key(tmp_path, fields) -> None:
    file = rows(tmp_path / "rows.jsonl")
    assert key(file, **fields) == key(file)


@pytest.mark.parametrize("fields", [{"max_rows": 1}, {"shuffle_buffer": 2}, {"shuffle_seed": 2}, {"delimiter": ";"}])
def test_options_of_a_source_change_the_key(tmp_path, fields) -> None:
    file = rows(tmp_path / "rows.jsonl")
    assert key(file, train={"file": Files(path=str(file), **fields)}) != key(file)


def test_a_user_s_component_is_described_with_its_code(tmp_path, monkeypatch) -> None:
    for number in (1, 2):
        (tmp_path / f"own{number}.py").write_text(
            "from instruct_lab.config import component\nfrom instruct_lab.data import PromptCompletion\n\n\n"
            f'@component\nclass Own(PromptCompletion):\n    """Number {number}."""\n'
        )
    monkeypatch.syspath_prepend(tmp_path)
    import own1
    import own2

    codes = {describe(kind.Own())["code"] for kind in (own1, own2)}
    assert len(codes) == 2
    assert describe(PromptCompletion())["code"] == ""


def test_the_audit_of_a_reloaded_data_set_is_the_same(tmp_path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a", "completion": "x"}\n' * 2 + '{"prompt": 1, "completion": "x"}\n')
    data = DataSet(train={"file": Files(path=str(file))}, format=PromptCompletion(), max_broken_share=1)
    audits = []
    for _ in range(2):
        audit = Audit()
        load_splits(data, tmp_path / "cache", audit)
        audits.append(audit.to_json())
    assert audits[0] == audits[1]
    assert audits[0]["reasons"][0]["count"] == 1


# ---- folders that the store has not written


LISTED = {"name": "a", "created": 1.0, "files": {"photo.jpg": {"bytes": 4, "xxh3": ""}}, "facts": {}}
FOREIGN = {
    "another program": ("photos", {"app": "mine"}),
    "the entries under another name": ("photos", LISTED),
    "a name like a key": ("0" * 32, {"app": "mine"}),
    "wrong types": ("1" * 32, {**LISTED, "files": ["photo.jpg"]}),
    "a missing entry": ("2" * 32, {key: value for key, value in LISTED.items() if key != "facts"}),
    "a list": ("3" * 32, [LISTED]),
    "no manifest": ("4" * 32, None),
}


@pytest.mark.parametrize(("name", "manifest"), FOREIGN.values(), ids=FOREIGN)
def test_a_folder_of_another_program_is_neither_listed_nor_removed(tmp_path, capsys, name, manifest):
    Store(tmp_path).result([stage("a")])
    folder = tmp_path / "data" / name
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(b"mine")
    if manifest is not None:
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert cli.main(["cache", "list", "--cache", str(tmp_path)]) == 0
    assert name not in capsys.readouterr().out
    assert cli.main(["cache", "clear", "--cache", str(tmp_path)]) == 0
    assert "1 results removed" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not Store(tmp_path).entries()


@pytest.mark.parametrize("kind", ["link to a folder", "link of a listed file", "own file", "own folder", "fifo"])
def test_only_what_the_store_has_written_is_removed(tmp_path, kind):
    entry = Store(tmp_path).result([stage("a")])
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("mine")
    odd = entry.path / "odd"
    if kind == "link to a folder":
        shutil.move(entry.path, outside / "moved")
        entry.path.symlink_to(outside / "moved")
    elif kind == "link of a listed file":
        (entry.path / "text.txt").unlink()
        (entry.path / "text.txt").symlink_to(outside / "precious.txt")
    elif kind == "own file":
        odd.write_text("mine")
    elif kind == "own folder":
        odd.mkdir()
    else:
        (entry.path / "manifest.json").unlink()
        os.mkfifo(entry.path / "manifest.json")
    store = Store(tmp_path)
    store.remove(store.entries())
    assert (outside / "precious.txt").read_text() == "mine"
    assert not store.entries()
    assert odd.exists() == kind.startswith("own")
    assert (outside / "moved" / "text.txt").exists() == (kind == "link to a folder")
    assert entry.path.exists() != (kind == "link of a listed file")

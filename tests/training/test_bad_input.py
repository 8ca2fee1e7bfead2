"""Bad input: one paragraph that says what, where and what to do; exit code 2, or 1 once a record exists."""

import errno
import json

import pytest

from instruct_lab import cli
from instruct_lab.errors import InstructLabError
from instruct_lab.model import hardware

GOOD = json.dumps({"instruction": "a", "input": "", "output": "b"})

ROWS = {
    "an empty file": (b"", "has no rows"),
    "truncated JSON": (GOOD.encode() + b'\n{"instruction": "a", "inp', "line 2"),
    "a row that is a list": (GOOD.encode() + b"\n[1, 2]\n", "line 2"),
    "a row without the column": (GOOD.encode() + b'\n{"instruction": "a", "input": ""}\n', "line 2"),
    "a number where text should be": (b'{"instruction": "a", "input": "", "output": 3}\n', "output"),
    "another encoding": ("é".encode("latin-1") * 10, "rows.jsonl"),
}


def refused(capsys, *arguments, code=2):
    assert cli.main(list(arguments)) == code
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


@pytest.mark.slow
@pytest.mark.parametrize(("content", "named"), ROWS.values(), ids=ROWS)
def test_bad_rows_are_reported_with_file_and_line(lab, tiny, capsys, content, named):
    (lab / "rows.jsonl").write_bytes(content)
    assert named in refused(capsys, "train", *tiny, code=1)  # the record exists already


def test_debug_shows_the_traceback(lab, tiny):
    (lab / "rows.jsonl").write_bytes(ROWS["a row that is a list"][0])
    with pytest.raises(InstructLabError):
        cli.main(["train", "--debug", *tiny])


def test_a_missing_file_is_refused_before_anything_is_written(lab, tiny, capsys):
    (lab / "rows.jsonl").unlink()
    assert "rows.jsonl" in refused(capsys, "train", *tiny)
    assert not (lab / "runs").exists()


def test_an_unreachable_hub_is_refused(lab, tiny, capsys, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(lab / "hub"))
    message = refused(capsys, "train", *tiny, "model=qwen3_0_6b_hub", code=1)
    assert "Qwen/Qwen3-0.6B" in message


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(lab, tiny, capsys, monkeypatch):
    import sys

    import instruct_lab.assets

    def fake(requirement, folder):
        code = f"open({str(folder / 'horizon-27.0.0-py3-none-any.whl')!r}, 'wb').write(b'not what was pinned')"
        return [sys.executable, "-c", code]

    monkeypatch.setattr(instruct_lab.assets, "download_command", fake)
    message = refused(capsys, "train", *tiny, "data=interface_fr", code=1)
    assert "SHA-256" in message
    assert "horizon" in message
    assert not list((lab / "cache").rglob("*.whl"))


def test_a_full_disk_while_saving_is_reported_and_the_record_stays_readable(lab, tiny, capsys, monkeypatch):
    import torch

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert cli.main(["train", *tiny, "callbacks.checkpoint.every_steps=1"]) == 1
    message = capsys.readouterr().err
    assert "No space left" in message
    assert "Traceback" not in message
    (manifest,) = lab.glob("runs/*/*/manifest.json")
    assert json.loads(manifest.read_text())["status"] == "failed"
    assert not list(lab.rglob("last.ckpt"))


@pytest.mark.slow
def test_a_damaged_checkpoint_is_refused(lab, tiny, capsys):
    overrides = ["callbacks.checkpoint.every_steps=1", "optimizer.lr=1.0e+30", "trainer.gradient_clip_val=null"]
    cli.main(["train", *tiny, *overrides])
    (manifest,) = lab.glob("runs/*/*/manifest.json")
    checkpoint = manifest.parent / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(exist_ok=True)
    checkpoint.write_bytes(b"half a checkpoint")
    capsys.readouterr()
    assert "last.ckpt" in refused(capsys, "resume", "latest", code=1)


def test_an_unknown_run_is_refused(lab, capsys):
    assert "no runs yet" in refused(capsys, "generate", "latest", "hello")
    assert "runs" in refused(capsys, "resume", "20990101")


@pytest.mark.slow
def test_two_processes_do_not_write_one_run(lab, tiny, capsys):
    from filelock import FileLock

    cli.main(["train", *tiny, "optimizer.lr=1.0e+30", "trainer.gradient_clip_val=null"])
    (manifest,) = lab.glob("runs/*/*/manifest.json")
    capsys.readouterr()
    with FileLock(manifest.parent / ".lock"):
        assert "Another process" in refused(capsys, "resume", "latest")


@pytest.mark.parametrize("override", ["trainer.accelerator=gpu", "trainer.accelerator=tpu"])
def test_a_missing_device_is_refused_before_a_record_is_written(lab, tiny, capsys, monkeypatch, override):
    monkeypatch.setattr(hardware, "no_gpu", lambda: "there is no GPU here")
    message = refused(capsys, "train", *tiny, override)
    assert "trainer.accelerator" in message
    assert not list(lab.glob("runs/**/manifest.json"))


def test_a_precision_that_the_trainer_would_replace_is_refused(lab, tiny, capsys, monkeypatch):
    monkeypatch.setattr(hardware, "no_gpu", lambda: "there is no GPU here")
    chosen = ["trainer.precision=16-mixed", "trainer.gradient_clip_val=null"]
    assert "float16 needs a GPU" in refused(capsys, "train", *tiny, *chosen)

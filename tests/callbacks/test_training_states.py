"""The newest undamaged training state is found; a damaged one never replaces a good one."""

import random
import zipfile

import pytest
import torch

from instruct_lab.callbacks.training_states import TrainingState, keep_state, newest_state, set_aside_damaged_state
from instruct_lab.errors import InstructLabError


def write_state(folder, step):
    partial = folder / "last.ckpt.partial"
    torch.manual_seed(step)
    content = {"global_step": step, "metrics_size": 100 * step, "state_dict": {"weight": torch.randn(40, 50)}}
    torch.save(content, partial)
    keep_state(partial, folder)


def tensor_positions(path):
    """The positions of the bytes of the tensors in a file of `torch.save`."""
    with zipfile.ZipFile(path) as archive:
        (entry,) = [entry for entry in archive.infolist() if "/data/" in entry.filename]
    start = path.read_bytes().rindex(torch.load(path)["state_dict"]["weight"].numpy().tobytes())
    return range(start, start + entry.file_size)


def test_two_states_are_kept_and_the_last_one_is_the_newest(tmp_path):
    for step in (10, 20, 30):
        write_state(tmp_path, step)
    assert newest_state(tmp_path) == (TrainingState(tmp_path / "last.ckpt", 30, 3000), [])
    (tmp_path / "last.ckpt").unlink()
    assert newest_state(tmp_path) == (TrainingState(tmp_path / "previous.ckpt", 20, 2000), [])


def test_a_run_without_states_starts_at_its_beginning(tmp_path):
    assert newest_state(tmp_path / "missing") == (TrainingState(), [])


DAMAGES = {
    "empty": lambda content, path: b"",
    "text": lambda content, path: b"half a checkpoint",
    "without its end": lambda content, path: content[: len(content) // 2],
    "without its last byte": lambda content, path: content[:-1],
    "zeros at the end": lambda content, path: content[:-2000] + bytes(2000),
    "another archive": lambda content, path: another_archive(path),
    "another state dictionary": lambda content, path: saved(path, {"weights": torch.ones(2)}),
    "a number": lambda content, path: saved(path, 3),
}


def another_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    return path.read_bytes()


def saved(path, value):
    torch.save(value, path)
    return path.read_bytes()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_skipped(tmp_path, damage):
    for step in (10, 20):
        write_state(tmp_path, step)
    last = tmp_path / "last.ckpt"
    last.write_bytes(DAMAGES[damage](last.read_bytes(), last))
    state, (message,) = newest_state(tmp_path)
    assert (state.step, state.path) == (10, tmp_path / "previous.ckpt")
    assert str(last) in message
    assert "\n" not in message
    set_aside_damaged_state(tmp_path)
    write_state(tmp_path, 15)  # the damaged file does not become the previous state
    assert newest_state(tmp_path)[0].step == 15
    last.unlink()
    assert newest_state(tmp_path)[0].step == 10


def test_a_state_of_an_earlier_version_is_not_called_damaged(tmp_path):
    saved(tmp_path / "last.ckpt", {"global_step": 20, "state_dict": {}})
    with pytest.raises(InstructLabError, match="written by an earlier version of instruct_lab") as raised:
        newest_state(tmp_path)
    assert "damaged" not in str(raised.value)


def test_one_changed_bit_of_a_tensor_is_found(tmp_path):
    write_state(tmp_path, 10)
    write_state(tmp_path, 20)
    last = tmp_path / "last.ckpt"
    whole, positions = last.read_bytes(), tensor_positions(last)
    draw = random.Random(0)
    for position in draw.sample(positions, 25):
        changed = bytearray(whole)
        changed[position] ^= 1 << draw.randrange(8)
        last.write_bytes(changed)
        assert newest_state(tmp_path)[0].step == 10


def test_a_run_whose_states_are_all_damaged_is_refused(tmp_path):
    for step in (10, 20):
        write_state(tmp_path, step)
    for name in ("last.ckpt", "previous.ckpt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InstructLabError, match=r"last.ckpt.*previous.ckpt.*remove these files"):
        newest_state(tmp_path)

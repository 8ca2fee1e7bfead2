"""Training states whose tensors lie in a folder of shares: what is kept, removed, and refused as damaged."""

import pytest
import torch

from instruct_lab.callbacks.training_states import METRICS_SIZE, SHARES, keep_state, newest_state, read_state
from instruct_lab.errors import InstructLabError


def write(folder, step, sizes=(7,)):
    """Write a state with a folder of shares as the newest one."""
    shares = folder / f"shares-{step:06d}-abc"
    shares.mkdir(parents=True)
    files = {f"{index}.safetensors": size for index, size in enumerate(sizes)}
    for name, size in files.items():
        (shares / name).write_bytes(b"x" * size)
    entry = {"folder": shares.name, "files": files, "tensors": {}}
    partial = folder / "last.ckpt.partial"
    torch.save({"global_step": step, METRICS_SIZE: 10 * step, SHARES: entry}, partial)
    keep_state(partial, folder)
    return shares


def test_the_shares_of_the_two_newest_states_are_kept(tmp_path):
    folders = [write(tmp_path, step) for step in (1, 2, 3)]
    assert [folder.exists() for folder in folders] == [False, True, True]
    assert newest_state(tmp_path)[0].step == 3


def test_shares_that_no_state_names_are_removed_with_the_next_state(tmp_path):
    crashed = tmp_path / "shares-000002-dead"  # a crash before the state was written
    crashed.mkdir()
    write(tmp_path, 1)
    assert not crashed.exists()


@pytest.mark.parametrize("damage", ["missing", "short", "no folder"])
def test_a_state_with_damaged_shares_gives_way_to_the_one_before_it(tmp_path, damage):
    write(tmp_path, 1)
    shares = write(tmp_path, 2, sizes=(7, 9))
    if damage == "short":
        (shares / "1.safetensors").write_bytes(b"x")
    else:
        for file in list(shares.iterdir())[:1] if damage == "missing" else list(shares.iterdir()):
            file.unlink()
    if damage == "no folder":
        shares.rmdir()
    state, [reason] = newest_state(tmp_path)
    assert state.step == 1
    assert "expected" in reason
    with pytest.raises(InstructLabError, match=r"is missing|has 1 bytes"):
        read_state(tmp_path / "last.ckpt")


def test_a_state_names_only_folders_beside_itself(tmp_path):
    folder = tmp_path / "run"
    write(folder, 1)
    outside = tmp_path / "0.safetensors"
    outside.write_bytes(b"x" * 7)
    entry = {"folder": "..", "files": {"0.safetensors": 7}, "tensors": {}}
    torch.save({"global_step": 2, METRICS_SIZE: 0, SHARES: entry}, folder / "last.ckpt")
    with pytest.raises(InstructLabError, match=r"names '\.\.' as the folder"):
        read_state(folder / "last.ckpt")

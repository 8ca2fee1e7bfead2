"""A tensor that some number of ranks have written is read by any other number of ranks."""

import contextlib
import tempfile
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from instruct_lab.callbacks.training_states import SHARES
from instruct_lab.training.sharded_states import FILE, _open, _rows_of, _Stored, with_shares


def chunks(tensor, count):
    """What each of several ranks holds of a tensor in FSDP2."""
    found = list(torch.chunk(tensor, count))
    return found + [tensor[:0]] * (count - len(found))


@settings(max_examples=40)
@given(rows=st.integers(1, 13), columns=st.integers(1, 3), written=st.integers(1, 5), read=st.integers(1, 6))
def test_shares_of_any_number_of_ranks_are_those_of_any_other(rows, columns, written, read):
    tensor = torch.arange(rows * columns, dtype=torch.bfloat16).reshape(rows, columns)
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "shares-000001-x"
        folder.mkdir()
        for rank, share in enumerate(chunks(tensor, written)):
            kept = {"a/b": share.contiguous()} if share.numel() else {}
            save_file(kept, folder / FILE.format(rank))
        files = {file.name: file.stat().st_size for file in folder.iterdir()}
        tensors = {"a/b": (["a", "b"], [rows, columns], "bfloat16")}
        state = {"a": {"b": None, "c": 3}, SHARES: {"folder": folder.name, "files": files, "num_ranks": written}}
        state[SHARES]["tensors"] = tensors
        whole = with_shares(state, folder.parent)
        assert whole["a"]["c"] == 3
        assert torch.equal(whole["a"]["b"], tensor)
        assert state["a"]["b"] is None, "the state itself is not changed"
        with contextlib.ExitStack() as opened:
            stored = _Stored(_open(folder, written, opened), "a/b", [rows, columns], torch.bfloat16)
            for rank, expected in enumerate(chunks(tensor, read)):
                assert torch.equal(stored._rows(*_rows_of(rows, rank, read)), expected)


def test_a_state_of_one_device_is_returned_unchanged(tmp_path):
    state = {"state_dict": {"weight": torch.ones(2)}}
    assert with_shares(state, tmp_path) is state

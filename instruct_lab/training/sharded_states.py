"""Training states of sharded models: a folder to which every rank writes its shares, and a file with everything else.

The file, such as `last.ckpt`, names the folder and the size of each of its files. It is written after the folder, so a
crash never leaves a file without its shares. A state loads on any number of ranks and with any strategy.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from instruct_lab.callbacks.training_states import SHARES, share_folder

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def save_state(checkpoint: dict[str, Any], path: Path, is_writer: bool, broadcast: Callable[[Any], Any]) -> None:
    """Write a state; every rank must call this.

    Args:
        checkpoint: Lightning's checkpoint, some of whose tensors are shares.
        path: the file, which the writer writes.
        is_writer: whether this rank writes the file.
        broadcast: function that returns the first rank's value on all ranks.
    """
    import torch.distributed.checkpoint as dcp

    shares = {"/".join(map(repr, keys)): (keys, value) for keys, value in _shares(checkpoint)}
    name = broadcast(f"shares-{checkpoint['global_step']:06d}-{secrets.token_hex(3)}")
    folder = path.parent / name
    dcp.save({key: value for key, (_, value) in shares.items()}, checkpoint_id=folder)
    if not is_writer:
        return
    rest, paths = checkpoint, {key: list(keys) for key, (keys, _) in shares.items()}
    for keys, _ in shares.values():
        rest = _replaced(rest, keys, None)
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    torch.save({**rest, SHARES: {"folder": name, "files": files, "keys": paths}}, path)


def load_state(path: Path, mesh: DeviceMesh | None = None) -> dict[str, Any]:
    """Read a state, in the memory of the machine if `mesh` is `None`; with a mesh, every rank must call this.

    Args:
        path: the file of the state.
        mesh: the devices over which the shares are distributed; `None`: the tensors are whole.

    Raises:
        InstructLabError: a file of the shares is missing or incomplete.
    """
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return with_shares(state, path.parent, mesh)


def with_shares(state: dict[str, Any], parent: Path, mesh: DeviceMesh | None = None) -> dict[str, Any]:
    """Add the tensors that a state's file leaves out; return a complete state unchanged.

    Args:
        state: the content of the file.
        parent: folder of the file.
        mesh: the devices over which the shares are distributed; see `load_state`.
    """
    if SHARES not in state:
        return state
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    folder = share_folder(parent, state[SHARES])
    stored = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata
    values: dict[str, Any] = {}
    for key in state[SHARES]["keys"]:
        entry = stored[key]
        assert isinstance(entry, TensorStorageMetadata)
        values[key] = _empty(entry.size, entry.properties.dtype, mesh)
    dcp.load(values, checkpoint_id=folder, no_dist=mesh is None)
    filled = {name: value for name, value in state.items() if name != SHARES}
    for key, keys in state[SHARES]["keys"].items():
        filled = _replaced(filled, tuple(keys), values[key])
    return filled


def _empty(size: torch.Size, dtype: torch.dtype, mesh: DeviceMesh | None) -> Tensor:
    if mesh is None:
        return torch.empty(size, dtype=dtype)
    from torch.distributed.tensor import Shard, empty

    return empty(size, dtype=dtype, device_mesh=mesh, placements=[Shard(0)])


def _shares(value: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Find the sharded tensors in nested dictionaries and lists, each with the keys that lead to it."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _shares(inner, (*keys, key))
    elif hasattr(value, "full_tensor"):
        yield keys, value


def _replaced(value: Any, keys: tuple[Any, ...], new: Any) -> Any:
    """Replace the value at these keys in nested dictionaries and lists, in copies of the containers that lead to it."""
    if not keys:
        return new
    copied = value.copy()
    copied[keys[0]] = _replaced(value[keys[0]], keys[1:], new)
    return copied

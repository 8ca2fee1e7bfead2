"""Training states of sharded models: each rank writes its shards to a folder, and a file holds everything else.

The file, such as `last.ckpt`, names the folder and the size of each file in it. It is written after the folder, so a
crash never leaves a file whose shards are missing. A state can be loaded on any number of ranks and with any strategy.
"""

from __future__ import annotations

import contextlib
import math
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from instruct_lab.callbacks.training_states import SHARES, share_folder
from instruct_lab.errors import InstructLabError, one_line

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

FILE = "rank-{:05d}.safetensors"
"""Name of the file with the shards of one rank."""


def save_state(checkpoint: dict[str, Any], path: Path, broadcast: Callable[[Any], Any]) -> None:
    """Write a training state; every rank must call this.

    Args:
        checkpoint: Lightning's checkpoint, some of whose tensors are sharded.
        path: the file that the first rank writes, with everything but the shards; each rank's shards go into a folder
            beside this file.
        broadcast: function that returns the first rank's value on all ranks.

    Raises:
        InstructLabError: a rank cannot write its shards.
    """
    shares = dict(_shares(checkpoint))
    name = broadcast(f"{SHARES}-{checkpoint['global_step']:06d}-{secrets.token_hex(3)}")
    folder = path.parent / name
    _write_shares({_key(keys): value.to_local() for keys, value in shares.items()}, folder)
    if dist.get_rank() != 0:
        return
    rest = checkpoint
    for keys in shares:
        rest = _replaced(rest, keys, None)
    tensors = {_key(keys): _describe(keys, value) for keys, value in shares.items()}
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    entry = {"folder": name, "files": files, "tensors": tensors, "num_ranks": dist.get_world_size()}
    torch.save({**rest, SHARES: entry}, path)


def _write_shares(shares: Mapping[str, Tensor], folder: Path) -> None:
    """Write this rank's shards; if one rank fails, raise an error on all ranks, so that none waits for another."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    failure = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        on_cpu = {key: share.detach().contiguous().cpu() for key, share in shares.items() if share.numel()}
        save_file(on_cpu, folder / FILE.format(dist.get_rank()))
    except (OSError, SafetensorError) as error:
        failure = one_line(error)
    failures: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(failures, failure)
    for rank, text in enumerate(failures):
        if text is not None:
            raise InstructLabError(f"Rank {rank} cannot write its shares: {text}", where=str(folder))


def load_state(path: Path, mesh: DeviceMesh | None = None) -> dict[str, Any]:
    """Read a training state from its file and the folder of shards.

    Args:
        path: the file of the state.
        mesh: the devices over which tensors are sharded, so that this rank reads only its own shards; `None`: whole
            tensors are read.

    Raises:
        InstructLabError: a file of the shards is missing or incomplete.
    """
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return with_shares(state, path.parent, mesh)


def with_shares(state: dict[str, Any], parent: Path, mesh: DeviceMesh | None = None) -> dict[str, Any]:
    """Return a training state in which the sharded tensors, read from the folder of shards, are inserted.

    A state without sharded tensors is returned unchanged.

    Args:
        state: the content of the state's file.
        parent: folder of this file, which also holds the folder of shards.
        mesh: the devices over which tensors are sharded, so that this rank reads only its own shards; `None`: whole
            tensors are read.
    """
    if SHARES not in state:
        return state
    entry = state[SHARES]
    filled = {name: value for name, value in state.items() if name != SHARES}
    with contextlib.ExitStack() as opened:
        files = _open(share_folder(parent, entry), entry["num_ranks"], opened)
        for key, (keys, shape, dtype) in entry["tensors"].items():
            stored = _Stored(files, key, shape, getattr(torch, dtype))
            filled = _replaced(filled, tuple(keys), stored.read() if mesh is None else stored.read_share(mesh))
    return filled


def _open(folder: Path, num_ranks: int, opened: contextlib.ExitStack) -> list[Any]:
    from safetensors import safe_open

    return [opened.enter_context(safe_open(folder / FILE.format(rank), framework="pt")) for rank in range(num_ranks)]


class _Stored:
    """A tensor whose rows are divided over the files of several ranks, as `torch.chunk` divides them.

    Args:
        files: the opened file of each rank.
        key: name of the tensor in the files.
        shape: shape of the whole tensor.
        dtype: dtype of the tensor.
    """

    def __init__(self, files: list[Any], key: str, shape: list[int], dtype: torch.dtype) -> None:
        self._files, self._key, self._shape, self._dtype = files, key, shape, dtype

    def read(self) -> Tensor:
        """Read the whole tensor."""
        return self._rows(0, self._shape[0])

    def read_share(self, mesh: DeviceMesh) -> Tensor:
        """Read the rows that belong to this rank, and return them as its shard of a distributed tensor."""
        from torch.distributed.tensor import DTensor, Shard

        start, end = _rows_of(self._shape[0], mesh.get_local_rank(), mesh.size())
        device = mesh.device_type if mesh.device_type == "cpu" else torch.cuda.current_device()
        strides = torch.empty(self._shape, device="meta").stride()
        return DTensor.from_local(
            self._rows(start, end).to(device), mesh, [Shard(0)], shape=torch.Size(self._shape), stride=strides
        )

    def _rows(self, start: int, end: int) -> Tensor:
        parts = [torch.empty((0, *self._shape[1:]), dtype=self._dtype)]
        for rank, file in enumerate(self._files):
            first, last = _rows_of(self._shape[0], rank, len(self._files))
            low, high = max(start, first), min(end, last)
            if low < high:
                parts.append(file.get_slice(self._key)[low - first : high - first])
        return torch.cat(parts)


def _rows_of(num_rows: int, rank: int, num_ranks: int) -> tuple[int, int]:
    """Return the index of a rank's first row and the index after its last row, as `torch.chunk` divides the rows."""
    most = math.ceil(num_rows / num_ranks)
    return min(num_rows, rank * most), min(num_rows, (rank + 1) * most)


def _describe(keys: tuple[Any, ...], tensor: Any) -> tuple[list[Any], list[int], str]:
    return list(keys), list(tensor.shape), str(tensor.dtype).removeprefix("torch.")


def _key(keys: tuple[Any, ...]) -> str:
    return "/".join(map(str, keys))


def _shares(value: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield, for each sharded tensor in nested dictionaries and lists, the keys that lead to it and the tensor."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _shares(inner, (*keys, key))
    elif hasattr(value, "full_tensor"):
        yield keys, value


def _replaced(value: Any, keys: tuple[Any, ...], new: Any) -> Any:
    """Replace a value in nested dictionaries and lists; only the containers that lead to it are copied."""
    if not keys:
        return new
    copied = value.copy()
    copied[keys[0]] = _replaced(value[keys[0]], keys[1:], new)
    return copied

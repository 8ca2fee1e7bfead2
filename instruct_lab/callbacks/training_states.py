"""The two newest training states of a run, `last.ckpt` and `previous.ckpt`, and the search for an undamaged one."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instruct_lab.errors import InstructLabError, wrap_errors

LAST_STATE = "last.ckpt"
PREVIOUS_STATE = "previous.ckpt"
DAMAGED_STATE = "damaged.ckpt"
METRICS_SIZE = "metrics_size"
"""Key under which a training state holds the size of `metrics.jsonl`, in bytes, when the state was written."""
SHARES = "shares"
"""Key under which the training state of a sharded model describes the folder in which every rank writes its shard.

The value holds the name of the folder, the sizes of its files, and the shapes of the tensors that are stored there.
"""


@dataclasses.dataclass(frozen=True)
class TrainingState:
    """A checkpoint of the whole training state, from which a run can resume.

    Args:
        path: the state's checkpoint file; `None` if there is none, so that the run starts from its beginning.
        step: number of optimizer steps taken before the state was written.
        metrics_size: the size of `metrics.jsonl`, in bytes, when the state was written.
    """

    path: Path | None = None
    step: int = 0
    metrics_size: int = 0


def keep_state(partial: Path, folder: Path) -> None:
    """Rename the current `last.ckpt` to `previous.ckpt`, and then a completely written new state to `last.ckpt`.

    Args:
        partial: the file of the new state.
        folder: the run's `checkpoints/`.
    """
    with contextlib.suppress(FileNotFoundError):
        os.replace(folder / LAST_STATE, folder / PREVIOUS_STATE)
    os.replace(partial, folder / LAST_STATE)
    _remove_unnamed_shares(folder)


def _remove_unnamed_shares(folder: Path) -> None:
    """Remove the `shares-*` folders that neither `last.ckpt` nor `previous.ckpt` names.

    Such a folder holds the shards that the ranks of a sharded model have written.
    """
    found = list(folder.glob(f"{SHARES}-*"))
    if not found:
        return
    named = set()
    for name in (LAST_STATE, PREVIOUS_STATE):
        with contextlib.suppress(FileNotFoundError):
            named.add(_content(folder / name).get(SHARES, {}).get("folder"))
    for path in found:
        if path.name not in named:
            shutil.rmtree(path, ignore_errors=True)


def share_folder(parent: Path, shares: Mapping[str, Any]) -> Path:
    """Return the folder with the shards of a sharded model's training state, after checking that no file is incomplete.

    Args:
        parent: the folder that holds the state's checkpoint file.
        shares: the value under the key `SHARES` in the checkpoint: the name of the folder of shards, and the size of
            each of its files.

    Raises:
        InstructLabError: a file of the folder is missing or incomplete, or `shares` names no folder of shards.
    """
    folder = parent / Path(shares["folder"]).name
    if not folder.name.startswith(f"{SHARES}-"):
        raise InstructLabError(
            f"The training state names {shares['folder']!r} as the folder of its shares",
            where=str(parent),
            do=f"use a state that a run has written: its folder is named {SHARES}-STEP-*",
        )
    for name, size in shares["files"].items():
        file = folder / Path(name).name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            raise InstructLabError(
                f"A file of the training state {'is missing' if found is None else f'has {found:,} bytes'}, expected "
                f"{size:,} bytes",
                where=str(file),
                do="copy the whole folder of checkpoints, or remove this state to resume from the one before it",
            )
    return folder


def newest_state(folder: Path) -> tuple[TrainingState, list[str]]:
    """Find the newest training state of a run that can be used: it is undamaged, and this version can read it.

    Args:
        folder: the run's `checkpoints/`.

    Returns:
        The state (its `path` is `None` if the run has not written any state), and the reason why each newer state
        cannot be used.

    Raises:
        InstructLabError: the run has states, and none of them can be used.
    """
    paths = [folder / name for name in (LAST_STATE, PREVIOUS_STATE) if (folder / name).is_file()]
    damages: list[str] = []
    for path in paths:
        try:
            state = read_state(path)
        except InstructLabError as error:
            damages.append(str(error))
            continue
        return state, damages
    if damages:
        raise InstructLabError(
            f"No training state of the run can be used. {' '.join(damages)}",
            where=str(folder),
            do="remove these files to train again from the beginning, or start a new run",
        )
    return TrainingState(), []


def set_aside_damaged_state(folder: Path) -> None:
    """Rename a damaged `last.ckpt` to `damaged.ckpt`, so that it does not become `previous.ckpt`."""
    with contextlib.suppress(FileNotFoundError):  # another rank has renamed it
        os.replace(folder / LAST_STATE, folder / DAMAGED_STATE)


def read_state(path: Path) -> TrainingState:
    """Read the step and the size of `metrics.jsonl` from a training state, after verifying the file's checksums.

    Raises:
        InstructLabError: the file is damaged or cannot be read, or another version of instruct_lab wrote it.
    """
    with wrap_errors(what=f"The training state {path.name} is damaged or cannot be read", where=str(path)):
        with zipfile.ZipFile(path) as archive:  # the format of `torch.save`, with a CRC-32 for each tensor
            if wrong := archive.testzip():
                raise ValueError(f"the checksum of {wrong} does not match")
        content = _content(path)
        if SHARES in content:
            share_folder(path.parent, content[SHARES])
        if "global_step" in content and METRICS_SIZE not in content:
            what = f"The training state {path.name} was written by an earlier version of instruct_lab"
            raise InstructLabError(f"{what}, and this version cannot continue it", where=str(path))
        return TrainingState(path, int(content["global_step"]), int(content[METRICS_SIZE]))


def _content(path: Path) -> dict[str, Any]:
    import torch

    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return content

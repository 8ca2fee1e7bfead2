"""Keep the two newest training states of a run, `last.ckpt` and `previous.ckpt`, and find the newest undamaged one."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import zipfile
from pathlib import Path

from instruct_lab.errors import InstructLabError, wrap_errors

LAST_STATE = "last.ckpt"
PREVIOUS_STATE = "previous.ckpt"
DAMAGED_STATE = "damaged.ckpt"
METRICS_SIZE = "metrics_size"
"""Entry of a training state: the size of `metrics.jsonl`, in bytes, when the state was written."""


@dataclasses.dataclass(frozen=True)
class TrainingState:
    """A state from which a run can resume.

    Args:
        path: file of the state; `None`: the run starts from its beginning.
        step: number of optimizer steps that the state contains.
        metrics_size: the size of `metrics.jsonl`, in bytes, when the state was written.
    """

    path: Path | None = None
    step: int = 0
    metrics_size: int = 0


def keep_state(partial: Path, folder: Path) -> None:
    """Rename a completely written state to `last.ckpt`, and the state before it to `previous.ckpt`."""
    with contextlib.suppress(FileNotFoundError):
        os.replace(folder / LAST_STATE, folder / PREVIOUS_STATE)
    os.replace(partial, folder / LAST_STATE)


def newest_state(folder: Path) -> tuple[TrainingState, list[str]]:
    """Find the newest undamaged state of a run, and describe each damaged state that is newer.

    Args:
        folder: the run's `checkpoints/`.

    Raises:
        InstructLabError: the run has states, and all of them are damaged.
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
            f"Every training state of the run is damaged. {' '.join(damages)}",
            where=str(folder),
            do="remove these files to train again from the beginning, or start a new run",
        )
    return TrainingState(), []


def set_aside_damaged_state(folder: Path) -> None:
    """Rename a damaged `last.ckpt` to `damaged.ckpt`, so that it does not become `previous.ckpt`."""
    with contextlib.suppress(FileNotFoundError):  # another rank has renamed it
        os.replace(folder / LAST_STATE, folder / DAMAGED_STATE)


def read_state(path: Path) -> TrainingState:
    """Read the step of a training state and the size of its log, after verifying the checksums in the file.

    Raises:
        InstructLabError: the file is damaged or cannot be read.
    """
    import torch

    with wrap_errors(what=f"The training state {path.name} is damaged or cannot be read", where=str(path)):
        with zipfile.ZipFile(path) as archive:  # the format of `torch.save`, with a CRC-32 for each tensor
            if wrong := archive.testzip():
                raise ValueError(f"the checksum of {wrong} does not match")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return TrainingState(path, int(content["global_step"]), int(content[METRICS_SIZE]))

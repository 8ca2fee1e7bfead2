"""The weights that a run keeps in its `checkpoints/`: the best ones in `best-STEP/`, the last ones in `last-STEP/`.

`best.json` and `last.json` hold the names of these folders."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from instruct_lab.errors import InstructLabError, wrap_errors
from instruct_lab.files import read_json, write_json


@contextlib.contextmanager
def removed_on_error(partial: Path) -> Iterator[None]:
    """Remove an unfinished file or folder when writing it fails.

    Raises:
        InstructLabError: the file or folder cannot be written.
    """
    try:
        with wrap_errors(  # torch and safetensors report a full disk in their own ways
            what="The checkpoint cannot be written",
            where=str(partial.parent),
            do="free disk space or fix the folder's permissions, then continue with `instruct-lab resume`",
        ):
            yield
    except InstructLabError:
        shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def keep_weights(save: Callable[[Path], None], folder: Path, name: str, *, step: int, **facts: Any) -> None:
    """Write weights to `name-STEP/`, record this folder in `name.json`, and then remove older `name-*` folders.

    Args:
        save: function that writes the weights to a new folder.
        folder: the run's `checkpoints/`.
        name: `best` or `last`.
        step: the optimizer step after which the weights are saved.
        facts: additional keys and values to write to `name.json`, such as the monitored value.

    Raises:
        InstructLabError: the weights cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}-{step:06d}"
    partial = folder / f"{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    with removed_on_error(partial):
        save(partial)
    if target.exists():
        shutil.rmtree(target)
    os.replace(partial, target)
    write_json(folder / f"{name}.json", {"path": target.name, "step": step, **facts})
    for old in folder.glob(f"{name}-*"):
        if old != target:
            shutil.rmtree(old, ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class KeptWeights:
    """Weights that a run has kept.

    Args:
        name: `best` or `last`.
        path: folder of the weights.
        step: optimizer step after which the weights were saved.
        monitor: name of the logged value that is best with these weights; `None` for the last weights.
    """

    name: str
    path: Path
    step: int
    monitor: str | None = None

    def __str__(self) -> str:
        return f"step {self.step} ({self.name} {self.monitor})" if self.monitor else f"step {self.step} ({self.name})"


def read_weights(folder: Path, name: str) -> KeptWeights | None:
    """Find the best or the last weights of a run through the file `name.json`, which names their folder.

    Return `None` if this file does not exist.

    Args:
        folder: the run's `checkpoints/`.
        name: `best` or `last`.

    Raises:
        InstructLabError: the file is damaged, or `folder` does not contain the folder of weights that it names.
    """
    file = folder / f"{name}.json"
    with wrap_errors(
        what="This file of a run record names no weights of the run",
        where=str(file),
        do=f"run `instruct-lab resume {folder.parent}`, which writes it again if the run is not finished",
    ):
        facts = read_json(file)
        if facts is None:
            return None
        path = folder / facts["path"]
        if path.parent != folder or path.resolve().parent != folder.resolve() or not path.is_dir():
            raise ValueError(f"{facts['path']!r} is not a folder beside the file")
        return KeptWeights(name, path, int(facts["step"]), facts.get("monitor"))

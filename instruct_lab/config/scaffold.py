"""Write a new lab folder: a folder for the user's own options and classes, with commented examples to start from."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from instruct_lab.errors import InstructLabError, wrap_errors

EXAMPLES = Path(__file__).parent / "lab"


def write_lab(path: Path) -> list[Path]:
    """Copy the example options and classes to a new lab folder; existing files are never overwritten.

    Returns:
        The paths of the written files.

    Raises:
        InstructLabError: one of the files exists, or the folder is not writable; in both cases, no new file is left.
    """
    sources = sorted(source for source in EXAMPLES.rglob("*") if source.is_file() and "__pycache__" not in source.parts)
    targets = [path / source.relative_to(EXAMPLES) for source in sources]
    existing = [target for target in targets if target.exists()]
    if existing:
        raise InstructLabError("The file exists", where=str(existing[0]), do="name a new folder, or move the file away")
    with (
        wrap_errors(OSError, what="The lab cannot be written", where=str(path), do="name another folder"),
        contextlib.ExitStack() as undo,
    ):
        for source, target in zip(sources, targets, strict=True):
            for folder in reversed([folder for folder in target.parents if not folder.exists()]):
                folder.mkdir()
                undo.callback(folder.rmdir)
            undo.callback(target.unlink, missing_ok=True)
            shutil.copyfile(source, target)
        undo.pop_all()  # everything is written
    return targets

"""Write a lab of one's own: a folder with one commented example of each kind."""

from __future__ import annotations

import shutil
from pathlib import Path

from instruct_lab.errors import InstructLabError

EXAMPLES = Path(__file__).parent / "lab"


def write_lab(path: Path) -> list[Path]:
    """Copy the examples to a folder; what is there already is never overwritten.

    Returns:
        The files that were written.

    Raises:
        InstructLabError: one of the files exists, or the folder cannot be written; then nothing was.
    """
    sources = sorted(source for source in EXAMPLES.rglob("*") if source.is_file() and "__pycache__" not in source.parts)
    targets = [path / source.relative_to(EXAMPLES) for source in sources]
    existing = [target for target in targets if target.exists()]
    if existing:
        raise InstructLabError("The file exists", where=str(existing[0]), do="name a new folder, or move the file away")
    try:
        for source, target in zip(sources, targets, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    except OSError as error:
        raise InstructLabError(
            f"The lab cannot be written: {error}", where=str(path), do="name another folder"
        ) from error
    return targets

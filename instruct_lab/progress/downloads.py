"""Report downloads by huggingface_hub as a stage, instead of with that library's own progress bar."""

from __future__ import annotations

import io
from typing import Any

from instruct_lab.progress.stages import Stage

MEGABYTE = 1_000_000
TRANSFER = "Downloading bytes"
"""Title of huggingface_hub's second bar for a download; it counts compressed bytes and is not reported."""


def download_bar(report: Stage) -> Any:
    """Return a subclass of `tqdm` that draws no progress bar, but reports the downloaded megabytes to a stage.

    Args:
        report: the stage that receives the megabytes; its unit must be MB.
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    class DownloadBar(tqdm):
        """Reports the progress of a download instead of showing it, for libraries that accept a tqdm class.

        It is used for the download of one file or of all files of a repository.
        """

        def __init__(self, *args: Any, **settings: Any) -> None:
            settings.pop("name", None)
            super().__init__(*args, **{**settings, "file": io.StringIO(), "disable": False})
            self._counts_bytes = settings.get("unit") == "B" and settings.get("desc") != TRANSFER

        def update(self, n: float | None = 1) -> bool | None:
            """Report the bytes that have arrived so far; return what `tqdm.update` returns."""
            result: bool | None = super().update(n)
            if self._counts_bytes:
                report.total = int(self.total / MEGABYTE) if self.total else None
                report.update(int(self.n / MEGABYTE))
            return result

    return DownloadBar

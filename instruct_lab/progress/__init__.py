"""Progress reports on standard error, so that users see what a command is doing while they wait.

Input: the stages of the work, opened with `stage` wherever the work is done. Output: one live line in a terminal; plain
lines, in growing intervals, in a pipe or file. Nothing is reported outside a `reporting` block, as in worker processes.
"""

from instruct_lab.progress.reporter import advance, ensure_reporting, reporting, stage
from instruct_lab.progress.stages import Stage, format_seconds

__all__ = ["Stage", "advance", "ensure_reporting", "format_seconds", "reporting", "stage"]

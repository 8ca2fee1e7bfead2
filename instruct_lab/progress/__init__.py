"""Progress reports on standard error, so that users see what a command is doing while they wait.

Input: the stages of the work, such as "loading the weights"; the code that does the work opens each with `stage`.
Output: in a terminal, one line that is redrawn; in a pipe or file, new lines at growing intervals. A process that has
not entered a `reporting` block, such as a worker process, reports nothing.
"""

from instruct_lab.progress.reporter import advance, ensure_reporting, reporting, stage
from instruct_lab.progress.stages import Stage, format_seconds

__all__ = ["Stage", "advance", "ensure_reporting", "format_seconds", "reporting", "stage"]

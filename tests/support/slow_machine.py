"""Import this so that what commands print and log does not depend on how fast the machine is."""

from instruct_lab.progress import reporter
from instruct_lab.tracker import base

LONG = 3600.0
reporter.FIRST_LINE_SECONDS = reporter.LINE_SECONDS = LONG  # no line about a stage that takes long
base.CALL_SECONDS = base.TrackerSession.finish_seconds = LONG  # no tracker is late

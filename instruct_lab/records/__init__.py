"""The run record: one folder for each run, readable after a crash at any byte.

In: a run's config and what it logs. Out: `runs/<name>/<id>/`, found and queried again. No command needs a tracker to
read a run.
"""

from instruct_lab.records.locate import ListedRun, find_run, list_runs
from instruct_lab.records.record import ReadOnlyRecord, RunRecord
from instruct_lab.records.schema import STATUSES, Manifest, Measurement, PredictionLine, Results, Summary

__all__ = [
    "STATUSES",
    "ListedRun",
    "Manifest",
    "Measurement",
    "PredictionLine",
    "ReadOnlyRecord",
    "Results",
    "RunRecord",
    "Summary",
    "find_run",
    "list_runs",
]

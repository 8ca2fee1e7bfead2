"""The run record: one folder for each run, which stays readable even if the run is killed while it writes.

Input: a run's config and its logged values. Output: the folder `runs/<name>/<id>/`, and functions to find and query
records. Commands read runs from their records, never from a tracker.
"""

from instruct_lab.records.locate import ListedRun, find_run, list_runs
from instruct_lab.records.measurement import Measurement, Results
from instruct_lab.records.record import ReadOnlyRecord, RunRecord
from instruct_lab.records.schema import STATUSES, Manifest, PredictionLine, Summary

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

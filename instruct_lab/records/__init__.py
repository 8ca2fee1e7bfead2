"""The run record: one folder for each run, which stays readable even if the run is killed while it writes.

Input: a run's config, and the metrics and events that the run writes while it trains. Output: the folder
`runs/<name>/<id>/`, and functions to find and query records. Commands read runs from these folders, never from a
tracker such as Weights & Biases.
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

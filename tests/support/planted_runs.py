"""Records of runs that were never trained, with planted scores."""

import numpy as np

from instruct_lab.metrics import ExactMatch, MetricValue
from instruct_lab.records import PredictionLine, RunRecord, Summary

METRICS = {"exact_match": {"_target_": "instruct_lab.metrics.ExactMatch"}}
NAME = "test/exact_match"


def rows_of(outcomes):
    """Rows of exact match: right or not, one example, not empty."""
    reference = ("yes",)
    return [ExactMatch().statistics("yes" if right else "no", reference) for right in outcomes]


def record_of(
    runs_path, run_id, outcomes, config=None, choices=None, seed=0, ids=None, trained=8, seconds=1.0, **facts
):
    """A finished run, right on the examples whose outcome is true."""
    entries = {"tuning": {"r": 8}, **(config or {}), "metrics": METRICS, "name": run_id, "seed": seed}
    record = RunRecord.create(runs_path, "planted", entries, [], run_id=run_id)
    ids = ids or range(len(outcomes))
    predictions = [{"id": f"example-{number}", "references": ["yes"]} for number in ids]
    measured = {"rows": {"exact_match": rows_of(outcomes)}, "predictions": predictions}
    record.write_json("after.json", {"test": {"after": measured}})
    record.write_predictions(
        PredictionLine(
            id=one["id"],
            split="test",
            prompt=f"is {one['id']} right?",
            prediction="yes" if right else "no",
            references=["yes"],
            scores={"exact_match": 100.0 * right},
        )
        for one, right in zip(predictions, outcomes, strict=True)
    )
    value = 100 * float(np.mean(outcomes))
    measured = MetricValue(value, value - 5, value + 5, len(outcomes), "exact")
    record.write_summary(Summary(seconds=60.0, training_seconds=seconds, metrics={NAME: {"after": measured}}))
    record.write_manifest(status="finished", choices=choices or {}, parameters={"trained": trained})
    return record

"""A launcher whose trials are a formula instead of a training, so that the decisions of a sweep are predictable."""

import math
from concurrent.futures import Future

from instruct_lab.config import component
from instruct_lab.records import RunRecord, Summary
from instruct_lab.sweep import Launcher
from instruct_lab.sweep.launchers import Session
from instruct_lab.sweep.reporting import pruning_check
from instruct_lab.sweep.task import Outcome

STEPS = 27
REPORTED = 3
"""Every third step is reported to the pruner; Optuna's database takes 0.03 s for each."""


def final_loss(r, lr):
    """Smallest at r=16, lr=3e-3."""
    return 1.0 + 0.15 * abs(math.log2(r / 16)) + 0.4 * abs(math.log10(lr / 3e-3))


def loss_at(r, lr, step):
    """A curve that falls from 5 to its final loss; a higher learning rate makes it faster."""
    final = final_loss(r, lr)
    wave = 0.01 * math.sin(7 * step + r)
    return final + (5 - final) * math.exp(-step / (4 + 2 * abs(math.log10(lr / 3e-3)))) + wave


@component
class Planted(Launcher):
    """Trials whose losses are `loss_at`."""

    slots: int = 1

    def open(self, sweep_path):
        return PlantedSession(self.slots)


class PlantedSession(Session):
    def __init__(self, slots):
        self.slots = slots

    def submit(self, task):
        future = Future()
        future.set_result(run(task))
        return future

    def close(self):
        pass


def run(task):
    chosen = {"tuning.r": 16, "optimizer.lr": 3e-3, **task.sweep["values"]}
    r, lr = int(chosen["tuning.r"]), float(chosen["optimizer.lr"])
    task.record_path.mkdir(exist_ok=True)
    record = RunRecord(task.record_path)
    record.write_manifest(id=task.run_id, status="running", sweep=task.sweep)
    check_pruning = None if task.report is None else pruning_check(task.report)
    for step in range(1, STEPS + 1):
        value = loss_at(r, lr, step) + 0.01 * task.sweep["seed"]
        record.append_metrics(step=step, epoch=0, values={"val/loss": value, "train/loss": value})
        if step % REPORTED == 0 and check_pruning is not None and check_pruning(step, {"val/loss": value}):
            record.write_manifest(status="pruned")
            return Outcome("pruned")
    metrics = {"val/chrf": {"after": {"value": 100 - value, "low": 0, "high": 100, "count": 1, "signature": ""}}}
    record.write_summary(Summary.from_json({"seconds": 1.0, "training_seconds": float(r), "metrics": metrics}))
    record.write_manifest(status="finished", parameters={"total": 1000, "trained": r})
    return Outcome("finished")

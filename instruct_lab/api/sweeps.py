"""Run sweeps from Python, and read their records."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from instruct_lab.api.calls import guarded, interruptible, print_references, print_warnings
from instruct_lab.api.comparisons import ComparedRuns, compare_records
from instruct_lab.api.runs import RUNS, Run, frame
from instruct_lab.errors import InstructLabError

if TYPE_CHECKING:
    import pandas as pd

    from instruct_lab.sweep.record import SweepRecord


@dataclasses.dataclass(frozen=True, eq=False)
class Sweep:
    """A recorded sweep; each property reads the record when it is accessed, so its value is up to date.

    Args:
        record: the sweep's folder on disk; each run of the sweep has a record of its own.
    """

    record: SweepRecord

    def __repr__(self) -> str:
        return f"Sweep({self.record.info.name}/{self.record.id}, {self.status}, {len(self.runs)} runs)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sweep) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    @property
    def id(self) -> str:
        """The id of the sweep."""
        return self.record.id

    @property
    def path(self) -> Path:
        """The folder of the sweep's record."""
        return self.record.path

    @property
    def status(self) -> str:
        """The sweep's status: `running`, `finished` or `interrupted`."""
        return self.record.status()

    @property
    def runs(self) -> list[Run]:
        """The runs that have started, ordered by id."""
        return [Run(run) for run in self.record.runs()]

    @property
    def table(self) -> pd.DataFrame:
        """One row for each run: its id, status, point and seed, the varied settings, and each metric to optimise.

        `point` is the number of the combination of varied settings. If a run did not measure a metric, the cell is NaN.
        """
        info = self.record.info
        rows = []
        for run in self.record.runs():
            entry = run.manifest.sweep
            varied = {} if entry is None else {key: yaml.safe_load(str(value)) for key, value in entry.values.items()}
            values = {} if entry is None else {"point": entry.point, "seed": entry.seed, **varied}
            rows.append({"run": run.id, "status": Run(run).status, **values, **self._final_values(run)})
        return frame(rows, ["run", "status", "point", "seed", *info.dimensions, *info.metrics]).set_index("run")

    def _final_values(self, run: Any) -> dict[str, float]:
        from instruct_lab.sweep.record import final_value

        values = {}
        for metric, direction in zip(self.record.info.metrics, self.record.info.directions, strict=True):
            try:
                values[metric] = final_value(run, metric, direction)
            except InstructLabError:
                values[metric] = float("nan")
        return values

    @property
    def best(self) -> Run:
        """The finished run with the best value of the sweep's first metric.

        Raises:
            InstructLabError: no finished run has a value of this metric.
        """
        metric, direction = self.record.info.metrics[0], self.record.info.directions[0]
        values = {run.path: self._final_values(run)[metric] for run in self.record.finished_runs()}
        measured = {path: value for path, value in values.items() if value == value}
        if not measured:
            raise InstructLabError(f"No finished run has a value of {metric}", where=f"sweep {self.id}")
        choose = min if direction == "minimize" else max
        path = choose(measured, key=lambda one: measured[one])
        return next(run for run in self.runs if run.path == path)

    def compare(self, metric: str | None = None) -> ComparedRuns:
        """Compare the finished runs on the examples that they share.

        Args:
            metric: the metric to compare, such as `test/chrf`; `None`: the first of the sweep's metrics that
                every finished run has measured, or all metrics if there is none.
        """
        return compare_records(self.record.finished_runs(), metric or self.record.measured_metric())

    def resume(self, *, force: bool = False) -> Sweep:
        """Continue a sweep that was stopped, by training its remaining runs.

        Args:
            force: whether to continue even if code, packages or settings have changed since the sweep's runs started.
                The changes are then listed in the sweep's record.
        """
        with guarded(), interruptible():
            from instruct_lab.sweep.driver import resume
            from instruct_lab.terminal import wide_console

            resume(self.record, wide_console(), force)
        return self


def sweep(overrides: Sequence[str] = (), *, allow: Sequence[str] = ()) -> Sweep:
    """Train a run for each combination of values in a search space, and print the final table.

    A run that fails does not end the sweep: `Sweep.table` has its status.

    Args:
        overrides: overrides that give several values to a key, such as `"tuning.r=4,8"`, or that choose a study in
            which a sweep is defined.
        allow: names of permissions to grant, as after `--allow` on the command line.

    Raises:
        ConfigError: the config of a combination of values has problems, and nothing was started.
    """
    with guarded(overrides, allow) as given, interruptible():
        from instruct_lab.sweep.plan import plan

        planned = plan(given)
        print_warnings(planned.warnings)
        print_references(*(checked.composition.choices for checked in planned.checked.values()))
        from instruct_lab.sweep.driver import Driver, create
        from instruct_lab.terminal import wide_console

        record = create(planned)
        Driver(planned, record, wide_console()).run()
        return Sweep(record)


def load_sweep(sweep: str | Path = "latest", *, runs_path: str | Path = RUNS) -> Sweep:
    """Open a recorded sweep.

    Args:
        sweep: a sweep's folder, id, unique prefix of an id, or `latest`.
        runs_path: the folder of all run records.

    Raises:
        InstructLabError: no sweep or several sweeps match.
    """
    from instruct_lab.sweep.record import find_sweep

    found = find_sweep(Path(runs_path), str(sweep))
    if found is None:
        raise InstructLabError(f"There is no sweep {str(sweep)!r}", where=str(runs_path), do="call find_runs()")
    return Sweep(found)

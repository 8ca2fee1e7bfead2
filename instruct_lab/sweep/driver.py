"""Run a sweep: ask the sampler for points, start the runs of each point, and report their results to Optuna."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import statistics
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from instruct_lab import files, library_warnings
from instruct_lab.config import permissions
from instruct_lab.errors import InstructLabError, started
from instruct_lab.files import user_path
from instruct_lab.records import RunRecord
from instruct_lab.records.changes import code_changes, setting_changes
from instruct_lab.records.folder import LOCK, has_manifest
from instruct_lab.records.schema import LOG
from instruct_lab.sweep.plan import Plan, plan
from instruct_lab.sweep.record import SweepRecord, create_sweep, final_value
from instruct_lab.sweep.storage import STUDY_NAME, open_storage
from instruct_lab.sweep.table import LiveTable
from instruct_lab.sweep.task import Outcome, Report, Task
from instruct_lab.training.ending import Interrupted, StopRequest, raise_on_signals


@dataclasses.dataclass
class Point:
    """A point of the search space (a combination of values) whose runs are in progress.

    Args:
        number: index of the point in the sweep, counted from 0.
        trial: the point's Optuna trial.
        values: the point's value of each dimension, keyed by the dimension's config key.
        ended: outcome of each run that has ended, keyed by the index of the run's seed: 0 for the first seed.
    """

    number: int
    trial: Any
    values: dict[str, Any]
    ended: dict[int, Outcome] = dataclasses.field(default_factory=dict)


def create(planned: Plan) -> SweepRecord:
    """Create the record of a new sweep."""
    return create_sweep(
        user_path(planned.runs_path),
        planned.name,
        overrides=planned.overrides,
        working_path=str(Path.cwd()),
        fingerprint=planned.fingerprint,
        metrics=planned.settings.metrics,
        directions=planned.directions,
        dimensions=[dimension.key for dimension in planned.space.dimensions],
        num_points=planned.num_points,
        seeds=planned.settings.seeds,
        choices=planned.choices,
    )


def resume(sweep: SweepRecord, console: Any, force: bool = False) -> int:
    """Continue a sweep that was stopped or killed.

    Args:
        sweep: the record of the sweep.
        console: where to print.
        force: whether to continue even if the code, packages or recorded settings have changed; the changes are then
            written to `sweep.json`.

    Returns:
        The exit code: 0, or 1 if a run failed.

    Raises:
        InstructLabError: the sweep's config has changed; or something else that changes results has changed, and
            `force` is not set.
    """
    with permissions.allow(permissions.within(sweep.runs_path)):
        return _resume(sweep, console, force)


def _resume(sweep: SweepRecord, console: Any, force: bool) -> int:
    info = sweep.info
    planned = plan(list(info.overrides))
    if planned.fingerprint != info.fingerprint:
        raise InstructLabError(
            "The config has changed since the sweep started, so continuing would compare different things",
            where=f"sweep {sweep.id}, started in {info.working_path}",
            do="resume in the same folder with the same files, or start a new sweep",
        )
    found = {str(change) for run in sweep.runs() for change in (*setting_changes(run), *code_changes(run))}
    if found and not force:
        raise InstructLabError(
            f"Continuing would compare different things, because this has changed: {'; '.join(sorted(found))}",
            where=f"sweep {sweep.id}",
            do="undo the changes, start a new sweep, or add --force to go on and record them",
        )
    if found:
        sweep.update(changes=sorted(found))
    return Driver(planned, sweep, console, force).run()


class Driver:
    """The loop that starts the runs of one sweep and records their results.

    Args:
        planned: the plan of the sweep.
        sweep: the record of the sweep.
        console: where to print.
        force: whether to resume unfinished runs even if something that can change their results has changed.
    """

    def __init__(self, planned: Plan, sweep: SweepRecord, console: Any, force: bool = False) -> None:
        self.plan = planned
        self.sweep = sweep
        self.console = console
        self._force = force
        self._waiting: deque[tuple[Point, int]] = deque()  # runs by point and seed, ready to start
        self._running: dict[Future[Outcome], tuple[Point, int]] = {}
        self._started = time.monotonic()

    def run(self) -> int:
        """Run the sweep until all its points are completed or its time limit is reached.

        Runs that an earlier, stopped process of this sweep has completed are kept.

        Returns:
            The exit code: 0, or 1 if a run failed.

        Raises:
            Interrupted: a signal arrived; the sweep can be resumed.
        """
        with (
            files.lock(self.sweep.path / LOCK, "running this sweep", "watch it with `instruct-lab watch`"),
            raise_on_signals() as request,
            self._record_ending(request),
            library_warnings.logged(lambda text: files.append_text(self.sweep.path / LOG, f"{text}\n")),
            started(),
        ):
            self.study = self._study()
            self._resume_points()
            session = self.plan.launcher.open(self.sweep.path)
            try:
                with LiveTable(self.sweep, self.console, session.slots) as table:
                    self._loop(session, table)
            finally:
                session.close()
        statuses = [run.manifest.status for run in self.sweep.runs()]
        if statuses.count("finished") > 1:
            self.console.print(
                f"compare its runs: instruct-lab compare {_shorten_path(self.sweep.path)}", soft_wrap=True
            )
        return 1 if "failed" in statuses else 0

    @contextlib.contextmanager
    def _record_ending(self, request: StopRequest) -> Iterator[None]:
        self.sweep.update(status="running", ended=None)
        status = "interrupted"
        try:
            yield
            status = "finished" if not self._stopped_by_time() else "interrupted"
        finally:
            request.hold()
            self.sweep.update(status=status, ended=datetime.now(UTC).isoformat())

    def _study(self) -> Any:
        import optuna

        return optuna.create_study(
            study_name=STUDY_NAME,
            storage=open_storage(self.sweep.storage),
            directions=self.plan.directions,
            pruner=self.plan.settings.pruner.build(),
            sampler=optuna.samplers.RandomSampler(seed=0),
            load_if_exists=True,
        )

    # ---- points

    def _resume_points(self) -> None:
        """Queue the runs of the points that were started, but not completed, before the sweep was stopped."""
        import optuna

        for frozen in self.study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
            self.study.sampler = self.plan.sampler.build(self.plan.space, frozen.number)
            self._open(optuna.trial.Trial(self.study, frozen._trial_id))

    def _open(self, trial: Any) -> None:
        values = self.plan.space.values(lambda dimension: dimension.from_trial(trial))
        point = Point(trial.number, trial, values)
        pruned = self.plan.settings.pruner.prunes
        seeds = range(self.plan.settings.seeds)
        for seed in seeds[:1] if pruned else seeds:  # only the first run decides whether a point is pruned
            self._waiting.append((point, seed))

    def _next_run(self) -> tuple[Point, int] | None:
        """Return the next run to start, as its point and the index of its seed; `None` if no run is left."""
        if not self._waiting and not self._stopped_by_time():
            number = len(self.study.get_trials(deepcopy=False))
            if number < self.plan.num_points:
                self.study.sampler = self.plan.sampler.build(self.plan.space, number)
                self._open(self.study.ask())
        return self._waiting.popleft() if self._waiting else None

    def _stopped_by_time(self) -> bool:
        limit = self.plan.settings.max_hours
        if limit is None or time.monotonic() - self._started < 3600 * limit:
            return False
        return len(self.study.get_trials(deepcopy=False)) < self.plan.num_points

    # ---- runs

    def _loop(self, session: Any, table: LiveTable) -> None:
        while True:
            while len(self._running) < session.slots and (chosen := self._next_run()) is not None:
                self._running[session.submit(self._task(*chosen))] = chosen
            if not self._running:
                return
            done, _ = wait(self._running, return_when=FIRST_COMPLETED)
            for future in done:
                point, seed = self._running.pop(future)
                outcome = future.result()
                if outcome.status == "interrupted":
                    raise Interrupted(2)
                self._settle(point, seed, outcome)
                table.print_outcome(self._run_id(point, seed), outcome)

    def _run_id(self, point: Point, seed: int) -> str:
        return self.sweep.run_id(point.number, seed if self.plan.settings.seeds > 1 else None)

    def _task(self, point: Point, seed: int) -> Task:
        settings, run_id = self.plan.settings, self._run_id(point, seed)
        overrides = self.plan.run_overrides(point.values, self.plan.seed + seed)
        report = None
        if settings.pruner.prunes and seed == 0:
            report = Report(self.sweep.storage, point.trial._trial_id, settings.metrics[0], _to_config(settings.pruner))
        return Task(
            runs_path=str(self.sweep.runs_path),
            name=self.sweep.path.parent.name,
            run_id=run_id,
            overrides=overrides,
            sweep={
                "id": self.sweep.id,
                "point": point.number,
                "values": point.values,
                "seed": self.plan.seed + seed,
                "metrics": list(settings.metrics),
            },
            working_path=str(Path.cwd()),
            output_path=str(self.sweep.path / "output" / f"{run_id}.txt"),
            report=report,
            force=self._force,
            checked=self.plan.checked.pop(tuple(overrides), None),
        )

    def _settle(self, point: Point, seed: int, outcome: Outcome) -> None:
        """Store the outcome of a run that has ended.

        With a pruner, a point starts with one run, and the runs with its other seeds are queued after this run has
        finished. When no run of the point is left to do, the point's result is reported to Optuna.

        Args:
            point: the run's point.
            seed: index of the run's seed.
            outcome: the outcome.
        """
        self._record_death(point, seed, outcome)
        point.ended[seed] = outcome
        seeds = self.plan.settings.seeds
        if outcome.status == "finished" and seed == 0 and self.plan.settings.pruner.prunes:
            self._waiting.extendleft((point, later) for later in reversed(range(1, seeds)))
        if len(point.ended) < seeds and outcome.status != "pruned" and not self._is_abandoned(point):
            return
        self._report(point)

    def _is_abandoned(self, point: Point) -> bool:
        """Whether the point's other seeds are skipped: the sweep has a pruner, and the first seed's run failed."""
        return self.plan.settings.pruner.prunes and point.ended[0].status == "failed"

    def _record_death(self, point: Point, seed: int, outcome: Outcome) -> None:
        """Write to the record of a failed run that it failed, if the run's process died before it could do so."""
        path = self.sweep.path.parent / self._run_id(point, seed)
        if outcome.status != "failed" or not has_manifest(path):
            return
        run = RunRecord.open(path)
        if run.manifest.status == "running":
            run.write_failure(InstructLabError(outcome.message))

    def _report(self, point: Point) -> None:
        import optuna

        states = optuna.trial.TrialState
        statuses = {outcome.status for outcome in point.ended.values()}
        if statuses == {"pruned"}:
            self.study.tell(point.trial, state=states.PRUNED)
            return
        if statuses == {"finished"}:
            try:
                values = self._values(point)
            except InstructLabError as error:
                self._fail_runs(point, error)
            else:
                if all(map(math.isfinite, values)):
                    self.study.tell(point.trial, values)
                    return
        self.study.tell(point.trial, state=states.FAIL)

    def _values(self, point: Point) -> list[float]:
        """Return, for each metric of the sweep, the mean of its final values over the point's runs."""
        runs = [RunRecord.open(self.sweep.path.parent / self._run_id(point, seed)) for seed in point.ended]
        pairs = zip(self.plan.settings.metrics, self.plan.directions, strict=True)
        return [statistics.fmean(final_value(run, *pair) for run in runs) for pair in pairs]

    def _fail_runs(self, point: Point, error: InstructLabError) -> None:
        """Mark all runs of the point as failed with this error."""
        for seed in point.ended:
            RunRecord.open(self.sweep.path.parent / self._run_id(point, seed)).write_failure(error)


def _shorten_path(path: Path) -> Path:
    """Make a path relative to the working directory if the path lies inside it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _to_config(component: Any) -> dict[str, Any]:
    """Convert a component, such as a pruner, to a config (`_target_` and fields) from which it can be built again."""
    kind = type(component)
    fields = {field.name: getattr(component, field.name) for field in dataclasses.fields(component)}
    return {"_target_": f"{kind.__module__}.{kind.__qualname__}", **fields}

"""Run a config through the command line, read what it computed, and measure how far two runs are apart."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import multiprocessing
import os
import subprocess
import sys
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path

import planted
import pytest
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from safetensors.torch import load_file
from support.hanging import HANG_SECONDS
from support.lab import write_lab
from support.records import newest_run
from torch import Tensor

from instruct_lab import cli

TIMED = ("seconds", "train/target_tokens_per_second")
"""Logged values that no two runs have in common."""


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """What a run computed.

    Args:
        logged: the steps and values of each name in `metrics.jsonl`, without times.
        weights: the last weights.
        results: value and count of every metric of every system at the end of the run.
        answers: the predictions before and after training, by split and example.
    """

    logged: dict[str, list[tuple[int, float]]]
    weights: dict[str, Tensor]
    results: dict[str, tuple[float, int]]
    answers: dict[str, tuple[str | None, str | None]]

    @classmethod
    def read(cls, record: Path) -> Trajectory:
        """Read the record of a finished run."""
        logged: dict[str, list[tuple[int, float]]] = {}
        for line in map(json.loads, (record / "metrics.jsonl").read_text().splitlines()):
            for name in line.keys() - {"step", *TIMED}:
                logged.setdefault(name, []).append((line["step"], line[name]))
        [weights] = record.glob("checkpoints/last-*/*.safetensors")
        metrics = json.loads((record / "summary.json").read_text())["metrics"]
        predictions = map(json.loads, (record / "predictions.jsonl").read_text().splitlines())
        return cls(
            logged,
            load_file(weights),
            {
                f"{metric} {system}": (found["value"], found["count"])
                for metric, systems in metrics.items()
                for system, found in systems.items()
            },
            {f"{one['split']} {one['id']}": (one.get("prediction_before"), one["prediction"]) for one in predictions},
        )

    def training(self) -> Trajectory:
        """Only the training steps and the weights."""
        steps = {name: values for name, values in self.logged.items() if name.startswith("train/")}
        return Trajectory(steps, self.weights, {}, {})


def distance(first: Trajectory, second: Trajectory) -> tuple[float, str]:
    """The largest relative difference of two trajectories, infinite for different steps or answers, and its name."""
    found = [(0.0, "nothing")]
    for part in ("logged", "weights", "results", "answers"):
        mine, theirs = getattr(first, part), getattr(second, part)
        if mine.keys() != theirs.keys():
            return math.inf, f"{part}: {sorted(mine.keys() ^ theirs.keys())}"
        for name, value in mine.items():
            found.append((_distance(part, value, theirs[name]), f"{part}: {name}"))
    return max(found)


def _distance(part: str, first, second) -> float:
    if part == "answers":
        return 0.0 if first == second else math.inf
    if part == "weights":
        return float((first - second).norm() / first.norm().clamp(min=1e-12))
    if part == "results":
        return _relative(first[0], second[0]) if first[1] == second[1] else math.inf
    if [step for step, _ in first] != [step for step, _ in second]:
        return math.inf
    return max(_relative(one, other) for (_, one), (_, other) in zip(first, second, strict=True))


def _relative(first: float, second: float) -> float:
    same = first == second or (math.isnan(first) and math.isnan(second))
    return 0.0 if same else abs(first - second) / max(abs(first), abs(second))


# ---- ways to run a command


def run_here(folder: Path, command: list[str], bug: str | None) -> None:
    """Run a command in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("INSTRUCT_LAB_CACHE", str(folder / "cache"))
        planted.plant(bug, patch)
        assert cli.main(command) == 0


def run_in_new_process(folder: Path, command: list[str], bug: str | None, **variables: str) -> None:
    """Run a command in an interpreter of its own."""
    tests = Path(__file__).parent
    variables["PYTHONPATH"] = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    code = "import pathlib, sys, trajectory; trajectory.run_here(pathlib.Path.cwd(), sys.argv[2:], sys.argv[1] or None)"
    done = subprocess.run(
        [sys.executable, "-c", code, bug or "", *command],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def run_on_two_ranks(folder: Path, command: list[str], bug: str | None) -> None:
    """Run a command whose second rank is started by the test, from a process that has the libraries loaded already."""
    server = _fork_server()
    receiving, sending = server.Pipe(duplex=False)
    first = server.Process(target=_run_rank, args=[folder, command, bug, {**os.environ}, sending])
    first.start()
    sending.close()
    ranks = [first]
    with contextlib.suppress(EOFError):  # the first rank failed before it would have started the second
        second = server.Process(target=_run_rank, args=[folder, command, bug, receiving.recv(), None])
        second.start()
        ranks.append(second)
    for rank in ranks:
        rank.join(timeout=HANG_SECONDS)
        rank.kill()
    output = "".join(path.read_text()[-2000:] for path in folder.glob("rank-*.txt"))
    assert [rank.exitcode for rank in ranks] == [0, 0], output


@functools.cache
def _fork_server() -> BaseContext:
    """Start the process that ranks are forked from; it has loaded the libraries and this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))  # Python before 3.14 does not hand it on
        server = multiprocessing.get_context("forkserver")
        server.set_forkserver_preload(["support.libraries", "trajectory"])
        forkserver.ensure_running()
    return server


def _run_rank(
    folder: Path, command: list[str], bug: str | None, variables: dict[str, str], sending: Connection | None
) -> None:
    """Run a rank in this process; the first rank sends the environment that Lightning would give to the second."""
    os.environ.clear()
    os.environ.update(variables)
    output = os.open(folder / f"rank-{os.environ.get('LOCAL_RANK', '0')}.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)

    def announce(launcher: _SubprocessScriptLauncher) -> None:
        environment = launcher.cluster_environment
        os.environ.update(MASTER_ADDR=environment.main_address, MASTER_PORT=str(environment.main_port))
        os.environ.update(NODE_RANK="0", LOCAL_RANK="0", WORLD_SIZE="2")
        sending.send({**os.environ, "LOCAL_RANK": "1"})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_SubprocessScriptLauncher, "_call_children_scripts", announce)
        patch.setattr(sys.modules["__main__"], "__file__", __file__, raising=False)  # as in a program
        run_here(folder, command, bug)


# ---- variants of a config


@dataclasses.dataclass(frozen=True)
class Variant:
    """Overrides, and the way in which the run is made: `train` in this process and an empty folder."""

    overrides: tuple[str, ...] = ()

    def trajectory(self, folder: Path, common: tuple[str, ...], bug: str | None) -> Trajectory:
        """Run the variant in a new folder.

        Args:
            folder: the folder, which is created.
            common: overrides of all variants of the class.
            bug: name of the bug that is planted; `None` for none.
        """
        folder.mkdir()
        write_lab(folder)
        self.run(folder, [*common, *self.overrides], bug)
        return Trajectory.read(newest_run(folder))

    def run(self, folder: Path, overrides: list[str], bug: str | None) -> None:
        """Run the command; the newest run of the folder is compared."""
        run_here(folder, ["train", *overrides], bug)


@dataclasses.dataclass(frozen=True)
class AfterAnother(Variant):
    """A run that finds in the cache what another run, with further overrides, has left there."""

    another: tuple[str, ...] = ()

    def run(self, folder: Path, overrides: list[str], bug: str | None) -> None:
        run_here(folder, ["train", *overrides, *self.another], bug)
        super().run(folder, overrides, bug)


@dataclasses.dataclass(frozen=True)
class SecondTrial(Variant):
    """The second trial of a sweep in this process, whose first trial has further overrides."""

    first: tuple[str, ...] = ()

    def run(self, folder: Path, overrides: list[str], bug: str | None) -> None:
        points = json.dumps([" ".join(self.first), overrides[-1]])
        run_here(folder, ["train", "-m", *overrides, f"sweep.points={points}"], bug)


@dataclasses.dataclass(frozen=True)
class TwoRanks(Variant):
    """A run on two ranks that speak through gloo."""

    strategy: str = "ddp"

    def run(self, folder: Path, overrides: list[str], bug: str | None) -> None:
        devices = [f"trainer.strategy={self.strategy}", "trainer.devices=2"]
        run_on_two_ranks(folder, ["train", *overrides, *devices], bug)


@dataclasses.dataclass(frozen=True)
class Continued(Variant):
    """A run that stops after a few steps on some devices and goes on with others.

    Args:
        then: overrides of the `resume` command, which make the run longer and choose the devices.
    """

    then: tuple[str, ...] = ()

    def run(self, folder: Path, overrides: list[str], bug: str | None) -> None:
        for command in (["train", *overrides], ["resume", "latest", *self.then]):
            is_shared = "trainer.devices=2" in command
            (run_on_two_ranks if is_shared else run_here)(folder, command, bug)


@dataclasses.dataclass(frozen=True)
class NewProcess(Variant):
    """A run in a process of its own, with environment variables."""

    variables: tuple[tuple[str, str], ...] = ()

    def run(self, folder: Path, overrides: list[str], bug: str | None) -> None:
        run_in_new_process(folder, ["train", *overrides], bug, **dict(self.variables))


class WithWorkers(Variant):
    """A run whose data is prepared by a second process."""

    def run(self, folder: Path, overrides: list[str], bug: str | None) -> None:
        from support.workers import start_workers_at_once

        with pytest.MonkeyPatch.context() as patch:
            parts = start_workers_at_once(patch)
            super().run(folder, overrides, bug)
        assert parts, "a worker took part"

"""Execution of untrusted Python programs and their tests in two separate processes with restricted rights."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LIMITS = Path(__file__).with_name("limits.py")
FILE_BYTES = 16 << 20
LAYERS = ("rlimits", "netns", "landlock", "seccomp")
REQUIRED = ("landlock", "seccomp")
"""Layers of the sandbox without which a program could write the user's files, use the network or start processes."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A program and the tests that judge it.

    Args:
        source: Python source code that a model wrote.
        tests: the source code of the tests; a program without tests passes if it reaches its end.
        prompt: source code of the prompt, whose imports and functions the tests can use too.
        entry_point: name of the tested function; the tests use the program's function, even if the prompt defines one
            of the same name.
    """

    source: str
    tests: str = ""
    prompt: str = ""
    entry_point: str = ""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of running a program.

    Args:
        passed: whether the program passed its tests.
        layers: the layers of the sandbox that were active, such as `seccomp`: each is a restriction by the kernel.
    """

    passed: bool
    layers: tuple[str, ...]


def run(
    program: Program,
    *,
    timeout_s: float,
    memory_mb: int,
    packages: bool = False,
    wanted: tuple[str, ...] = LAYERS,
    required: tuple[str, ...] = (),
) -> Outcome:
    """Run a program and its tests in a sandbox of several layers, each of which is a restriction by the kernel.

    The program passes only if the process of the tests reports that no test failed, and ends with exit status 0.

    Args:
        program: the program with its tests.
        timeout_s: seconds until both processes, with all other processes in their process groups, are killed.
        memory_mb: limit of the address space of each process in MiB.
        packages: whether installed packages can be imported in addition to the standard library.
        wanted: names of the layers to use if this machine supports them.
        required: names of the layers without which nothing is executed.
    """
    limits = {
        "layers": wanted,
        "required": required,
        "packages": packages,
        "seconds": math.ceil(timeout_s) + 1,
        "memory_bytes": memory_mb << 20,
        "file_bytes": FILE_BYTES,
    }
    deadline = time.monotonic() + timeout_s
    calls, ask = os.pipe()
    results, reply = os.pipe()
    reader, report = os.pipe()
    tests: dict[str, Any] = {
        "role": "tests",
        "reader": results,
        "writer": ask,
        "report": report,
        **dataclasses.asdict(program),
    }
    served: dict[str, Any] = {
        "role": "program",
        "reader": calls,
        "writer": reply,
        "report": None,
        "source": program.source,
    }
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="program-", ignore_cleanup_errors=True) as folder:
        try:
            try:
                for task in (tests, served):
                    processes.append(_start(task | limits, os.path.join(os.path.realpath(folder), task["role"])))
            finally:
                for descriptor in (calls, ask, results, reply, report):
                    os.close(descriptor)
            with contextlib.suppress(subprocess.TimeoutExpired):
                processes[0].wait(max(deadline - time.monotonic(), 0))
        finally:
            for process in processes:
                _end(process)
            os.set_blocking(reader, False)
            with os.fdopen(reader, "rb") as opened:
                reported = opened.read() or b""
    return _outcome(reported, processes[0].returncode)


def _start(task: dict[str, Any], folder: str) -> subprocess.Popen[bytes]:
    """Start the process of the program or of its tests in a new folder.

    Args:
        task: the code to run, the limits and the file descriptors for the process, which reads them from stdin as JSON.
        folder: the folder to create, in which the process may write.
    """
    os.mkdir(folder)
    options = ["-I", "-B", *([] if task["packages"] else ["-S"])]
    environment = {"HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    environment["OPENBLAS_NUM_THREADS"] = "1"
    process = subprocess.Popen(
        [sys.executable, *options, str(LIMITS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=environment,
        pass_fds=[task[name] for name in ("reader", "writer", "report") if task[name] is not None],
        start_new_session=True,  # the process has its own group, so that all its children can be killed
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(json.dumps(task | {"folder": folder}).encode())
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _outcome(report: bytes, status: int) -> Outcome:
    first, _, rest = report.partition(b"\n")
    layers = tuple(json.loads(first)) if first.startswith(b"[") else ()
    return Outcome(rest == b"passed\n" and status == 0, layers)


@functools.cache
def layers() -> tuple[str, ...]:
    """Return the layers of the sandbox (restrictions by the kernel) that this machine supports.

    An empty program is run to find them. Each layer is given by its name, which may end with a version: `landlock6`.
    """
    return run(Program(""), timeout_s=60, memory_mb=1024).layers


def missing_layers() -> list[str]:
    """List the names of the required layers of the sandbox that this machine does not support."""
    return [name for name in REQUIRED if not any(layer.startswith(name) for layer in layers())]

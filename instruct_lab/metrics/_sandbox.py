"""Run an untrusted Python program in its own process and report whether it reached its end."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

CHILD = Path(__file__).with_name("_sandbox_child.py")
FILE_BYTES = 16 << 20
REPORT_BYTES = 4096
LAYERS = ("rlimits", "netns", "landlock", "seccomp", "audit")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Whether a program reached its end, and the active layers of the sandbox."""

    finished: bool
    layers: tuple[str, ...]


def run(
    program: str,
    *,
    timeout_s: float,
    memory_mb: int,
    packages: bool = False,
    wanted: tuple[str, ...] = LAYERS,
) -> Outcome:
    """Run a program. It counts as finished only if it passed its last statement; exit status 0 is not enough.

    Args:
        program: Python source code.
        timeout_s: seconds until the program and all processes of its group are killed.
        memory_mb: limit of the address space in MiB.
        packages: whether the program can import installed packages, not only the standard library.
        wanted: the layers of the sandbox to use if this machine supports them.
    """
    token = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="program-", ignore_cleanup_errors=True) as folder:
        reader, writer = os.pipe()
        task = {
            "program": program,
            "layers": wanted,
            "token": token,
            "folder": os.path.realpath(folder),
            "report": writer,
            "seconds": math.ceil(timeout_s) + 1,
            "memory_bytes": memory_mb << 20,
            "file_bytes": FILE_BYTES,
        }
        try:
            _start_and_end(json.dumps(task).encode(), folder, writer, timeout_s, packages)
            os.set_blocking(reader, False)
            with contextlib.suppress(BlockingIOError):
                return _outcome(os.read(reader, REPORT_BYTES), token)
        finally:
            os.close(reader)
    return Outcome(False, ())


def _start_and_end(task: bytes, folder: str, report: int, timeout_s: float, packages: bool) -> None:
    options = ["-I", "-B", *([] if packages else ["-S"])]
    environment = {"HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    environment["OPENBLAS_NUM_THREADS"] = "1"
    try:
        process = subprocess.Popen(
            [sys.executable, *options, str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=environment,
            pass_fds=(report,),
            start_new_session=True,  # the process has its own group, so that all its children can be killed
        )
    finally:
        os.close(report)
    try:
        process.communicate(task, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _outcome(report: bytes, token: str) -> Outcome:
    first, _, rest = report.decode(errors="replace").partition("\n")
    layers = tuple(json.loads(first)) if first.startswith("[") else ()
    return Outcome(rest == token, layers)


@functools.cache
def layers() -> tuple[str, ...]:
    """Run an empty program to find the layers of the sandbox that this machine supports."""
    return run("", timeout_s=60, memory_mb=1024).layers

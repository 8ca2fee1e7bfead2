"""A worker process, which makes runs of a sweep.

It reads descriptions of runs (`Task`) from standard input, each as a line of JSON, or one description from a file.
Usage: `python -m instruct_lab.sweep.worker [TASK FILE]`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import IO

from instruct_lab.collector import collect_rarely
from instruct_lab.guard import guarded
from instruct_lab.streams import quiet_streams
from instruct_lab.sweep.task import CORES_VARIABLE, Task
from instruct_lab.sweep.trial import run_task

ORPHAN_SECONDS = 20.0


@guarded
def main(arguments: list[str]) -> int:
    """Make the run described in the file that `arguments` names or, without a file, all runs from standard input.

    Returns:
        The exit code: 0, or 129, 130 or 143 after an interruption.
    """
    collect_rarely()  # until the first run trains
    cores = os.environ.get(CORES_VARIABLE)
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, map(int, cores.split(",")))
    from instruct_lab.training.ending import Interrupted

    try:
        with quiet_streams():
            if arguments:
                run_task(Task.from_json(json.loads(Path(arguments[0]).read_text(encoding="utf-8"))))
            else:
                _serve()
    except Interrupted as interrupted:
        return interrupted.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _serve() -> None:
    """Make the runs that are described on standard input; write each outcome as a line of JSON to standard output.

    All other output of the process is redirected to standard error.
    """
    from instruct_lab.training.process import shared_models

    answers: IO[str] = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    tasks: queue.Queue[Task | None] = queue.Queue()
    threading.Thread(target=_read, args=(sys.stdin, tasks), daemon=True).start()
    shared = shared_models()
    while (task := tasks.get()) is not None:
        outcome = run_task(task, shared)
        answers.write(json.dumps(dataclasses.asdict(outcome)) + "\n")
        answers.flush()


def _read(lines: IO[str], tasks: queue.Queue[Task | None]) -> None:
    """Put the tasks from the input into the queue; if the worker is still busy after the input ends, end the process.

    The input ends when the process that started the worker has ended.

    Args:
        lines: the input, one task per line.
        tasks: the queue; `None` is put into it at the end.
    """
    for line in lines:
        tasks.put(Task.from_json(json.loads(line)))
    tasks.put(None)
    time.sleep(1.0)  # an idle worker has ended by then
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

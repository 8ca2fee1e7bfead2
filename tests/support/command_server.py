"""Start commands in processes of their own without importing the libraries in each of them.

`command("train", ...)` gives the arguments for `subprocess`, `bash` and the like. They start a small client, which
passes its streams, folder and environment to a server of this test process. The server has imported the libraries, and
forks a process that runs `instruct_lab.cli` as the main module. Signals to the client reach that process, and the
client ends as that process does, by an exit code or a signal. If the client is killed, the process is killed before the
server takes another command, so that a killed client is a killed command.

What happens while Python starts (import paths, streams that are closed) needs a new interpreter instead:
`real_command`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import sys

MODULE = "instruct_lab.cli"
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HEAD = 8
"""Number of bytes that hold the length of a request."""


def real_command(*arguments: str) -> list[str]:
    """Return a command line that runs `instruct-lab` with these arguments in a new interpreter."""
    return [sys.executable, "-m", MODULE, *arguments]


def command(*arguments: str) -> list[str]:
    """Return a command line that runs `instruct-lab` with these arguments in a process that the server forks."""
    return [sys.executable, "-S", "-E", __file__, _server().socket, *arguments]


@functools.cache
def _server() -> _Server:
    return _Server()


class _Server:
    """The server of this process, which ends with this process."""

    def __init__(self) -> None:
        import subprocess
        import tempfile

        self.socket = os.path.join(tempfile.mkdtemp(), "socket")
        code = f"import sys; sys.path[:] = {sys.path!r}; import support.command_server as s; s.serve({self.socket!r})"
        given = [sys.executable, "-c", code]
        self._process = subprocess.Popen(given, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"


# ---- the server


def serve(path: str) -> None:
    """Run commands until the standard input ends."""
    import selectors

    import support.libraries  # noqa: F401

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(16)
    child_ended, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("ready", flush=True)
    running: dict[int, socket.socket] = {}
    watched = selectors.DefaultSelector()
    for file in (0, child_ended, listening):
        watched.register(file, selectors.EVENT_READ)
    while True:
        ready = [key.fileobj for key, _ in watched.select()]
        if 0 in ready:
            for process in running:
                os.kill(process, signal.SIGKILL)
            return
        if child_ended in ready:
            os.read(child_ended, 4096)
        for process, client in [*running.items()]:
            is_gone = client in ready  # a client sends nothing more, so it was killed
            if is_gone:
                os.kill(process, signal.SIGKILL)
            ended, status = os.waitpid(process, 0 if is_gone else os.WNOHANG)
            if ended:
                if not is_gone:
                    client.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
                watched.unregister(client)
                running.pop(process).close()
        if listening in ready:
            client = listening.accept()[0]
            head, files, _, _ = socket.recv_fds(client, HEAD, 3)
            request = json.loads(_received(client, int.from_bytes(head)))
            process = os.fork()
            if process == 0:
                watched.close()
                for one in (listening, client, *running.values()):
                    one.close()
                _run(request, files)
            for file in files:
                os.close(file)
            client.sendall(b"%d\n" % process)
            running[process] = client
            watched.register(client, selectors.EVENT_READ)


def _received(client: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        content += client.recv(size - len(content))
    return content


def _run(request: dict, files: list[int]) -> None:
    """Run a command in this process, which was forked for it, and end the process."""
    import atexit
    import runpy
    import threading

    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, *FORWARDED):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv[1:] = request["arguments"]
    code = 1
    try:
        runpy.run_module(MODULE, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as exited:
        code = exited.code if isinstance(exited.code, int) else int(exited.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


# ---- the client


def run(path: str, *arguments: str) -> None:
    """Let the server run a command with the streams, folder and environment of this process, and end as it does."""
    server = socket.socket(socket.AF_UNIX)
    server.connect(path)
    umask = os.umask(0)
    os.umask(umask)
    request = {"arguments": arguments, "folder": os.getcwd(), "environment": {**os.environ}, "umask": umask}
    content = json.dumps(request).encode()
    socket.send_fds(server, [len(content).to_bytes(HEAD)], [0, 1, 2])
    server.sendall(content)
    answers = server.makefile()
    process = int(answers.readline())
    for number in FORWARDED:
        signal.signal(number, lambda number, _: os.kill(process, number))
    code = int(answers.readline())
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    run(*sys.argv[1:])

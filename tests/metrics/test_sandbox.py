"""What a program in the sandbox cannot do: with every layer that this machine has, and with each single layer."""

import os
import socket
import sys
import time

import pytest
from support.hanging import no_hang

from instruct_lab.metrics import sandbox
from instruct_lab.metrics.sandbox import Program

IN_FORCE = sandbox.layers()


def finished(program, wanted=sandbox.LAYERS, **settings):
    """Whether a program without tests reaches its end."""
    return sandbox.run(Program(program), **({"timeout_s": 100, "memory_mb": 512, "wanted": wanted} | settings)).passed


def needs(layer):
    known = any(name.startswith(layer) for name in IN_FORCE)
    return pytest.mark.skipif(not known, reason=f"this machine has no {layer}")


def test_limits_of_the_process_hold_everywhere():
    assert "rlimits" in IN_FORCE


def test_nothing_runs_where_a_required_layer_is_missing():
    assert not finished("", ("rlimits", "seccomp"), required=("landlock",))
    assert not finished("", ("rlimits",), required=("seccomp",))
    assert not finished("", ("rlimits",), required=sandbox.REQUIRED)
    assert finished("", ("rlimits",), required=("rlimits",))


def test_a_program_that_comes_to_its_end_finished_and_others_did_not():
    assert finished("assert 1 + 1 == 2\nprint('x' * 100_000)")
    assert not finished("assert 1 + 1 == 3")
    assert not finished("this is no Python")
    assert not finished("'''" + "\0")


@pytest.mark.parametrize(
    "program",
    [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "raise SystemExit",
        "exit()",
        "print('passed')\nimport sys; sys.exit()",
        "import atexit, os; atexit.register(os._exit, 0); raise SystemExit",
    ],
)
def test_leaving_early_with_status_0_is_not_an_end(program):
    assert not finished(program + "\nassert False")


@pytest.mark.slow
@pytest.mark.parametrize("program", ["while True: pass", "import time; time.sleep(999)", "input()\nwhile True: pass"])
def test_an_endless_program_is_killed_when_its_time_is_over(program):
    with no_hang():
        assert not finished(program, timeout_s=0.5)


@pytest.mark.slow
def test_memory_is_limited():
    allocate = "x = bytearray(300 << 20)"
    assert finished(allocate, memory_mb=512)
    assert not finished(allocate, memory_mb=128)
    assert not finished("x = []\nwhile True: x.append('bomb' * 100_000)", memory_mb=128)


def test_the_size_of_a_file_is_limited():
    assert finished("open('small', 'wb').write(bytes(1 << 20))")
    assert not finished("open('large', 'wb').write(bytes(32 << 20))")


def test_a_program_works_in_a_folder_of_its_own_without_environment_or_input(monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "open sesame")
    assert finished(
        "import os, sys, tempfile\n"
        "assert 'SECRET_KEY' not in os.environ and os.getcwd() == os.path.realpath(os.environ['HOME'])\n"
        "open('note', 'w').write('1'); assert open('note').read() == '1'; os.remove('note')\n"
        "tempfile.TemporaryFile().write(b'1')\n"
        "assert sys.stdin.read() == '' and os.listdir('.') == []\n"
    )


@pytest.mark.slow
def test_the_standard_library_is_there_and_installed_packages_only_where_asked():
    assert finished("import collections, datetime, decimal, heapq, json, math, random, re, threading, unittest")
    assert finished("import threading as t; x = t.Thread(target=print); x.start(); x.join()", ("rlimits", "seccomp"))
    assert not finished("import pydantic_core")
    assert finished("import pydantic_core", packages=True)


FORK = "import os\npid = os.fork()\nif pid == 0: os._exit(0)"
SPAWN = f"import subprocess; subprocess.run([{sys.executable!r}, '-c', ''], check=True)"
CONNECT = "import socket; socket.create_connection(('127.0.0.1', {port}), timeout=5)"


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@needs("seccomp")
@pytest.mark.parametrize("program", [FORK, SPAWN, "import os; os.system('true') and 1 / 0"])
def test_no_process_is_started(program):
    assert not finished(program)


def test_no_connection_is_opened(port):
    assert finished(CONNECT.format(port=port), ("rlimits",))  # it could, were it let
    assert not finished(CONNECT.format(port=port))


@pytest.mark.parametrize(
    "layer", [pytest.param("seccomp", marks=needs("seccomp")), pytest.param("netns", marks=needs("netns"))]
)
def test_each_single_layer_keeps_a_program_from_the_network(layer, port):
    assert not finished(CONNECT.format(port=port), (layer,))


@pytest.mark.slow
@needs("seccomp")
def test_seccomp_keeps_a_program_from_sockets_processes_signals_and_changes_of_modes(port, tmp_path):
    only_seccomp = ("seccomp",)
    (tmp_path / "file").touch()
    assert not finished(CONNECT.format(port=port), only_seccomp)
    assert not finished(FORK, only_seccomp)
    assert not finished(SPAWN, only_seccomp)
    assert not finished("import os; os.kill(os.getppid(), 0)", only_seccomp)
    assert not finished(f"import os; os.chmod({str(tmp_path / 'file')!r}, 0o600)", only_seccomp)
    assert not finished("import os; os.setsid()", only_seccomp)


ATTEMPTS = {
    "read": "open('{0}/secret').read()",
    "write": "open('{0}/new', 'w')",
    "append": "open('{0}/secret', 'a').write('x')",
    "remove": "import os; os.remove('{0}/secret')",
    "rename": "import os; os.rename('{0}/secret', '{0}/stolen')",
    "make a folder": "import os; os.mkdir('{0}/folder')",
    "list": "import os; os.listdir('{0}')",
    "truncate": "import os; os.truncate('{0}/secret', 0)",
    "read through a link": "import os; os.symlink('{0}/secret', 'link'); open('link').read()",
    "read the system": "open('/etc/passwd').read()",
}


@pytest.mark.slow
@pytest.mark.parametrize("attempt", ATTEMPTS)
@needs("landlock")
def test_landlock_keeps_a_program_from_files_outside(attempt, tmp_path):
    for wanted, succeeds in ((), True), (("landlock",), False):
        folder = tmp_path / ("held" if wanted else "free")
        folder.mkdir()
        (folder / "secret").write_text("open sesame")
        assert finished(ATTEMPTS[attempt].format(folder), wanted) is succeeds
    assert os.listdir(folder) == ["secret"]
    assert (folder / "secret").read_text() == "open sesame"


@needs("landlock")
def test_the_folder_itself_stays_open():
    assert finished("open('inside', 'w').write('1'); assert open('inside').read() == '1'", ("landlock",))


def test_without_layers_processes_start():
    assert finished(FORK, ())
    assert finished(SPAWN, ())


@pytest.mark.slow
def test_processes_that_a_program_started_are_killed_with_it(tmp_path):
    seen = tmp_path / "alive"
    program = (
        f"import os, time\nif os.fork() == 0:\n    time.sleep(1); open({str(seen)!r}, 'w'); os._exit(0)\ntime.sleep(99)"
    )
    assert not finished(program, (), timeout_s=0.5)
    time.sleep(1)
    assert not seen.exists()


@needs("landlock")
def test_the_interpreters_own_files_are_read_but_not_written():
    assert finished("import os; open(os.__file__)", ("landlock",))
    assert not finished("import os; open(os.__file__, 'r+')", ("landlock",))


NATIVE = "import ctypes; libc = ctypes.CDLL(None, use_errno=True); assert "


@pytest.mark.slow
@needs("landlock")
@needs("seccomp")
@pytest.mark.parametrize(
    "condition",
    [
        "libc.open(b'/etc/passwd', 0) >= 0",
        "libc.open(b'/proc/self/../../tmp', 0) >= 0",
        "libc.socket(2, 1, 0) >= 0",
        "libc.fork() >= 0",
        "libc.syscall(59, b'/none', None, None) and ctypes.get_errno() == 2",  # execve
        "libc.kill(libc.getppid(), 0) == 0",
        "libc.syscall(234, libc.getppid(), libc.getppid(), 0) == 0",  # tgkill
        "libc.syscall(438, libc.syscall(434, libc.getppid(), 0), 3, 0) >= 0",  # pidfd_getfd
    ],
)
def test_the_layers_hold_for_native_code(condition):
    assert finished(NATIVE + condition, ("rlimits",))
    assert not finished(NATIVE + condition)

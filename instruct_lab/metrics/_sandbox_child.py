"""Run one untrusted program with limits; started as a process by `_sandbox`, never imported.

In, on stdin: JSON with the program, its limits and a token. Out, on a separate file descriptor: a line of JSON with the
active layers, then the token if the program reached its end.
"""

import contextlib
import ctypes
import json
import os
import platform
import resource
import struct
import sys
from collections.abc import Callable
from typing import Any

CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWIPC, CLONE_THREAD = 0x10000000, 0x40000000, 0x08000000, 0x00010000
SET_PDEATHSIG, SET_NO_NEW_PRIVS, SET_SECCOMP, SECCOMP_MODE_FILTER = 1, 38, 22, 2
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446  # system call numbers, the same on every architecture
READ_FILE, READ_FOLDER, WRITE_FILE, EXECUTE, IOCTL = 1 << 2, 1 << 3, 1 << 1, 1 << 0, 1 << 15
RIGHTS_OF_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
X86_64 = 0xC000003E
REFUSED_CALLS = (  # system call numbers of x86-64
    *(41, 425),  # socket, io_uring_setup
    *(57, 58, 59, 322),  # fork, vfork, execve, execveat
    *(62, 200, 424, 101, 311),  # kill, tkill, pidfd_send_signal, ptrace, process_vm_writev
    *(109, 112, 272, 308),  # setpgid, setsid, unshare, setns
    *(
        90,
        91,
        268,
        452,
        92,
        93,
        94,
        260,
        132,
        235,
        261,
        280,
        188,
        189,
        190,
    ),  # modes, owners, times, attributes of files
    *(
        161,
        155,
        165,
        304,
        321,
        298,
        250,
        169,
    ),  # chroot, pivot_root, mount, open_by_handle_at, bpf, perf, keyctl, reboot
)
CLONE, CLONE3 = 56, 435
REFUSED_EVENTS = (
    *("socket.", "ctypes.", "subprocess.", "pty.", "os.fork", "os.exec", "os.spawn", "os.posix_spawn", "os.system"),
    *("os.kill", "os.chmod", "os.chown", "os.utime", "os.setxattr", "os.chflags"),
)
WRITING_EVENTS = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
READING_EVENTS = ("os.listdir", "os.scandir", "os.chdir")

LINUX = sys.platform == "linux"
libc: Any = ctypes.CDLL(None, use_errno=True) if LINUX else None


def limit(seconds: int, memory_bytes: int, file_bytes: int) -> str:
    """Limit processor time, memory, file size and the number of open files."""
    for name, value in {
        "RLIMIT_CPU": seconds,
        "RLIMIT_AS": memory_bytes,
        "RLIMIT_FSIZE": file_bytes,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_CORE": 0,
    }.items():
        limit_one(name, value)
    return "rlimits"


def limit_one(name: str, value: int) -> None:
    """Set one limit if the system supports it; macOS does not support limits of memory."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        resource.setrlimit(getattr(resource, name), (value, value))


def leave_network() -> str | None:
    """Enter a new network namespace without any active network interface."""
    for flags in (CLONE_NEWNET | CLONE_NEWIPC, CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC):
        if libc.unshare(flags) == 0:
            return "netns"
    return None


def shut_files(folder: str, readable: list[str]) -> str | None:
    """Use Landlock to allow reading only the interpreter and the folder, writing only the folder, and no execution."""
    version = libc.syscall(LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return None
    rights = RIGHTS_OF_VERSION[max(known for known in RIGHTS_OF_VERSION if known <= version)]
    network, scope = (0b11 if version >= 4 else 0), (0b11 if version >= 6 else 0)  # no TCP; no signal leaves
    attributes = struct.pack("QQQ", rights, network, scope)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = libc.syscall(LANDLOCK_CREATE, attributes, len(attributes), 0)
    if ruleset < 0:
        return None
    allowed = [(path, READ_FILE | READ_FOLDER) for path in readable]
    allowed += [(folder, rights & ~EXECUTE & ~IOCTL), ("/dev/null", READ_FILE | WRITE_FILE)]
    for path, wanted in allowed:
        if not os.path.exists(path):
            continue
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        wanted &= rights if os.path.isdir(path) else READ_FILE | WRITE_FILE
        libc.syscall(LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", wanted, opened), 0)
        os.close(opened)
    restricted = libc.syscall(LANDLOCK_RESTRICT, ruleset, 0) == 0
    os.close(ruleset)
    return f"landlock{version}" if restricted else None


def refuse_calls() -> str | None:
    """Use seccomp to refuse sockets, new processes (threads are allowed) and signals to other processes."""
    if platform.machine() != "x86_64" or sys.maxsize < 1 << 32:
        return None
    equal, above, bit, load, give = 0x15, 0x35, 0x45, 0x20, 0x06
    allow, refuse, kill, absent = 0x7FFF0000, 0x00050000 | 1, 0x80000000, 0x00050000 | 38
    steps = [(load, 0, 0, 4), (equal, 1, 0, X86_64), (give, 0, 0, kill), (load, 0, 0, 0)]
    steps += [(above, 0, 1, 0x40000000), (give, 0, 0, refuse)]  # the same calls under other numbers
    for number in REFUSED_CALLS:
        steps += [(equal, 0, 1, number), (give, 0, 0, refuse)]
    steps += [(equal, 0, 1, CLONE3), (give, 0, 0, absent)]  # the C library then calls clone, whose flags can be read
    steps += [(equal, 0, 3, CLONE), (load, 0, 0, 16), (bit, 1, 0, CLONE_THREAD), (give, 0, 0, refuse)]
    steps += [(give, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code))
    return "seccomp" if libc.prctl(SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0) == 0 else None


def watch(folder: str, readable: list[str]) -> str:
    """Enforce the same restrictions with an audit hook, on every system; Python code cannot remove the hook."""
    folders = [os.path.realpath(folder), os.devnull]
    readable = [*folders, *map(os.path.realpath, readable)]

    def check(path: object, roots: list[str]) -> None:
        if isinstance(path, str | bytes):
            resolved = os.path.realpath(os.fsdecode(path))
            if not any(resolved == root or resolved.startswith(root + os.sep) for root in roots):
                raise PermissionError(f"{resolved} is outside the sandbox")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(REFUSED_EVENTS) or (event == "import" and arguments[0] == "_posixsubprocess"):
            raise PermissionError(f"{event} is refused in the sandbox")
        if event == "open":
            writes = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            check(arguments[0], folders if writes else readable)
        elif event in WRITING_EVENTS or event in READING_EVENTS:
            for path in arguments:
                check(path, folders if event in WRITING_EVENTS else readable)

    sys.addaudithook(hook)
    return "audit"


def main() -> None:
    """Limit this process, run the program, and report that it reached its end."""
    task = json.load(sys.stdin)
    folder, report, wanted = task["folder"], task["report"], task["layers"]
    roots = {sys.prefix, sys.base_prefix, sys.exec_prefix, *(path for path in sys.path if path)}
    readable = sorted(roots | {"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/dev/urandom"})
    if LINUX:
        libc.prctl(SET_PDEATHSIG, 9, 0, 0, 0)
        libc.prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    steps: dict[str, Callable[[], str | None]] = {
        "rlimits": lambda: limit(task["seconds"], task["memory_bytes"], task["file_bytes"])
    }
    if LINUX:
        steps |= {"netns": leave_network, "landlock": lambda: shut_files(folder, readable), "seccomp": refuse_calls}
    steps["audit"] = lambda: watch(folder, readable)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    layers = [steps[name]() for name in steps if name in wanted]
    if "rlimits" in layers and "seccomp" not in layers:
        limit_one("RLIMIT_NPROC", 0)  # this also refuses threads; it has no effect for root
    for name in [name for name in sys.modules if name.partition(".")[0] in ("ctypes", "_ctypes")]:
        del sys.modules[name]  # a program would have to load it again, which is refused
    os.write(report, json.dumps([layer for layer in layers if layer]).encode() + b"\n")
    code = compile(task["program"], "program.py", "exec")
    exec(code, {"__name__": "__main__", "__builtins__": __builtins__})
    os.write(report, task["token"].encode())


if __name__ == "__main__":
    main()

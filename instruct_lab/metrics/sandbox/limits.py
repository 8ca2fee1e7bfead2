"""A script that restricts its own process by means of the operating system and then runs `worker.py` in it.

The script is never imported. Its input, on stdin, is JSON: what to run, the folder to run it in, and the limits. Its
output, on the file descriptor `report`, is a line of JSON with the names of the active layers (kinds of restriction).
The kernel enforces all layers, so that no code in the process can remove them. A process that lacks a required layer
ends before it runs anything.
"""

import contextlib
import ctypes
import json
import os
import platform
import resource
import struct
import sys
import types
from collections.abc import Callable
from pathlib import Path
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
    *(62, 200, 129, 297, 424),  # kill, tkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal
    *(101, 310, 311, 438),  # ptrace, process_vm_readv, process_vm_writev, pidfd_getfd
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
CLONE, CLONE3, TGKILL = 56, 435, 234
PACKAGE = "instruct_lab.metrics.sandbox"
MODULES = ("exchange", "worker")
"""Modules of this folder that are executed here, in this order, without importing the package around them."""
LINUX = sys.platform == "linux"
libc: Any = ctypes.CDLL(None, use_errno=True) if LINUX else None


def limit(seconds: int, memory_bytes: int, file_bytes: int) -> str:
    """Limit processor time, memory, file size and the number of open files, and forbid core dumps.

    Returns:
        `rlimits`, the name of this layer of the sandbox.
    """
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
    """Set one resource limit, such as `RLIMIT_AS`.

    A limit that the operating system does not support is skipped; macOS, for example, cannot limit memory in this way.
    """
    with contextlib.suppress(AttributeError, ValueError, OSError):
        resource.setrlimit(getattr(resource, name), (value, value))


def leave_network() -> str | None:
    """Enter a network namespace without active interfaces, and a new namespace for inter-process communication.

    Returns:
        `netns`, the name of this layer of the sandbox; `None` if the kernel refuses.
    """
    for flags in (CLONE_NEWNET | CLONE_NEWIPC, CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC):
        if libc.unshare(flags) == 0:
            return "netns"
    return None


def shut_files(folder: str, readable: list[str]) -> str | None:
    """Use Landlock to forbid executing any file, and access to files outside `folder`.

    Files in the folders `readable` can still be read, but not written. Newer versions of Landlock also forbid TCP
    connections and signals to processes outside the sandbox.

    Returns:
        The name of this layer of the sandbox with Landlock's version, such as `landlock6`; `None` if the system does
        not support it.
    """
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
    """Use seccomp to refuse sockets, new processes (threads are allowed) and signals to other processes.

    Returns:
        `seccomp`, the name of this layer of the sandbox; `None` if the system does not support it.
    """
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
    steps += [(equal, 0, 3, TGKILL), (load, 0, 0, 16), (equal, 1, 0, os.getpid()), (give, 0, 0, refuse)]
    steps += [(give, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code))
    return "seccomp" if libc.prctl(SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0) == 0 else None


def main() -> None:
    """Restrict this process and run `worker.py` in it; end with status 3 if a required layer is not active."""
    task = json.load(sys.stdin)
    folder, report, wanted = task["folder"], task["report"], task["layers"]
    roots = {sys.prefix, sys.base_prefix, sys.exec_prefix, *(path for path in sys.path if path)}
    readable = sorted(roots | {"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/dev/urandom"})
    paths = {f"{PACKAGE}.{name}": Path(__file__).with_name(f"{name}.py") for name in MODULES}
    sources = {name: compile(path.read_bytes(), str(path), "exec") for name, path in paths.items()}
    if LINUX:
        libc.prctl(SET_PDEATHSIG, 9, 0, 0, 0)
        libc.prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    steps: dict[str, Callable[[], str | None]] = {
        "rlimits": lambda: limit(task["seconds"], task["memory_bytes"], task["file_bytes"])
    }
    if LINUX:
        steps |= {"netns": leave_network, "landlock": lambda: shut_files(folder, readable), "seccomp": refuse_calls}
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    layers = [layer for name in steps if name in wanted and (layer := steps[name]())]
    if "rlimits" in layers and "seccomp" not in layers:
        limit_one("RLIMIT_NPROC", 0)  # this also refuses threads; it has no effect for root
    if report is not None:
        os.write(report, json.dumps(layers).encode() + b"\n")
    if any(not any(layer.startswith(name) for layer in layers) for name in task["required"]):
        sys.exit(3)
    for name, code in sources.items():
        sys.modules[name] = types.ModuleType(name)
        exec(code, vars(sys.modules[name]))
    sys.modules[f"{PACKAGE}.worker"].main(task)


if __name__ == "__main__":
    main()

"""Execution of a program in one process and of its tests in another; the tests call the program's functions.

The process of the tests has everything that decides whether a program passes: the tests, the comparisons, the expected
values, and the file descriptor to which the result is written. The process of the program only gets the arguments of
calls and sends results.
"""

import ast
import builtins
import contextlib
import importlib
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

from instruct_lab.metrics.sandbox.exchange import Peer  # already loaded by `limits.py`


def _describe(peer: Peer) -> Iterator[tuple[str, Any]]:
    """Yield each name that the program defines, with a list that lets the tests' process find or build its value.

    The list is `["module", NAME]` for a module, `["from", MODULE]` for an object that can be imported from a module of
    the standard library, and `["value", ENCODED]`, with the encoded value, for everything else.
    """
    for name, value in list(peer.namespace.items()):
        with contextlib.suppress(Exception):
            if isinstance(value, types.ModuleType):
                yield name, ["module", value.__name__]
            elif getattr(value, "__module__", None) in sys.stdlib_module_names and value.__name__ == name:
                yield name, ["from", value.__module__]
            elif not name.startswith("__"):
                yield name, ["value", peer.encode(value)]


def _resolve(peer: Peer, name: str, kind: str, content: Any, packages: bool) -> Any:
    """Return the value that the tests use for a name that the program defines.

    Args:
        peer: the connection to the program's process.
        name: the name.
        kind: `module`: a module, which is imported here; `from`: an object that is imported from a module; `value`: any
            other value.
        content: the name of the module, or the encoded value.
        packages: whether modules outside the standard library are allowed.

    Raises:
        ImportError: the module is not allowed, or the program uses the name of a standard module for another module.
    """
    if kind == "value":
        return peer.decode(content)
    known = content.partition(".")[0] in sys.stdlib_module_names or packages
    if not known or (kind == "module" and name != content and name in sys.stdlib_module_names):
        raise ImportError(name)
    module = importlib.import_module(content)
    return module if kind == "module" else getattr(module, name)


def _needed_names(tests: str) -> set[str]:
    """Return the names that the tests use but do not define, except names of Python's built-in functions.

    If the result is empty, the function that the tests call has the name of a built-in function, such as `sum`. The
    caller then lets the program's functions replace built-in ones, unless the task names an entry point. In all other
    cases, the tests use Python's own built-in functions.
    """
    nodes = list(ast.walk(ast.parse(tests)))
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    defined |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    defined |= {(node.asname or node.name).partition(".")[0] for node in nodes if isinstance(node, ast.alias)}
    defined |= {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return used - defined - set(vars(builtins))


def serve(task: dict[str, Any], peer: Peer) -> None:
    """Run the program, then execute the requests of the tests until the tests end."""
    exec(compile(task["source"], "program.py", "exec"), peer.namespace)
    peer.send("ready", dict(_describe(peer)))
    while True:
        peer.answer(*peer.receive())


def judge(task: dict[str, Any], peer: Peer) -> None:
    """Run the tests of a generated program, and write `passed` to the report if none fails.

    The tests can use the global names of the program. The program's functions are replaced by stand-ins, which let the
    program's own process execute each call.
    """
    names: dict[str, Any] = {}
    replaces = not task["entry_point"] and not _needed_names(task["tests"])
    kind, *described = peer.receive()
    if kind == "ready":
        for name, (origin, content) in described[0].items():
            if replaces or not hasattr(builtins, name):
                with contextlib.suppress(Exception):
                    names[name] = _resolve(peer, name, origin, content, task["packages"])
    peer.namespace.update(names)
    with contextlib.suppress(Exception):  # a prompt that is no whole program
        exec(compile(task["prompt"], "prompt.py", "exec"), peer.namespace)
    if task["entry_point"]:
        peer.namespace[task["entry_point"]] = names[task["entry_point"]]
    exec(compile(task["tests"], "tests.py", "exec"), peer.namespace)
    os.write(task["report"], b"passed\n")
    os._exit(0)


def main(task: dict[str, Any]) -> None:
    """Run the program if the task's `role` is `program`, otherwise the tests."""
    sys.set_int_max_str_digits(0)
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    is_program = task["role"] == "program"
    peer = Peer(task["reader"], task["writer"], vars(module), answers=is_program)
    (serve if is_program else judge)(task, peer)

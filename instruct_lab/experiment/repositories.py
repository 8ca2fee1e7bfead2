"""Find the override that chooses a model or data by the name of a repository, or by a path."""

from __future__ import annotations

import re

from instruct_lab.config.options import option_of_repository
from instruct_lab.config.quoting import to_hydra
from instruct_lab.files import user_path

REPOSITORIES = {"model": re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?"), "data": re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")}
"""Regular expressions for the names of repositories, keyed by group; a name of data must include an owner."""


def reference_override(group: str, name: str) -> str | None:
    """Return the override that chooses a model or data by its repository or path; `None` if the name is neither.

    If the file of an option names the repository, the override chooses this option.

    Args:
        group: `model` or `data`.
        name: name of the repository, such as `gpt2` or `owner/name`, or path of a folder or file.
    """
    path = user_path(name)
    if name.startswith(("/", ".", "~")) or path.suffix == ".gguf" or path.exists():
        return f"{group}={to_hydra(f'path:{name}')}"
    if not REPOSITORIES[group].fullmatch(name):
        return None
    option = option_of_repository(group, name)
    return f"{group}={option.name}" if option else f"{group}=hub:{name}"

"""Find the override that chooses a model or a data set by the name of its Hugging Face repository or by its path."""

from __future__ import annotations

import re

from instruct_lab.config.options import option_of_repository
from instruct_lab.config.quoting import to_hydra
from instruct_lab.files import user_path

REPOSITORIES = {"model": re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?"), "data": re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")}
"""Regular expressions for the names of Hugging Face repositories, keyed by group.

A model may be named without the owner of its repository (`gpt2`); a data set may not.
"""


def reference_override(group: str, name: str) -> str | None:
    """Return the override that chooses a model or a data set by its Hugging Face repository or by its path.

    If the file of an option names the repository, the override chooses this option. The result is `None` if `name` can
    be neither a repository nor a path.

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

"""Write the config in a run record as YAML, and read the same values back."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from instruct_lab.errors import wrap_errors


def to_yaml(config: Any) -> str:
    """Encode a config as YAML that OmegaConf reads back unchanged, even texts that look like numbers or `${...}`."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(_escape(config)), resolve=False)


def _escape(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    if isinstance(value, Mapping):
        return {key: _escape(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_escape(inner) for inner in value]
    return value


def read_yaml(path: Path) -> Any:
    """Read a YAML file as dictionaries and lists; return `None` if the file does not exist.

    Raises:
        InstructLabError: the file is not YAML, or is not readable.
    """
    from omegaconf import OmegaConf

    from instruct_lab.config.interpolation import bounded
    from instruct_lab.config.yaml_text import read_yaml_text

    if not os.path.lexists(path):
        return None
    with wrap_errors(what="This file of a run record cannot be read", where=str(path)), bounded():
        return OmegaConf.to_container(OmegaConf.create(read_yaml_text(path)), resolve=True)


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the full key and value of each leaf of a config; a list or an empty mapping is a leaf."""
    if isinstance(node, Mapping) and node:
        for key, inner in node.items():
            yield from leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node

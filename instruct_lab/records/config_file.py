"""Write the config in a run record as YAML, and read the same values back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from instruct_lab.errors import wrap_errors


def to_yaml(config: Any) -> str:
    """Encode a config as YAML that `read_yaml` reads back unchanged, including strings such as `"1"` or `"${a}"`."""
    from omegaconf import OmegaConf

    from instruct_lab.config.environment_values import escape

    return OmegaConf.to_yaml(OmegaConf.create(escape(config)), resolve=False)


def read_yaml(path: Path) -> Any:
    """Read a YAML file as dictionaries and lists; return `None` if the file does not exist.

    A string such as `${oc.env:TOKEN}`, which names an environment variable, becomes an instance of `Interpolated`, a
    subclass of `str`. The variable is not read.

    Raises:
        InstructLabError: the file is not YAML, or is not readable.
    """
    from omegaconf import OmegaConf

    from instruct_lab.config.environment_values import read_plain
    from instruct_lab.config.interpolation import bounded
    from instruct_lab.config.yaml_text import read_yaml_text

    if not os.path.lexists(path):
        return None
    with wrap_errors(what="This file of a run record cannot be read", where=str(path)), bounded():
        return read_plain(OmegaConf.create(read_yaml_text(path)))


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the full key (such as `trainer.max_steps`) and the value of each setting in a nested config.

    The settings in nested dictionaries are yielded one by one. A list or an empty dictionary is yielded as one value.
    """
    if isinstance(node, Mapping) and node:
        for key, inner in node.items():
            yield from leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node

"""The composed config as text, each value with the place it came from."""

from __future__ import annotations

from typing import Any

import yaml
from omegaconf import OmegaConf

from instruct_lab.config.compose import Composition, leaves, provenance


def shown(composition: Composition) -> str:
    """The config as YAML, each line ending with the file or override that set it."""
    origins = provenance(composition)
    lines: list[str] = []
    opened: list[str] = []
    for key in leaves(composition.config):
        *above, name = key.split(".")
        for depth, part in enumerate(above):
            if opened[depth : depth + 1] != [part]:
                lines.append(f"{'  ' * depth}{part}:")
                opened[depth:] = [part]
        opened[len(above) :] = []
        value = OmegaConf.select(composition.config, key, throw_on_missing=False, throw_on_resolution_failure=False)
        raw = _raw(composition, key)
        text = f"{'  ' * len(above)}{name}: {_one_line(raw)}"
        if isinstance(raw, str) and "${" in raw and value is not None:
            text += f" → {_one_line(OmegaConf.to_container(value) if OmegaConf.is_config(value) else value)}"
        lines.append(f"{text:<86}  # {_origin(origins, key)}")
    return "\n".join(lines)


def shown_json(composition: Composition) -> dict[str, Any]:
    """The same for programs: `{"choices": {group: option}, "config": {...}, "origins": {key: file or "override"}}`."""
    origins = provenance(composition)
    return {
        "choices": composition.choices,
        "config": OmegaConf.to_container(composition.config, resolve=False, throw_on_missing=False),
        "origins": {key: _origin(origins, key) for key in leaves(composition.config)},
    }


def _raw(composition: Composition, key: str) -> Any:
    node: Any = composition.config
    for part in key.split("."):
        node = node._get_node(part)
    return (
        OmegaConf.to_container(node, resolve=False)
        if OmegaConf.is_config(node) and not node._is_none()
        else (None if node is None else node._value())
    )


def _one_line(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).strip()
    return text.removesuffix("...").strip()


def _origin(origins: dict[str, str], key: str) -> str:
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        origin = origins.get(".".join(parts[:length]))
        if origin is not None:
            return origin
    return "train.yaml"

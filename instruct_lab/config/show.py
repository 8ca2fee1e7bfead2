"""Render a composed config as text or JSON, with the file or override that set each value."""

from __future__ import annotations

from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from instruct_lab.config.classes import TARGET, class_of
from instruct_lab.config.component import Component
from instruct_lab.config.compose import Composition
from instruct_lab.config.external import ExternalClass
from instruct_lab.config.fields import fields_of
from instruct_lab.config.interpolation import bounded
from instruct_lab.config.provenance import leaves, provenance


def render(composition: Composition, with_unset: bool = False) -> str:
    """Render the config as YAML; each line ends with the file or override that set its value.

    Args:
        composition: the composed config.
        with_unset: whether to show the fields of components that neither a file nor an override sets, with their
            defaults.
    """
    with bounded():
        return "\n".join(_lines(*_with_origins(composition, with_unset)))


def _lines(config: DictConfig, origins: dict[str, str]) -> list[str]:
    lines: list[str] = []
    opened: list[str] = []
    for key in leaves(config):
        *above, name = key.split(".")
        for depth, part in enumerate(above):
            if opened[depth : depth + 1] != [part]:
                lines.append(f"{'  ' * depth}{part}:")
                opened[depth:] = [part]
        opened[len(above) :] = []
        value = OmegaConf.select(config, key, throw_on_missing=False, throw_on_resolution_failure=False)
        raw = _raw_value(config, key)
        text = f"{'  ' * len(above)}{name}: {render_value(raw)}"
        if isinstance(raw, str) and "${" in raw and value is not None:
            text += f" → {render_value(OmegaConf.to_container(value) if OmegaConf.is_config(value) else value)}"
        lines.append(f"{text:<86}  # {_origin_of(origins, key)}")
    return lines


def to_json(composition: Composition, with_unset: bool = False) -> dict[str, Any]:
    """Convert a composed config to a dictionary for JSON.

    Its keys are `choices` (the chosen option of each group), `config`, and `origins` (the file or override that set
    each value).

    Args:
        composition: the composed config.
        with_unset: whether to include the fields of components that neither a file nor an override sets, with their
            defaults.
    """
    config, origins = _with_origins(composition, with_unset)
    return {
        "choices": composition.choices,
        "config": OmegaConf.to_container(config, resolve=False, throw_on_missing=False),
        "origins": {key: _origin_of(origins, key) for key in leaves(config)},
    }


def render_value(value: Any) -> str:
    """Render a value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).strip()
    return text.removesuffix("...").strip()


def _with_origins(composition: Composition, with_unset: bool) -> tuple[DictConfig, dict[str, str]]:
    origins = provenance(composition)
    if not with_unset:
        return composition.config, origins
    tree = OmegaConf.to_container(composition.config, resolve=False, throw_on_missing=False)
    _add_unset(tree, "", origins)
    config = OmegaConf.create(tree)
    assert isinstance(config, DictConfig)
    return config, origins


def _add_unset(node: Any, key: str, origins: dict[str, str]) -> None:
    """Add to each component in a config the fields that the config does not set, with their defaults.

    Args:
        node: the config as dictionaries and lists, or a value in it; it is changed in place.
        key: full key of the value.
        origins: mapping from the full key of each value to the name of the file or override that set it. For each added
            field, a text such as `default of LoRA` is added to this mapping.
    """
    if not isinstance(node, dict):
        return
    for name, inner in node.items():
        _add_unset(inner, f"{key}.{name}" if key else str(name), origins)
    kind = class_of(node[TARGET], key, []) if TARGET in node else None
    if kind is None:
        return
    described: type[Component] | ExternalClass = kind if isinstance(kind, type) else ExternalClass(node[TARGET], {})
    for field in fields_of(described):
        if field.name not in node and not field.is_required:
            node[field.name] = field.default
            origins[f"{key}.{field.name}" if key else field.name] = f"default of {node[TARGET].rpartition('.')[2]}"


def _raw_value(config: DictConfig, key: str) -> Any:
    """Return the value of a full key with its interpolations unresolved."""
    node: Any = config
    for part in key.split("."):
        node = node._get_node(part)
    if OmegaConf.is_config(node) and not node._is_none():
        return OmegaConf.to_container(node, resolve=False)
    return None if node is None else node._value()


def _origin_of(origins: dict[str, str], key: str) -> str:
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        origin = origins.get(".".join(parts[:length]))
        if origin is not None:
            return origin
    return "train.yaml"

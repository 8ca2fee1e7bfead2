"""Find the file or override that set each value of a composed config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hydra._internal.defaults_list import create_defaults_list
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from instruct_lab.config.compose import PRIMARY, Composition, initialized_hydra
from instruct_lab.config.options import GROUPS
from instruct_lab.config.references import ReferenceSource


def provenance(composition: Composition) -> dict[str, str]:
    """Return the origin of each value in a composed config, keyed by the value's full key.

    The origin is the path of an option file below `conf/` or `experiments/`, a reference such as
    `model=hub:OWNER/NAME`, or the word `override`. For a value that the program set, it is the reason as text.
    """
    origins: dict[str, str] = {}
    for origin, config in composed_files(composition):
        for key in leaves(config):
            origins[key] = origin
    for override in composition.applied:
        if override.key_or_group not in GROUPS:
            _record_override(origins, override)
    return origins | composition.derived


def composed_files(composition: Composition) -> Iterator[tuple[str, DictConfig]]:
    """Yield the name and the content of each option file in a composed config, in the order in which they are applied.

    The name of an option file is a path such as `tuning/lora.yaml`. A reference has no file: the name is then the
    override, such as `model=hub:OWNER/NAME`, and the content is the config that was made from the reference.
    """
    usable = [str(override.input_line) for override in composition.applied]
    with initialized_hydra():
        loader: Any = GlobalHydra.instance().config_loader()
        parsed, repository = loader._parse_overrides_and_create_caching_repo(PRIMARY, usable)
        for default in create_defaults_list(repository, PRIMARY, parsed, True, False).defaults:
            if default.config_path is None or default.config_path.startswith("hydra"):
                continue
            loaded = loader._load_single_config(default=default, repo=repository)
            is_reference = loaded.provider == ReferenceSource.PROVIDER
            origin = default.config_path.replace("/", "=", 1) if is_reference else f"{default.config_path}.yaml"
            yield origin, loaded.config


def _record_override(origins: dict[str, str], override: Override) -> None:
    key = override.key_or_group
    for known in [known for known in origins if known == key or known.startswith(f"{key}.")]:
        del origins[known]
    value = override.value()
    if isinstance(value, dict):
        for leaf in leaves(OmegaConf.create({key: value})):
            origins[leaf] = "override"
    origins[key] = "override"


def leaves(config: Any, prefix: str = "") -> Iterator[str]:
    """Yield the full key of each innermost value in a config; a list counts as one value."""
    for key in config:
        full = f"{prefix}.{key}" if prefix else str(key)
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation() and len(node):
            yield from leaves(node, full)
        else:
            yield full

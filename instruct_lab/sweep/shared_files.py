"""Compose the configs of many points; option files that several points share are read only once."""

from __future__ import annotations

import copy
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from instruct_lab.config.compose import load_config


class SharedFiles:
    """Loads configs like `instruct_lab.config.compose.load_config`, but reads each set of option files only once.

    Overrides of single values are applied to the loaded files, in the given order, as Hydra does. Use an instance only
    for a short time, since it does not notice changes of the files.
    """

    def __init__(self) -> None:
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def load(self, overrides: list[Override]) -> DictConfig:
        """Load a config; changes that the caller makes to it do not affect configs loaded later."""
        loader: Any = GlobalHydra.instance().config_loader()
        files: list[Override] = []
        values: list[Override] = []
        for override in overrides:
            key = override.key_or_group
            is_option = "." not in key and bool(loader.get_group_options(key))
            if override.is_force_add() and not is_option:
                values.append(override)
            else:
                if not is_option:  # such as a deletion, which applies to values set before it
                    files += values
                    values.clear()
                files.append(override)
        key_of_files = tuple(str(override.input_line) for override in files)
        if key_of_files not in self._composed:
            self._composed[key_of_files] = load_config(files)
        config = copy.deepcopy(self._composed[key_of_files])
        for value in values:
            OmegaConf.update(config, value.key_or_group, value.value(), merge=True, force_add=True)
        return config

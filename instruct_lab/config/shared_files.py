"""Compose configs with Hydra. To save time, the option files are read only once for configs with the same options."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from instruct_lab.config.options import STUDIES, roots
from instruct_lab.config.yaml_text import MAX_BYTES

PRIMARY = "train"
MAX_COMPOSED = 64
"""Maximum number of configs that are kept in memory, each composed from another set of options."""
MAX_LABS = 4

_Files = tuple[tuple[str, object], ...]


class SharedFiles:
    """A cache for composing `conf/train.yaml` with overrides, which reads the files for each set of options only once.

    It caches a config for each set of overrides that choose options. The overrides that set values are then applied to
    a copy of the cached config. The result is the same as Hydra's. Use an instance only for a short time, since it does
    not notice when a file changes.
    """

    def __init__(self) -> None:
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def load(self, overrides: list[Override]) -> DictConfig:
        """Compose the config with the given overrides; the caller may change the result, which is a copy."""
        files: list[Override] = []
        values: list[Override] = []
        for override in overrides:
            is_value = override.is_force_add() and override.package is None
            if is_value and not _is_option(override):
                values.append(override)
            else:
                if values and not _is_option(override):  # such as a deletion, which applies to values set before it
                    files += values
                    values.clear()
                files.append(override)
        texts = tuple(str(override.input_line) for override in files)
        composed = self._composed.pop(texts, None)
        if composed is None:
            composed = hydra.compose(PRIMARY, overrides=list(texts), return_hydra_config=True)
            while len(self._composed) >= MAX_COMPOSED:
                del self._composed[next(iter(self._composed))]
        self._composed[texts] = composed
        config = copy.deepcopy(composed)
        for value in values:
            OmegaConf.update(config, value.key_or_group, value.value(), merge=True, force_add=True)
        return config


def _is_option(override: Override) -> bool:
    """Whether an override chooses an option of a group, according to Hydra.

    A key with a dot is not the name of a group, so Hydra is not asked about it, which saves milliseconds.
    """
    loader: Any = GlobalHydra.instance().config_loader()
    key = override.key_or_group
    return "." not in key and bool(loader.get_group_options(key))


_recent: dict[_Files, SharedFiles] = {}


def load_config(overrides: list[Override]) -> DictConfig:
    """Compose `conf/train.yaml` with overrides; option files are not read again if they have not changed.

    This must be called inside a `with` block of `instruct_lab.config.compose.initialized_hydra`.
    """
    files = _option_files()
    shared = _recent.pop(files, None) if files is not None else None
    shared = shared or SharedFiles()
    config = shared.load(overrides)
    has_references = any(":" in str(choice) for choice in config.hydra.runtime.choices.values())
    if files is not None and not has_references:  # a model or data that a reference names may change
        while len(_recent) >= MAX_LABS:
            del _recent[next(iter(_recent))]
        _recent[files] = shared
    return config


def _option_files() -> _Files | None:
    """Return a value that is different whenever an option file has changed; `None` if changes cannot be recognised.

    It contains the sizes and modification times of the files of this package, and the contents of the user's files.
    Only files whose names end with `.yaml` count, since Hydra reads no others. The result is `None` if a folder is a
    symbolic link or cannot be read, or if a file of the user is too large or reads environment variables.
    """
    packaged, *labs = roots()
    files: list[tuple[str, object]] = []
    try:
        for root in (packaged, *labs):
            for folder in filter(Path.is_dir, (root / "conf", root / STUDIES)):
                for parent, folders, names in os.walk(folder, onerror=_raise):
                    paths = [Path(parent, name) for name in sorted(names) if name.endswith(".yaml")]
                    if any(Path(parent, name).is_symlink() for name in folders):
                        return None
                    files += [(str(path.relative_to(root)), _identity(path, root == packaged)) for path in paths]
    except OSError:
        return None
    return None if any(isinstance(found, bytes) and b"oc.env" in found for _, found in files) else tuple(files)


def _raise(error: OSError) -> NoReturn:
    raise error


def _identity(path: Path, is_packaged: bool) -> object:
    status = path.stat()
    if is_packaged:
        return status.st_mtime_ns, status.st_size
    if not path.is_file() or status.st_size > MAX_BYTES:
        raise OSError(f"{path} is not read")
    return path.read_bytes()

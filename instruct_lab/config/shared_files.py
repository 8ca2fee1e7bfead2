"""Compose configs with Hydra; configs that choose the same options read the option files only once."""

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
"""Maximum number of composed configs, each from another set of option files, that are kept in memory."""
MAX_LABS = 4

_Files = tuple[tuple[str, object], ...]


class SharedFiles:
    """A function object that composes `conf/train.yaml` with overrides and reads each set of option files only once.

    It caches the config composed from a set of option files, and applies overrides of single values to a copy, in the
    given order and with the same result as in Hydra. Use an instance only for a short time, since it does not notice if
    a file changes.
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
    """Whether an override chooses an option of a group.

    For a key with a dot, Hydra is not asked whether there is a group of this name, since that takes milliseconds.
    """
    loader: Any = GlobalHydra.instance().config_loader()
    key = override.key_or_group
    return "." not in key and bool(loader.get_group_options(key))


_recent: dict[_Files, SharedFiles] = {}


def load_config(overrides: list[Override]) -> DictConfig:
    """Compose `conf/train.yaml` with overrides; must be called inside `instruct_lab.config.compose.initialized_hydra`.

    Option files that have not changed since an earlier call in this process are not read again.
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
    """Return a value that changes whenever an option file changes; `None` if there is no such value.

    Packaged files are represented by their sizes and modification times, and the user's files by their contents. Only
    files whose names end with `.yaml` count, since Hydra reads no others. There is no such value if a folder is a
    symbolic link or cannot be read, or if a file of the user reads environment variables.
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

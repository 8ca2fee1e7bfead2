"""Hydra config sources, through which Hydra reads option files and studies, both this package's and the user's own.

A file whose content has not changed is parsed only once.
"""

from __future__ import annotations

import copy
import functools
import io
import os
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from instruct_lab.config.options import STUDIES, roots
from instruct_lab.config.references import ReferenceSource
from instruct_lab.config.yaml_text import LOADER, read_yaml_text
from instruct_lab.errors import InstructLabError, one_line


class LabSource(FileConfigSource):
    """A Hydra config source for a folder of option files; it checks the files, since they may come from a stranger."""

    @staticmethod
    def scheme() -> str:
        """Return `lab`: Hydra uses this source for the entries `lab://FOLDER` of its search path."""
        return "lab"

    def load_config(self, config_path: str) -> ConfigResult:
        """Read an option file.

        Raises:
            ConfigLoadError: the file does not exist, is not text, is too large, or does not contain a mapping.
        """
        path = Path(self.path, self._normalize_file_name(config_path))
        try:
            text = read_yaml_text(path)
        except (InstructLabError, OSError) as error:
            raise ConfigLoadError(f"{path} cannot be read: {one_line(error)}") from error
        config = copy.deepcopy(_parse(text, str(path)))  # Hydra changes it
        header = self._get_header_dict(text[:512])
        return ConfigResult(config=config, path=f"{self.scheme()}://{self.path}", provider=self.provider, header=header)

    def is_config(self, config_path: str) -> bool:
        """Whether there is an option file at this path, or anything else, such as a folder or a broken link.

        If it is not a file, `load_config` raises an error.
        """
        return os.path.lexists(Path(self.path, self._normalize_file_name(config_path)))


@functools.lru_cache(maxsize=1024)
def _parse(text: str, path: str) -> Any:
    root = yaml.compose(text, Loader=LOADER)
    if not isinstance(root, yaml.MappingNode):
        found = "nothing" if root is None else "one value" if isinstance(root, yaml.ScalarNode) else "a list"
        raise ConfigLoadError(f"{path}: expected keys with values, and found {found} (write {{}} for no settings)")
    stream: Any = io.StringIO(text)
    stream.name = path  # errors state it
    return OmegaConf.load(stream)


class StudySource(LabSource):
    """A Hydra config source that serves a folder of studies as the group `experiments`."""

    @staticmethod
    def scheme() -> str:
        """Return `studies`: Hydra uses this source for the entries `studies://FOLDER` of its search path."""
        return "studies"

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider=provider, path=path if "://" in path else f"studies://{path}")

    def load_config(self, config_path: str) -> ConfigResult:
        """Read the study `experiments/NAME`.

        Raises:
            ConfigLoadError: there is no such study, or its file is not text, is too large, or contains no mapping.
        """
        inside = self._inside(config_path)
        if inside is None:
            raise ConfigLoadError(f"Config not found: {config_path}")
        result = super().load_config(inside)
        result.header["package"] = result.header.get("package") or "_global_"
        return result

    def available(self) -> bool:
        """Whether the folder of studies exists."""
        return os.path.isdir(self.path)

    def is_group(self, config_path: str) -> bool:
        """Whether a path is the group `experiments` or a folder inside it."""
        inside = self._inside(config_path)
        return inside is not None and super().is_group(inside)

    def is_config(self, config_path: str) -> bool:
        """Whether a path names a study, as `experiments/NAME` does."""
        inside = self._inside(config_path)
        return inside not in (None, "") and super().is_config(inside or "")

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """List the studies and folders in the group `experiments` or in a folder inside it.

        For an empty path (the root of the search path), the list contains only the group itself.
        """
        if not config_path:
            return [] if results_filter == ObjectType.CONFIG else [STUDIES]
        inside = self._inside(config_path)
        return [] if inside is None else super().list(inside, results_filter)

    def _inside(self, config_path: str) -> str | None:
        path = config_path.strip("/")
        if path == STUDIES:
            return ""
        return path.removeprefix(f"{STUDIES}/") if path.startswith(f"{STUDIES}/") else None


class LabSearchPath(SearchPathPlugin):
    """Hydra plugin that adds this package's studies, the user's files, and references to Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append this package's folder `experiments/`, the user's folders, and an entry for references.

        The user's folders are `conf/` and `experiments/` in the working directory. This package's folder `conf/` is in
        the search path already; its entry is changed such that `LabSource` reads it.
        """
        for known in search_path.get_path():
            if known.provider == "main":
                known.path = f"{LabSource.scheme()}://{known.path}"
        for index, root in enumerate(roots()):
            provider = "instruct_lab" if index == 0 else "lab"
            if index and (root / "conf").is_dir():
                search_path.append(provider, f"lab://{root / 'conf'}")
            search_path.append(f"{provider}-{STUDIES}", f"studies://{root / STUDIES}")
        search_path.append(ReferenceSource.PROVIDER, f"{ReferenceSource.scheme()}://")

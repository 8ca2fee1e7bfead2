"""Search for data files by a path, which names a file, a folder, or several files as a pattern such as `*.jsonl`.

A folder can hold the files of several splits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from instruct_lab.data.audit import Audit
from instruct_lab.data.sources.base import BrokenRow, Row
from instruct_lab.data.sources.compressed import content_name
from instruct_lab.data.sources.file_formats import wrap_read_errors
from instruct_lab.data.sources.files import FIRST_ROWS, SUFFIXES, Files
from instruct_lab.data.split import SplitName
from instruct_lab.errors import InstructLabError
from instruct_lab.files import user_path

TEXT_SUFFIXES = (".txt", ".text")
SPLIT_WORDS: Mapping[str, SplitName] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Words that stand for a split in the names of files and folders, as on the Hugging Face Hub."""
WORD = re.compile(r"[^\W\d_]+")
MAX_FILES_EXAMINED = 20


@dataclasses.dataclass(frozen=True)
class FoundFiles:
    """The data files that a path names.

    Args:
        source: the name of the class that reads the files: `Files` or `TextFiles`.
        paths: the path, pattern or list of files of each split.
        unused: names of files that have the extension of a data file but belong to no split.
    """

    source: str
    paths: Mapping[SplitName, str | list[str]]
    unused: tuple[str, ...] = ()

    def first_rows(self) -> list[Row]:
        """Return the first rows of the first files of each split.

        Text files are not read: each split of them gives one row, whose column `text` contains the word "text".

        Raises:
            InstructLabError: a file cannot be read, is empty, or its first row is broken.
        """
        return [row for split, path in self.paths.items() for row in self._rows_of(path)]

    def _rows_of(self, path: str | list[str]) -> list[Row]:
        if self.source == "TextFiles":
            return [Row({"text": "text"}, str(path))]
        rows: list[Row] = []
        for file in Files(path=path).files()[:MAX_FILES_EXAMINED]:
            first = list(itertools.islice(Files(path=str(file)).rows(Path(), Audit(), ""), FIRST_ROWS))
            if isinstance(first[0], BrokenRow):
                raise first[0].error
            rows += [row for row in first if isinstance(row, Row)]
        return rows


def find_files(name: str) -> FoundFiles:
    """Find the files that a path names.

    Args:
        name: a file, a folder or a pattern.

    Raises:
        InstructLabError: there is no such file, or the folder has no data files.
    """
    path = user_path(name)
    if path.is_dir():
        return _files_in(name, path)
    is_text = Path(name).suffix.casefold() in TEXT_SUFFIXES
    if not is_text:
        for problem in Files(path=name).problems():
            if problem.key == "path":
                do = f"did you mean path:{problem.suggestion}?" if problem.suggestion else "correct the path"
                raise InstructLabError(problem.reason[0].upper() + problem.reason[1:], where=name, do=do)
    else:
        Files(path=name).files()
    return FoundFiles("TextFiles" if is_text else "Files", {"train": name})


def _files_in(name: str, folder: Path) -> FoundFiles:
    """Find the data files in a folder and its subfolders.

    A file belongs to the split that its path mentions, such as the test split for `test/rows.jsonl`.
    """
    _refuse_other_folders(name, folder)
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(folder)))
    tables = [file for file in files if _suffix(file) in SUFFIXES and file.name != "dataset_infos.json"]
    texts = [file for file in files if file.suffix.casefold() == ".txt"] if not tables else []
    if not tables and not texts:
        known = ", ".join((*SUFFIXES, ".txt"))
        raise InstructLabError(f"The folder has no data files ({known})", where=name, do="name the file")
    splits = {file: _split_of(file.relative_to(folder)) for file in tables or texts}
    if "train" not in splits.values():
        splits = {file: split or "train" for file, split in splits.items()}
    source = "Files" if tables else "TextFiles"
    by_split: dict[SplitName, list[Path]] = {}
    for file, split in splits.items():
        if split is not None:
            by_split.setdefault(split, []).append(file)
    unused = tuple(str(file.relative_to(folder)) for file, split in splits.items() if split is None)
    paths = {split: _path_of(name, folder, found) for split, found in by_split.items()}
    return FoundFiles(source, paths, unused)


def _path_of(name: str, folder: Path, found: Sequence[Path]) -> str | list[str]:
    """Return a path or pattern that matches exactly the found files or, if no pattern does, a list of their paths."""
    paths = [str(Path(name) / file.relative_to(folder)) for file in found]
    if len(paths) == 1:
        return paths[0]
    endings = {file.name[file.name.index(".") :] for file in found}
    if len(endings) == 1 and not glob.has_magic(name):
        pattern = str(Path(name) / "**" / f"*{endings.pop()}")
        if set(Files(path=pattern).files()) == set(found):
            return pattern
    return paths


def _refuse_other_folders(name: str, folder: Path) -> None:
    if (folder / "dataset_info.json").is_file() or (folder / "dataset_dict.json").is_file():
        raise InstructLabError(
            "The folder was written by `save_to_disk` of datasets, whose Arrow files are not read",
            where=name,
            do='write Parquet with datasets.load_from_disk(FOLDER).to_parquet("FILE.parquet"), for each split',
        )
    if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        raise InstructLabError("The folder holds a model, not data", where=name, do=f"type model=path:{name}")


def _split_of(file: Path) -> SplitName | None:
    """Return the split that the name of a file, or else of a folder above it, mentions; `None` if none does."""
    parts = (file.name.partition(".")[0], *reversed(file.parts[:-1]))
    return next((split for part in parts if (split := split_of_words(part)) is not None), None)


def split_of_words(name: str) -> SplitName | None:
    """Return the split that a name mentions first, such as test in `test_sft`; `None` if it mentions none."""
    return next((SPLIT_WORDS[word] for word in WORD.findall(name.casefold()) if word in SPLIT_WORDS), None)


def _suffix(file: Path) -> str:
    with contextlib.suppress(InstructLabError), wrap_read_errors(file):
        return Path(content_name(file)).suffix.casefold()
    return ""


def _is_hidden(file: Path) -> bool:
    return any(part.startswith((".", "_")) for part in file.parts)

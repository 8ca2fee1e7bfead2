"""Options for data that the user names by a reference: `data=path:FILE` or `data=hub:OWNER/NAME`.

The format is recognised by the columns of the first rows. Validation and test rows come from files or splits that are
named after them; if there are none, these rows are taken from the training rows, selected by a hash of the prompt.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from instruct_lab.config.quoting import quote_for_shell, quote_value, to_hydra
from instruct_lab.config.references import Reference, ReferencedOption, known_option
from instruct_lab.data.formats.recognition import Recognized, recognize, recognize_misspelled
from instruct_lab.data.sources.base import Row
from instruct_lab.data.sources.referenced_files import find_files
from instruct_lab.data.sources.referenced_hub import HubName, find_hub_rows
from instruct_lab.data.split import SPLIT_NAMES, SplitName
from instruct_lab.errors import InstructLabError
from instruct_lab.hub import HubUnreachable

PACKAGE = "instruct_lab.data"
HELD_OUT_SHARE = 0.1
"""The proportion of the training rows that becomes the validation split if no validation rows are given.

The test split gets the same proportion if no test rows are given.
"""
FORMATS = (
    "messages; conversations; prompt and completion; instruction, input and output; question and answer; prompt, "
    "completion and label; prompt, chosen and rejected; text"
)
MAX_COLUMNS = 30


@dataclasses.dataclass(frozen=True)
class ReferencedRows:
    """The data sources that a reference such as `path:FILE` names, and their first rows.

    Args:
        source_name: the name of the source in the config; it is the same in every split.
        sources: for each split, the config of the source that supplies its rows.
        first_rows: the first rows of the sources.
        notes: phrases about the revision that is read, and about files or splits that are not read.
        unreadable: the reason why the first rows could not be read, and what the user can do; empty if they were read.
    """

    source_name: str
    sources: Mapping[SplitName, dict[str, Any]]
    first_rows: Sequence[Row]
    notes: tuple[str, ...] = ()
    unreadable: str = ""


def describe_option(reference: Reference) -> ReferencedOption:
    """Examine the data that a reference names, and return the config option for it.

    If the Hub cannot be reached, an existing option for the same Hub repository is returned.

    Raises:
        InstructLabError: there is no such file or data set, or the Hub cannot be reached and no option names the data
            set.
    """
    try:
        rows = _files(reference.name) if reference.scheme == "path" else _hub(HubName.parse(reference.name))
    except HubUnreachable:
        name = HubName.parse(reference.name)
        known = known_option("data", name.repository, name.revision)
        if known is None:
            raise
        return known
    splits, split_note = _splits(rows)
    config = {"_target_": f"{PACKAGE}.DataSet", **splits}
    found = [] if rows.unreadable else recognize(rows.first_rows)
    if len(found) != 1:
        reason = rows.unreadable or _explain(rows.first_rows, found)
        return ReferencedOption({**config, "format": "???"}, (split_note,), {"format": reason})
    recognized = found[0]
    if other := _file_with_other_columns(recognized, rows.first_rows):
        return ReferencedOption({**config, "format": "???"}, (split_note,), {"format": other})
    config["format"] = {"_target_": _target(recognized), **recognized.fields}
    return ReferencedOption(config, (_describe(recognized, rows), split_note))


def _files(name: str) -> ReferencedRows:
    found = find_files(name)
    target = f"{PACKAGE}.{found.source}"
    sources = {split: {"_target_": target, "path": path} for split, path in found.paths.items()}
    notes = (f"not read: {', '.join(found.unused)}",) if found.unused else ()
    try:
        return ReferencedRows("file", sources, found.first_rows(), notes)
    except InstructLabError as error:
        return ReferencedRows("file", sources, [], notes, unreadable=str(error))


def _hub(name: HubName) -> ReferencedRows:
    found = find_hub_rows(name)
    source = {"_target_": f"{PACKAGE}.HubDataSet", "repository": name.repository, "revision": found.name.revision}
    if name.configuration is not None:
        source["configuration"] = name.configuration
    sources: dict[SplitName, dict[str, Any]] = {
        split: source | {"split": of_hub} for split, of_hub in found.splits.items()
    }
    used = [f"{split} is the Hub's split {of_hub}" for split, of_hub in found.splits.items() if split != of_hub]
    unused = [f"splits not read: {', '.join(found.unused)}"] if found.unused else []
    is_moving = (
        [f"{name.revision} is commit {found.name.revision[:12]}"] if name.revision != found.name.revision else []
    )
    return ReferencedRows("hub", sources, found.first_rows, (*is_moving, *used, *unused))


def _splits(rows: ReferencedRows) -> tuple[dict[str, Any], str]:
    """Return the config of the sources and of the division of the training rows, and a text that describes both.

    The division takes validation and test rows from the training rows if there are no sources for them.
    """
    config: dict[str, Any] = {name: {rows.source_name: source} for name, source in rows.sources.items()}
    missing = [name for name in SPLIT_NAMES if name not in rows.sources]
    own = [name for name in SPLIT_NAMES[1:] if name in rows.sources]
    texts = [f"{' and '.join(own)} rows are the source's own"] if own else []
    if missing and "train" in rows.sources:
        shares = {name: HELD_OUT_SHARE if name in missing else 0.0 for name in SPLIT_NAMES[1:]}
        config["split"] = {"_target_": f"{PACKAGE}.HashSplit", **shares}
        keys = " and ".join(f"data.split.{name}" for name in missing)
        percent = f"{HELD_OUT_SHARE:.0%} of the training rows {'each ' if len(missing) > 1 else ''}"
        texts.append(f"{' and '.join(missing)} rows are {percent}by a hash of the prompt (change with {keys})")
    return config, "; ".join([*texts, *rows.notes])


def _describe(recognized: Recognized, rows: ReferencedRows) -> str:
    """Describe the recognised format in a sentence that names the columns that it reads and those that it ignores."""
    built = recognized.build()
    columns = list(dict.fromkeys(str(name) for row in rows.first_rows for name in row.columns))
    used = [name for name in columns if name in built._known_columns]
    unused = [name for name in columns if name not in used]
    ignored = f"; not used: {_list(unused)}" if unused else ""
    example = f"data.format._target_={PACKAGE}.Columns"
    return (
        f"read as {recognized.format.__name__}, {recognized.meaning}, from {_list(used)}{ignored} "
        f"(choose otherwise with data.format.FIELD=COLUMN, or another format such as {example}: "
        "`instruct-lab list data`)"
    )


def _explain(rows: Sequence[Row], found: Sequence[Recognized]) -> str:
    """Explain why no format was chosen, and list the overrides with which the user can choose each possible format."""
    columns = list(dict.fromkeys(str(name) for row in rows for name in row.columns))
    what = "fit several formats" if found else "fit no known format"
    near = found or recognize_misspelled(rows)
    lines = [f"{one.format.__name__} ({one.meaning}): {_overrides(_target(one), one.fields)}" for one in near]
    if not lines:
        first, second = [*columns, "COLUMN", "COLUMN"][:2]
        fields = {"prompt": f"{{{first}}}", "completion": f"{{{second}}}"}
        lines = [f"for example {_overrides(f'{PACKAGE}.Columns', fields)}"]
    known = "" if found else f"; the usual columns are: {FORMATS}"
    return f"the columns {_list(columns)} {what}; choose by typing {' or '.join(lines)}{known}"


def _file_with_other_columns(recognized: Recognized, rows: Sequence[Row]) -> str:
    """Return an error message about the first file that lacks a column of the format; empty if no file lacks any."""
    by_file: dict[str, dict[str, None]] = {}
    for row in rows:
        by_file.setdefault(row.where.rpartition(", ")[0], {}).update(dict.fromkeys(map(str, row.columns)))
    built = recognized.build()
    for file, columns in by_file.items():
        for problem in built.column_problems(list(columns)):
            return (
                f"most rows are read as {recognized.format.__name__}, and {file} has no column {problem.value!r} "
                f"(columns: {_list(list(columns))}); name only files of one kind"
            )
    return ""


def _overrides(target: str, fields: Mapping[str, Any]) -> str:
    """Return the overrides that choose a format, quoted for the shell."""
    texts = [f"data.format._target_={target}"]
    for field, value in fields.items():
        text = quote_value(value) if isinstance(value, str) and "{" in value else to_hydra(value)
        texts.append(f"data.format.{field}={text}")
    return " ".join(map(quote_for_shell, texts))


def _target(recognized: Recognized) -> str:
    return f"{PACKAGE}.{recognized.format.__name__}"


def _list(columns: Sequence[str]) -> str:
    more = f" and {len(columns) - MAX_COLUMNS} more" if len(columns) > MAX_COLUMNS else ""
    return (", ".join(columns[:MAX_COLUMNS]) or "none") + more

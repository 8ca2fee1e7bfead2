"""Build the data option of a study (the file in `conf/data`) from the data sets that another tool's config names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from instruct_lab.conversion.rules import Conversion

PACKAGE = "instruct_lab.data"
FILE = re.compile(r"\.(jsonl?|ndjson|csv|tsv|parquet|txt)(\.(gz|bz2|xz|zst))?$")


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of one data set that another tool's config names: where they are read from, and in which format.

    Args:
        source: the config of the component that reads the rows.
        format: the name of the format's class in `instruct_lab.data`, and the values of its fields.
        name: the name of the data set's entry in the other tool's config, such as `datasets[0]`.
        is_held_out: whether the rows are for validation.
        weight: proportion of these rows in a mixture of data sets; `None`: every row is used once per epoch.
    """

    source: Mapping[str, Any]
    format: tuple[str, Mapping[str, Any]]
    name: str
    is_held_out: bool = False
    weight: float | None = None


def hub_source(name: str, revision: Any = None, configuration: Any = None, split: Any = None) -> dict[str, Any]:
    """Return the config of a component that reads rows from a data set of the Hugging Face Hub.

    Args:
        name: name of the repository.
        revision: revision of the repository; `None`: `main`.
        configuration: name of the data set's configuration; `None`: its default.
        split: name of the split; `None`: `train`.
    """
    source = {"_target_": f"{PACKAGE}.HubDataSet", "repository": name, "revision": str(revision or "main")}
    if configuration:
        source["configuration"] = str(configuration)
    if split and split != "train":
        source["split"] = str(split)
    return source


def file_source(path: str | list[str]) -> dict[str, Any]:
    """Return the config of a component that reads rows from files on this machine."""
    is_text = isinstance(path, str) and path.endswith(".txt")
    return {"_target_": f"{PACKAGE}.{'TextFiles' if is_text else 'Files'}", "path": path}


def is_file(name: str) -> bool:
    """Whether the name of a data set is a path on this machine; otherwise, it is a repository of the Hub."""
    return bool(FILE.search(name)) or name.startswith(("/", "./", "../", "~")) or name.count("/") > 1


def build(state: Conversion, rows: Sequence[Rows], held_out: float = 0.0) -> None:
    """Set the data of a study from several data sets.

    Training rows of the same format are combined into one data set. Rows with a weight are an exception: they stay a
    data set of their own. Held-out rows are added to the first data set of their format. If there are several data sets
    in the end, they become the parts of a mixture.

    Held-out rows in a format that no training rows have are left out, and the report says so.

    Args:
        state: the conversion, which contains the study and the report.
        rows: the data sets.
        held_out: how much of the training rows of a data set without held-out rows is used for validation: a proportion
            below 1, or a number of rows from 1 up.
    """
    groups: list[list[Rows]] = []
    for one in rows:
        joined = (group for group in groups if group[0].format == one.format and one.weight is None)
        same = next((group for group in joined if one.is_held_out or group[0].weight is None), None)
        groups.append([one]) if same is None else same.append(one)
    share, limit = (held_out, None) if held_out < 1 else (0.1, int(held_out))
    trained = [group for group in groups if any(not one.is_held_out for one in group)]
    _report_lost(state, [one for group in groups if group not in trained for one in group])
    sets = [_data_set(group, share, limit) for group in trained]
    if not sets:
        return
    if len(sets) == 1:
        state.data = sets[0]
    else:
        parts = {f"part{number}": part for number, part in enumerate(sets, start=1)}
        state.data = {"_target_": f"{PACKAGE}.Mixture", "parts": parts}
        if weights := {name: group[0].weight for name, group in zip(parts, trained, strict=True) if group[0].weight}:
            state.data |= {"weights": weights, "epoch": "smallest"}
    state.has_held_out = share > 0 or any(one.is_held_out for group in trained for one in group)
    if not state.has_held_out:
        state.set("trainer.val_check_interval", None)
        state.set("evaluation.splits", [])
        state.set("evaluation.checkpoint", "last")
        state.set("callbacks.checkpoint.monitor", None)


def _report_lost(state: Conversion, lost: Sequence[Rows]) -> None:
    """Report the held-out rows whose format no training rows have."""
    outer = state.take_overrides()  # they belong to the row of the setting that is being converted
    for one in lost:
        note = (
            f"left out, since no training rows have its format ({one.format[0]}): write these rows in a training format"
        )
        state.add_row(one.name, _path_of(one.source), "different", note)
    for override in outer:
        state.mention(override)


def _data_set(group: Sequence[Rows], share: float, limit: int | None) -> dict[str, Any]:
    name, fields = group[0].format
    config: dict[str, Any] = {"_target_": f"{PACKAGE}.DataSet"}
    for split, is_held_out in (("train", False), ("validation", True)):
        sources = [one.source for one in group if one.is_held_out is is_held_out]
        if sources:
            config[split] = {_source_name(source, number): dict(source) for number, source in enumerate(sources, 1)}
    config["format"] = {"_target_": f"{PACKAGE}.{name}", **fields}
    if share and "validation" not in config:
        config["split"] = {"_target_": f"{PACKAGE}.HashSplit", "validation": share, "test": 0.0}
        if limit is not None:
            config["limit"] = {"validation": limit}
    return config


def _path_of(source: Mapping[str, Any]) -> str:
    path = source.get("repository") or source.get("path")
    return str(path[0] if isinstance(path, list) else path)


def _source_name(source: Mapping[str, Any], number: int) -> str:
    last = _path_of(source).rstrip("/").rpartition("/")[2].partition(".")[0]
    words = re.sub(r"\W+", "_", last, flags=re.ASCII).strip("_").casefold()
    return f"{words or 'rows'}_{number}" if number > 1 or not words[:1].isalpha() else words


def add_difference(state: Conversion, key: str, value: Any, note: str) -> None:
    """Report that a setting of a data set has no equivalent in this framework.

    Args:
        state: the conversion, which contains the report.
        key: name of the setting in the other tool.
        value: its value.
        note: what happens instead.
    """
    state.add_row(key, value, "different", note)

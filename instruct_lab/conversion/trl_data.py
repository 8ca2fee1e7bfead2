"""Convert the data sets in configs of TRL and of scripts built on TRL: a single data set, a list, or a mixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from instruct_lab.conversion import data
from instruct_lab.conversion.objectives import PAIRS
from instruct_lab.conversion.rules import Conversion, Different, Result, Same

Format = tuple[str, dict[str, Any]]
SEVERAL = ("datasets", "dataset_mixture", "dataset_mixer")
"""Settings that name several data sets; if one of them is set, `dataset_name` is ignored, as in TRL."""
ENTRY_KEYS = ("path", "id", "name", "config", "split", "data_files")
"""Keys that describe, in an entry of a list of data sets, where the rows are; each script uses some of them."""


def read_one(state: Conversion, value: Any) -> Result:
    """Set the data of the study from TRL's setting `dataset_name`, which names a single data set.

    If the config also has a list of data sets, `dataset_name` is ignored.
    """
    if any(state.get(key) for key in SEVERAL):
        return Same("not read beside a list of data sets, as in TRL")
    name = str(value)
    is_evaluated = str(state.get("eval_strategy", "no")) not in ("no", "False")
    splits = [(state.get("dataset_train_split", "train"), False)]
    if is_evaluated and not data.is_file(name):
        splits.append((state.get("dataset_test_split", "test"), True))
    found = _format(state, ())
    rows = [
        data.Rows(_source(name, state.get("dataset_config"), part), found, "dataset_name", held)
        for part, held in splits
    ]
    data.build(state, rows, held_out=0.1 if is_evaluated and data.is_file(name) else 0.0)
    state.mention(f"data={state.name}")
    return (
        f"read as {found[0]}, since TRL goes by the columns: if they are others, `instruct-lab check "
        f"data={'path' if data.is_file(name) else 'hub'}:{name}` recognises them, and data.format is what it prints"
    )


def read_several(state: Conversion, value: Any) -> Result:
    """Set the data of the study from TRL's setting `datasets`, a list of data sets.

    Each data set in the list may have a `fraction`, its proportion in the mixture.
    """
    return _read(state, "datasets", value, float(state.get("test_split_size", 0.0)))


def read_mixture(state: Conversion, value: Any) -> Result:
    """Set the data of the study from `dataset_mixture`, a setting of the alignment handbook's and Open R1's scripts.

    Its value is a mapping whose key `datasets` has a list of data sets.
    """
    if not isinstance(value, Mapping):
        return Different("a mapping with datasets is expected: name the data with data=hub:OWNER/NAME")
    for key, setting in value.items():
        if key == "test_split_size":
            state.mention("data.split.validation")
            state.add_row(f"dataset_mixture.{key}", setting, "converted", "held out of the rows of each part")
        elif key != "datasets":
            state.add_row(f"dataset_mixture.{key}", setting, "same", "the run's seed governs the order of examples")
    return _read(state, "dataset_mixture.datasets", value.get("datasets"), float(value.get("test_split_size") or 0.0))


def read_mixer(state: Conversion, value: Any) -> Result:
    """Set the data of the study from `dataset_mixer`, an older setting of the alignment handbook's scripts.

    The setting maps the name of each data set to the proportion of its rows that is used.
    """
    if not isinstance(value, Mapping):
        return Different("a mapping of data sets to shares is expected: name the data with data=hub:OWNER/NAME")
    splits, configs = state.get("dataset_splits", ["train", "test"]), state.get("dataset_configs")
    entries, tests = list[dict[str, Any]](), list[dict[str, Any]]()
    for number, (name, share) in enumerate(value.items()):
        entry = {"path": name} | ({"name": configs[number]} if configs else {})
        entries += [{**entry, "split": split, "weight": share} for split in splits if "train" in str(split)]
        tests += [{**entry, "split": split} for split in splits if "test" in str(split)]
    return _read(state, "dataset_mixer", entries, 0.0, tests)


def _read(
    state: Conversion, where: str, entries: Any, held_out: float, tests: Sequence[Mapping[str, Any]] = ()
) -> Result:
    """Set the data of the study from a list of data sets, and report how each of their settings is converted.

    Args:
        state: the conversion, which contains the study and the report.
        where: name of the setting whose value is the list.
        entries: the data sets for training, as a list; each is a name or a mapping of settings. A single data set may
            be given without a list.
        held_out: proportion of the training rows that is held out for validation.
        tests: the data sets for validation, each a mapping of settings.
    """
    listed = [*(entries if isinstance(entries, list) else [entries]), *tests]
    rows = []
    for number, one in enumerate(listed):
        entry = {"path": one} if isinstance(one, str) else one
        if not isinstance(entry, Mapping) or not (entry.get("path") or entry.get("id")):
            state.add_row(f"{where}[{number}]", one, "different", "an entry needs a path: it is left out")
        else:
            rows.append(_rows(state, f"{where}[{number}]", entry, is_held_out=number >= len(listed) - len(tests)))
    if not rows:
        return Different("no entry can be read here: name the data with data=path:FILE or data=hub:OWNER/NAME")
    data.build(state, rows, held_out=held_out)
    state.mention(f"data={state.name}")
    names = ", ".join(dict.fromkeys(one.format[0] for one in rows))
    return f"read as {names}, by the columns that an entry names, or else by the method"


def _rows(state: Conversion, where: str, entry: Mapping[str, Any], is_held_out: bool) -> data.Rows:
    """Return the rows of one data set in a list of data sets, and report how its settings are converted.

    Args:
        state: the conversion, which contains the report.
        where: name of the data set in the report, such as `datasets[0]`.
        entry: the data set's settings in the list, such as `path` and `split`.
        is_held_out: whether the rows are for validation.
    """
    name, configuration = str(entry.get("path") or entry.get("id")), entry.get("name") or entry.get("config")
    split, files = str(entry.get("split") or "train"), entry.get("data_files")
    if isinstance(files, Mapping):
        files = files.get(split) or next(iter(files.values()), None)
    is_on_hub = not data.is_file(name) and not files
    share = entry.get("weight")
    is_part = isinstance(share, int | float) and 0 < share < 1
    if is_part and is_on_hub and "[" not in split:
        split = f"{split}[:{max(1, round(100 * float(share or 0)))}%]"
    source = _source(name, configuration, split) if is_on_hub else data.file_source(files or name)
    for key, setting in entry.items():
        label = f"{where}.{key}"
        if key in ENTRY_KEYS:
            state.mention("data")
            state.add_row(label, setting, "converted", "a part of the data option")
        elif key == "columns":
            state.add_row(label, setting, "same", "the format reads the columns that it names")
        elif key == "weight" and not is_part:
            state.add_row(label, setting, "same", "every row is read once an epoch")
        elif key == "weight" and is_on_hub:
            state.mention(f"split: {split}")
            state.add_row(label, setting, "converted", "the first rows, where the script takes random ones")
        elif key == "fraction":
            state.mention(f"data.weights: {setting}")
            state.add_row(label, setting, "converted", "an epoch ends when a part is used up, as in TRL")
        else:
            state.add_row(label, setting, "different", "rows are read whole, with the columns of the format")
    weight = entry.get("fraction")
    columns = entry.get("columns") or ()
    return data.Rows(source, _format(state, columns), where, is_held_out, None if weight is None else float(weight))


def _source(name: str, configuration: Any, split: Any) -> dict[str, Any]:
    return data.file_source(name) if data.is_file(name) else data.hub_source(name, None, configuration, split)


def _format(state: Conversion, columns: Sequence[str]) -> Format:
    """Return the format of the rows, according to the study's objective and the columns that the config names.

    Args:
        state: the conversion, which contains the study.
        columns: names of the data set's columns; empty if the config does not name them.
    """
    objective = state.choices.get("objective", "supervised")
    if objective in PAIRS:
        return "Preference", {} if not columns or "prompt" in columns else {"prompt": None}
    if objective == "kto":
        return "UnpairedPreference", {}
    text = state.config.get("dataset_text_field") or ("text" if "text" in columns and len(columns) == 1 else None)
    if text is not None:
        state.choose("template", "plain")
        return "PlainText", {} if text == "text" else {"text": str(text)}
    if {"prompt", "completion"} <= set(columns):
        return "PromptCompletion", {}
    return ("ShareGPT", {}) if "conversations" in columns else ("Messages", {})

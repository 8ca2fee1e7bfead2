"""Group runs that differ only in the seed into configurations (arms), and find the settings in which runs differ."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from instruct_lab.records.config_file import leaves
from instruct_lab.records.identity import config_hash
from instruct_lab.records.labels import label_runs
from instruct_lab.records.record import RunRecord
from instruct_lab.records.run_settings import RunSettings

LEFT_OUT = ("name", "runs_path", "cache_path")
"""Config keys that only decide where a run is written, and so are not compared."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """One configuration: runs that differ only in the seed.

    Args:
        id: the id of the configuration's only run. For several runs, it is the beginning that their ids share (all but
            the seed), or else the first id and the number of other runs.
        label: the options and values in which this configuration differs from the others, such as `lora r=8`. It is
            the configuration's id if no option or value distinguishes this configuration.
        runs: indices of the configuration's runs in the list of compared runs.
    """

    id: str
    label: str
    runs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Factor:
    """A config group whose chosen option differs between the runs, or a config key whose value differs.

    Args:
        key: name of the group, or full name of the key.
        values: each run's value, as text.
    """

    key: str
    values: tuple[str, ...]


def group_arms(records: Sequence[RunRecord]) -> list[Arm]:
    """Group the runs whose configs are equal except for the seed, in the order of each group's first run."""
    groups: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        groups.setdefault(config_hash({**record.config, "seed": None}), []).append(index)
    settings = [RunSettings.read(record) for record in records]
    by_run = label_runs(settings, with_seed=False)
    labels = [str(by_run[runs[0]]) for runs in groups.values()]
    ids = [_shared_id([records[index].id for index in runs]) for runs in groups.values()]
    return [
        Arm(name, label if label and labels.count(label) == 1 else name, tuple(runs))
        for name, label, runs in zip(ids, labels, groups.values(), strict=True)
    ]


def _shared_id(ids: list[str]) -> str:
    """Return one id for the runs of a configuration.

    The ids of a sweep's runs have the form `<sweep>-<point>-s<seed>`, where a point is one combination of settings. If
    the ids differ only in the seed, the result is `<sweep>-<point>`. Otherwise, it is the first id followed by
    `and N more`, where N is the number of other runs. The id of a single run is returned unchanged.
    """
    stems = {name.rpartition("-s")[0] for name in ids}
    if len(ids) == 1:
        return ids[0]
    return stems.pop() if len(stems) == 1 and "" not in stems else f"{ids[0]} and {len(ids) - 1} more"


def factors(records: Sequence[RunRecord]) -> list[Factor]:
    """Return the config groups and keys in which the runs differ, except the seed.

    If the runs chose different options of a group, the group is returned instead of the keys below it. If several
    groups or keys divide the runs in the same way, so that the value of one determines the values of the others, only
    the first of them is returned.
    """
    choices = choice_differences(records)
    config = config_differences(records)
    below = tuple(f"{group}." for group in choices)
    keys = [key for key in config if key != "seed" and not key.startswith(below) and key not in choices]
    found = [Factor(group, tuple(map(_format, options))) for group, options in choices.items()]
    found += [Factor(key, tuple(_format(value) for value in config[key])) for key in keys]
    kept: dict[tuple[int, ...], Factor] = {}
    for factor in found:
        levels = list(dict.fromkeys(factor.values))
        kept.setdefault(tuple(levels.index(value) for value in factor.values), factor)
    return list(kept.values())


def choice_differences(records: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """Return, for each config group in which the runs differ, the option that each run chose.

    The result is keyed by the group's name.
    """
    choices = [record.manifest.choices for record in records]
    found = {group: [one.get(group) for one in choices] for group in _keys(choices)}
    return {group: options for group, options in found.items() if _differ(options)}


def config_differences(records: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """Return, for each config key in which the runs differ, the value in each run; `None` for a run without the key.

    The result is keyed by full config key, such as `optimizer.lr`. Keys that only decide where a run is written
    (`LEFT_OUT`), such as `runs_path`, are not compared.
    """
    configs = [dict(leaves(record.config)) for record in records]
    found = {key: [one.get(key) for one in configs] for key in _keys(configs) if key.split(".")[0] not in LEFT_OUT}
    return {key: values for key, values in found.items() if _differ(values)}


def _keys(mappings: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for one in mappings for key in one))


def _differ(values: Sequence[Any]) -> bool:
    return any(value != values[0] for value in values)


def _format(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return "-" if value is None else json.dumps(value)

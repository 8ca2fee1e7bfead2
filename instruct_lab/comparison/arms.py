"""Arms of a comparison: runs of one config that differ in nothing but the seed; and what tells the arms apart."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from instruct_lab.records.config_file import leaves
from instruct_lab.records.identity import config_hash
from instruct_lab.records.record import RunRecord

LEFT_OUT = ("name", "runs_path", "cache_path")
"""Keys that say where a run is written."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """Runs of one config.

    Args:
        id: of its run; of several, the part that their ids share.
        label: the values that tell it from the other arms, `key=value` each.
        runs: places of its runs in the comparison.
    """

    id: str
    label: str
    runs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Factor:
    """A choice or a key in which the runs differ.

    Args:
        key: a group, where the runs chose different options of it; else a full key.
        values: each run's, as text.
    """

    key: str
    values: tuple[str, ...]


def arms_of(records: Sequence[RunRecord]) -> list[Arm]:
    """The runs by config, in the order of each arm's first."""
    places: dict[str, list[int]] = {}
    for place, record in enumerate(records):
        places.setdefault(config_hash({**record.config, "seed": None}), []).append(place)
    told = factors(records)
    labels = [" ".join(f"{one.key}={one.values[runs[0]]}" for one in told) for runs in places.values()]
    ids = [_shared_id([records[place].id for place in runs]) for runs in places.values()]
    return [
        Arm(name, label if label and labels.count(label) == 1 else name, tuple(runs))
        for name, label, runs in zip(ids, labels, places.values(), strict=True)
    ]


def _shared_id(ids: list[str]) -> str:
    """`<sweep>-<point>` of `<sweep>-<point>-s<seed>`; of runs that no sweep made, the first's and how many more."""
    stems = {name.rpartition("-s")[0] for name in ids}
    if len(ids) == 1:
        return ids[0]
    return stems.pop() if len(stems) == 1 and "" not in stems else f"{ids[0]} and {len(ids) - 1} more"


def factors(records: Sequence[RunRecord]) -> list[Factor]:
    """In what the runs differ, the seed left out.

    A group whose options differ stands for the keys below it, and the first of several that always vary together for
    all of them.
    """
    choices = choice_differences(records)
    config = config_differences(records)
    below = tuple(f"{group}." for group in choices)
    keys = [key for key in config if key != "seed" and not key.startswith(below) and key not in choices]
    found = [Factor(group, tuple(map(_text, options))) for group, options in choices.items()]
    found += [Factor(key, tuple(_text(value) for value in config[key])) for key in keys]
    kept: dict[tuple[int, ...], Factor] = {}
    for factor in found:
        levels = list(dict.fromkeys(factor.values))
        kept.setdefault(tuple(levels.index(value) for value in factor.values), factor)
    return list(kept.values())


def choice_differences(records: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """Group to each run's option, for the groups of which the runs chose different ones."""
    choices = [record.manifest.choices for record in records]
    found = {group: [one.get(group) for one in choices] for group in _keys(choices)}
    return {group: options for group, options in found.items() if _differ(options)}


def config_differences(records: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """Full key to each run's value, for the keys whose values are not the same in all runs."""
    configs = [dict(leaves(record.config)) for record in records]
    found = {key: [one.get(key) for one in configs] for key in _keys(configs) if key.split(".")[0] not in LEFT_OUT}
    return {key: values for key, values in found.items() if _differ(values)}


def _keys(mappings: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for one in mappings for key in one))


def _differ(values: Sequence[Any]) -> bool:
    return any(value != values[0] for value in values)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return "-" if value is None else json.dumps(value)

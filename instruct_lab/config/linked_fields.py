"""Set a field of a component to null if it no longer fits another field, which for example an override has changed.

A component declares which of its fields depend on each other: only one of two `exclusive_fields` may be set, and a
field in `fields_about` describes the value of another field. Values are set by option files, then by a study, and then
by overrides. If a later one of these sets a field, the earlier value of a field that depends on it no longer applies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from instruct_lab.config.classes import TARGET, class_of
from instruct_lab.config.component import Component
from instruct_lab.config.compose import Composition
from instruct_lab.config.options import GROUPS, STUDIES, options
from instruct_lab.errors import Problem

INHERITED, OPTION, STUDY, TYPED = range(4)
"""The layers that set values: files in an option's defaults list, the option's own file, a study, and the overrides on
the command line. A later layer overrides the earlier ones."""


def settle_linked_fields(composition: Composition) -> Composition:
    """Set a field to null if it does not fit a field that was set later, for example by an override.

    Of two exclusive fields, the one that was set earlier becomes null. If both were set in the same place, such as one
    option file, they keep their values, and building their component reports the conflict. A field that describes
    another field becomes null if the other field was set later. If its default is not null, it keeps its value, and a
    problem is added.

    Returns:
        The composition with the new nulls and problems; its `derived` holds the reason for each null. The config is
        changed in place.
    """
    problems, derived = [], {}
    layers = _Layers(composition)
    linked = (one for one in components(composition.config) if one[2].exclusive_fields or one[2].fields_about)
    for key, node, kind in linked:
        for first, second in kind.exclusive_fields:
            one, other = f"{key}.{first}", f"{key}.{second}"
            if _value(node, first) is None or _value(node, second) is None or layers.of(one) == layers.of(other):
                continue
            kept, dropped = (one, other) if layers.of(one) > layers.of(other) else (other, one)
            derived[dropped] = f"null, because {kept} is set"
        for field, subjects in kind.fields_about.items():
            about = f"{key}.{field}"
            changed = [name for name in subjects if _value(node, name) is not None]
            changed = [name for name in changed if layers.of(f"{key}.{name}") > layers.of(about)]
            if _value(node, field) is None or not changed:
                continue
            default = _default(kind, field)
            if default is None:
                derived[about] = f"null, because {key}.{changed[0]} was changed"
            else:
                subject = _value(node, changed[0])
                example = f", for example {about}={default}" if isinstance(default, str) else ""
                reason = f"it was set for another {changed[0]} than {subject!r}: set {about} too{example}"
                problems.append(Problem(key=about, value=_value(node, field), reason=reason))
    for dropped in derived:
        OmegaConf.update(composition.config, dropped, None)
    problems = [*composition.problems, *problems]
    return dataclasses.replace(composition, problems=problems, derived={**composition.derived, **derived})


def components(node: Any, key: str = "") -> Iterator[tuple[str, DictConfig, type[Component]]]:
    """Yield, for every component in a config, its full key, its OmegaConf node and its class.

    Args:
        node: the config, or a node in it.
        key: full key of the node.
    """
    if not isinstance(node, ListConfig | DictConfig) or node._is_none() or node._is_missing():
        return
    if node._is_interpolation():
        return
    if isinstance(node, ListConfig):
        for index in range(len(node)):
            yield from components(node._get_node(index), f"{key}.{index}")
    else:
        if TARGET in node:
            kind = class_of(_value(node, TARGET), key, [])
            if isinstance(kind, type) and issubclass(kind, Component):
                yield key, node, kind
        for name in map(str, node):
            yield from components(node._get_node(name), f"{key}.{name}" if key else name)


def _value(node: DictConfig, key: str) -> Any:
    """Return the value of a key below a node; `None` if it is null or missing, or if its interpolation fails."""
    try:
        return OmegaConf.select(node, key)
    except OmegaConfBaseException:
        return None


def _default(kind: type[Component], name: str) -> Any:
    """Return the default of a component's field; `dataclasses.MISSING` if it has none."""
    return next(field.default for field in dataclasses.fields(kind) if field.name == name)  # type: ignore[arg-type]


class _Layers:
    """Finds which layer set a value of a composed config.

    A layer is one of the sources of values. In the order in which they are applied, they are: files in an
    option's defaults list (`INHERITED`), the option's own file (`OPTION`), a study (`STUDY`), and the overrides on the
    command line (`TYPED`).

    Args:
        composition: the composed config.
    """

    def __init__(self, composition: Composition) -> None:
        self._composition = composition
        self._keys: dict[str, list[tuple[str, int]]] = {}

    def of(self, key: str) -> int:
        """Return the last layer that sets a value, a value nested in it, or a mapping that contains it.

        Args:
            key: full key of the value.

        Returns:
            One of the layers `INHERITED`, `OPTION`, `STUDY` and `TYPED`, which are numbers in this order.
        """
        layers = (layer for known, layer in self._keys_with_layers(key) if _overlap(known, key))
        return max(layers, default=INHERITED)

    def _keys_with_layers(self, key: str) -> list[tuple[str, int]]:
        """List every key that is set by a chosen option file of one group, a study or an override, each with its layer.

        Args:
            key: a full key; its first component, such as `tuning` in `tuning.r`, is the group.
        """
        group = key.partition(".")[0]
        if group not in self._keys:
            typed = [key for override in self._composition.applied for key in _keys_of(override)]
            self._keys[group] = [
                *((f"{group}.{known}", OPTION) for known in self._keys_in_files(group)),
                *((known, STUDY) for known in self._keys_in_files(STUDIES)),
                *((known, TYPED) for known in typed),
            ]
        return self._keys[group]

    def _keys_in_files(self, group: str) -> Iterator[str]:
        """Yield the keys in the option files chosen from a group; the files in their defaults lists are not read."""
        chosen = self._composition.choices.get(group, [])
        chosen = [chosen] if isinstance(chosen, str) else chosen
        for option in options(group) if chosen else []:
            if option.name in chosen:
                yield from _leaves(OmegaConf.load(option.path))


def _keys_of(override: Override) -> Iterator[str]:
    """Yield the full keys whose values an override sets; yield nothing if the override chooses an option of a group."""
    key, value = override.key_or_group, override.value()
    if isinstance(value, dict):
        yield from _leaves(OmegaConf.create(value), key)
    elif key not in GROUPS:
        yield key


def _overlap(key: str, other: str) -> bool:
    return key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.")


def _leaves(node: Any, key: str = "") -> Iterator[str]:
    if isinstance(node, DictConfig) and not node._is_none() and len(node):
        for name in map(str, node):
            if key or name != "defaults":
                yield from _leaves(node._get_node(name), f"{key}.{name}" if key else name)
    elif key:
        yield key

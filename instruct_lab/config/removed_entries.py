"""Find keys that a config sets to null in order to remove them, although they do not exist.

A run's metrics and preprocessing steps, for example, are mappings from names to components. Setting a name to null
removes its component. If there is no such name, it is probably misspelled.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

from omegaconf import DictConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from instruct_lab.config.component import Component
from instruct_lab.config.compose import Composition, Load, initialized_hydra
from instruct_lab.config.linked_fields import components
from instruct_lab.config.provenance import composed_files
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import Problem, ProblemKind


def unused_removals(composition: Composition, load: Load) -> Iterator[Problem]:
    """Yield a problem for each key that is set to null in order to remove it, although there is nothing to remove.

    If an override sets the key to null, the problem is an error. If an option file sets it to null, the problem is a
    warning, because the file may be meant to be combined with another option that has the key.

    Args:
        composition: the composed config.
        load: function that composes a config with the given overrides.
    """
    removed = {f"{key}.{name}": mapping for key, mapping in _mappings(composition.config) for name in _nulls(mapping)}
    if not removed:
        return
    typed = [one for one in composition.applied if not one.is_delete() and one.value() is None]
    typed_keys = {override.key_or_group for override in typed}
    kept = [override for override in composition.applied if override not in typed]
    with initialized_hydra():
        before = load(kept)
    left = {key: mapping for key, mapping in removed.items() if _select(before, key) is None}
    if not left:
        return
    files = [config for _, config in composed_files(composition)]
    for key, mapping in left.items():
        if key not in typed_keys and any(_select(config, key) is not None for config in files):
            continue
        name = key.rpartition(".")[2]
        known = [str(one) for one in mapping if not _is_null(mapping, one)]
        listed = f"the entries are {', '.join(known)}" if known else "there are no entries"
        reason = f"null removes an entry, and no entry has this name ({listed})"
        kind: ProblemKind = "unknown_key" if key in typed_keys else "warning"
        yield Problem(key=key, value="null", reason=reason, suggestion=nearest(name, known), kind=kind)


def _mappings(config: DictConfig) -> Iterator[tuple[str, DictConfig]]:
    """Yield the full key and the content of each mapping in which setting a key to null removes the key."""
    for key, node, kind in components(config):
        for field, info in getattr(kind, "__pydantic_fields__", {}).items():
            mapping = node._get_node(field) if field in node else None
            if isinstance(mapping, DictConfig) and _is_removable(kind, field, info.annotation):
                yield f"{key}.{field}" if key else field, mapping


def _nulls(mapping: DictConfig) -> Iterator[str]:
    if not (mapping._is_none() or mapping._is_missing() or mapping._is_interpolation()):
        yield from (str(name) for name in mapping if _is_null(mapping, name))


def _is_null(mapping: DictConfig, name: Any) -> bool:
    node = mapping._get_node(name)
    return isinstance(node, Node) and node._value() is None


def _is_removable(kind: type[Component], field: str, annotation: Any) -> bool:
    """Whether setting a key to null removes the key from the mapping that a component's field contains.

    It does if the mapping has arbitrary names as keys and its values may be null. A field that the class lists in its
    `null_values` is an exception. In a mapping with fixed keys, such as the names of the splits, null is an ordinary
    value.

    Args:
        kind: the class of the component.
        field: name of the field.
        annotation: type of the field.
    """
    if field in kind.null_values or get_origin(annotation) is not dict:
        return False
    name, entry = get_args(annotation)
    return name is str and get_origin(entry) in (Union, types.UnionType) and type(None) in get_args(entry)


def _select(config: Any, key: str) -> Any:
    try:
        return OmegaConf.select(config, key)
    except OmegaConfBaseException:  # an entry with an interpolation that does not resolve
        return key

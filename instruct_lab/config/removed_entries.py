"""Find entries that a config removes although they do not exist, probably because their name is misspelled.

In a component's mapping of named entries, such as the metrics or the preprocessing steps of a run, an entry is removed
by setting it to null.
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
    """Yield a problem for each entry that is set to null, and thereby removed, although nothing sets it to a value.

    If an override removes such an entry, this is an error. If a file does, it is a warning, because the file may be
    meant to be combined with other options, which do have the entry.

    Args:
        composition: the composed config.
        load: function that composes overrides.
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
    """Yield the full key and the content of each mapping whose entries can be removed by setting them to null."""
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
    """Return whether setting an entry of a field to null removes the entry.

    This holds for mappings from arbitrary names to values that may be null, unless `Component.null_values` lists the
    field. In a mapping whose keys are limited to given names, such as those of splits, null is an ordinary value.
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

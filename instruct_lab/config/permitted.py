"""Find the settings and classes in a config that need the user's permission."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from instruct_lab.config.component import Component
from instruct_lab.config.external import ExternalClass, find_class, name_needing_permission
from instruct_lab.config.field_problems import join_key
from instruct_lab.config.lab_code import lab_source
from instruct_lab.config.outside_writes import is_write_allowed, outside_path, writable_folders, written_texts
from instruct_lab.config.permissions import (
    KEY,
    LAB_CODE,
    OUTSIDE,
    PERMISSIONS,
    allow,
    check_name,
    how_to_allow,
    is_allowed,
)
from instruct_lab.config.quoting import parse_or_none
from instruct_lab.errors import Problem


@dataclasses.dataclass(frozen=True)
class Permitted:
    """One thing that a run may do only with the user's permission.

    Args:
        permission: name of the permission, as the option `--allow` takes it.
        key: full key of the setting or component that needs it.
        effect: what the run does with the permission.
    """

    permission: str
    key: str
    effect: str

    def __str__(self) -> str:
        return f"with your permission ({self.permission}): {self.effect} ({self.key})"


def permission_problems(built: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for each setting of a config that needs the user's permission but does not have it.

    Args:
        built: the config's component objects and its top-level strings, such as `runs_path`, keyed by full key.
    """
    folders = writable_folders()
    for key, component in built.items():
        if isinstance(component, Component):
            yield from _field_problems(key, component)
        for field, text in written_texts(component):
            full_key, path = join_key(key, field), outside_path(text, folders)
            if path is not None and not is_write_allowed(full_key, path, built):
                reason = (
                    f"{path} is outside the working directory and the cache, and a config cannot allow itself to write "
                    f"there: type {full_key}=... on the command line; or {how_to_allow(OUTSIDE)}"
                )
                yield Problem(key=full_key, value=text, reason=reason, kind="permission")


def _field_problems(key: str, component: Component) -> Iterator[Problem]:
    for field, permission in component.permissions_needed():
        full_key = join_key(key, field)
        if not is_allowed(permission, full_key):
            reason = f"a config cannot allow itself to {PERMISSIONS[permission]}: {how_to_allow(permission)}"
            value = getattr(component, field)
            yield Problem(key=full_key, value=value, reason=reason, kind="permission")


def permitted(node: Any, key: str = "", folders: Sequence[Path] | None = None) -> Iterator[Permitted]:
    """Yield everything in a config that needs the user's permission, whether or not the permission has been given.

    Args:
        node: a component object that was made from the config, or a mapping or list that contains such objects.
        key: full key of the node in the config.
        folders: folders below which a config may write without a permission; `None`: the working directory, the cache
            folder and the folders that the user has named in the command.
    """
    folders = writable_folders() if folders is None else folders
    for field, text in written_texts(node):
        if (path := outside_path(text, folders)) is not None:
            yield Permitted(OUTSIDE, join_key(key, field), f"write to {path}")
    if isinstance(node, ExternalClass):
        found = find_class(node.target)
        yield from _of_class(*(found[0], name_needing_permission(*found)) if found else ("", None), key=key)
        yield from permitted(node.arguments, key, folders)
    elif isinstance(node, Component):
        kind = type(node)
        is_own = kind.__module__.partition(".")[0] == __package__.partition(".")[0]
        yield from _of_class(kind.__module__, None if is_own else f"{kind.__module__}.{kind.__qualname__}", key=key)
        for field, permission in node.permissions_needed():
            yield Permitted(permission, join_key(key, field), PERMISSIONS[permission])
        fields = {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}  # type: ignore[arg-type]
        yield from permitted(fields, key, folders)
    elif isinstance(node, Mapping):
        for name, inner in node.items():
            yield from permitted(inner, join_key(key, str(name)), folders)
    elif isinstance(node, list | tuple):
        for index, inner in enumerate(node):
            yield from permitted(inner, f"{key}[{index}]", folders)


def _of_class(module: str, name: str | None, *, key: str) -> Iterator[Permitted]:
    """Yield the permission that a class needs, if any: `lab-code` for a class in the lab folder, else the class name.

    Args:
        module: the module that defines the class.
        name: dotted name of the class; `None` for a class that every config may use, such as one of this package.
        key: full key of the component in the config.
    """
    if (source := lab_source(module)) is not None:
        yield Permitted(LAB_CODE, key, f"run {source} of this lab")
    elif name is not None:
        yield Permitted(name, key, f"use {name}")


def allow_given(names: Sequence[str], overrides: Iterable[str]) -> AbstractContextManager[None]:
    """Give, during a `with` block, the permissions that a command's options and overrides give.

    Args:
        names: names of permissions that the user gives with `--allow`.
        overrides: overrides that the user typed; setting a key to true or to a path permits this value.

    Raises:
        InstructLabError: a name is not a permission.
    """
    for name in names:
        check_name(name)
    return allow(*names, *typed_permissions(overrides))


def typed_permissions(overrides: Iterable[str]) -> list[str]:
    """Return the permissions `key:FULL.KEY` for the keys that the user sets to true or to a path in overrides."""
    keys: list[str] = []
    for text in overrides:
        if ("true" in text.casefold() or _is_path(text)) and (override := parse_or_none(text)) is not None:
            value = override.value()
            values = value.list if override.is_sweep_override() else [value]
            keys += [key for one in values for key in _consenting_keys(override.key_or_group, one)]
    return [f"{KEY}{key}" for key in keys if "," not in key]


def _consenting_keys(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _consenting_keys(join_key(key, str(name)), inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            if inner is not True:
                yield from _consenting_keys(f"{key}[{index}]", inner)
    elif value is True or (isinstance(text := getattr(value, "text", value), str) and _is_path(text)):
        yield key


def _is_path(text: str) -> bool:
    return any(part in text for part in ("/", "~", ".."))

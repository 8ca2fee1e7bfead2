"""The list of groups, options and keys from which a shell completes overrides.

Making the list requires importing every component class, so the list is stored in the cache folder and made again only
after an option file was added, removed or changed. Reading the stored list loads no heavy library.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import instruct_lab
from instruct_lab import files
from instruct_lab.errors import InstructLabError

PACKAGE = Path(instruct_lab.__file__).parent
FOLDERS = ("conf", "experiments")
Keys = dict[str, list[str]]
"""Lists of a key's possible values, keyed by the key; a list is empty if the values cannot be enumerated."""


def read_listing() -> dict[str, Any]:
    """Return the list of groups, options and keys, from the cache if it is up to date.

    Returns:
        `groups`: the options of each group with their comments; `chosen`: the option of each group in the default
        config; `keys`: the keys that an option sets or allows, keyed by group and option; `root`: the keys outside all
        groups.
    """
    signature = _signature()
    lab = hashlib.sha256(os.getcwd().encode()).hexdigest()[:16] if _is_lab() else "packaged"
    folder = os.environ.get("INSTRUCT_LAB_CACHE") or "~/.cache/instruct_lab"
    path = Path(folder).expanduser() / "completion" / f"{lab}.json"
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["signature"] == signature:
            return dict(kept["listing"])
    listing = make_listing()
    with contextlib.suppress(OSError, InstructLabError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, {"signature": signature, "listing": listing})
    return listing


def _is_lab() -> bool:
    return any(Path(name).is_dir() for name in FOLDERS)


def _signature() -> str:
    """Hash this package's version, and the path, size and modification time of each option file."""
    found = [instruct_lab.__version__]
    for root in (PACKAGE / "_packaged", PACKAGE.parent, Path.cwd()):
        for folder in FOLDERS:
            for parent, _, names in os.walk(root / folder):
                for name in sorted(names):
                    if name.endswith(".yaml"):
                        status = os.stat(os.path.join(parent, name))
                        found.append(f"{parent}/{name} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()


def make_listing() -> dict[str, Any]:
    """Make the list of groups, options and keys from the option files; unreadable files add no keys."""
    from instruct_lab.config.compose import PRIMARY
    from instruct_lab.config.options import GROUPS, options, packaged_conf

    found = {group: {option.name: option for option in options(group)} for group in GROUPS}
    read = _Reader({(group, name): option.path for group, of in found.items() for name, option in of.items()})
    primary = read.content(packaged_conf() / f"{PRIMARY}.yaml")
    chosen = {
        str(group).removeprefix("override ").lstrip("/"): option
        for entry in primary.get("defaults", [])
        if isinstance(entry, dict)
        for group, option in entry.items()
    }
    return {
        "groups": {group: {name: option.comment for name, option in of.items()} for group, of in found.items()},
        "chosen": {group: option for group, option in chosen.items() if isinstance(option, str)},
        "keys": {group: {name: read.option_keys(group, name) for name in of} for group, of in found.items()},
        "root": dict(_keys(primary, "")),
    }


class _Reader:
    """Reads the keys that option files set, and the fields of the classes that the files name as `_target_`.

    Args:
        paths: the file of each option, keyed by group and name.
    """

    def __init__(self, paths: dict[tuple[str, str], Path]) -> None:
        self.paths = paths

    def content(self, path: Path) -> dict[str, Any]:
        """Return the mapping in a YAML file, or an empty dictionary if the file cannot be read or has no mapping."""
        import yaml

        from instruct_lab.config.yaml_text import read_yaml_text

        with contextlib.suppress(InstructLabError, OSError, yaml.YAMLError):
            content = yaml.safe_load(read_yaml_text(path))
            return content if isinstance(content, dict) else {}
        return {}

    def option_keys(self, group: str, name: str, base: str | None = None, depth: int = 0) -> Keys:
        """Return the full keys that an option sets or allows, including the keys of the options on which it is based.

        Args:
            group: the group.
            name: the option.
            base: the config key below which the option's values are put. `None` means the key that the option's file
                states after `# @package`, or the group if it states none.
            depth: number of nested `defaults` lists that lead to this option; 0 for the option that was asked for. At a
                depth above 3, the result is empty.
        """
        path = self.paths.get((group, name))
        if path is None or depth > 3:
            return {}
        content = self.content(path)
        if base is None:
            base = _package_of(path, group)
        keys: Keys = {}
        for entry in content.pop("defaults", []):
            if isinstance(entry, str):
                keys |= self.option_keys(group, entry, base, depth + 1)
            elif isinstance(entry, dict):
                for choice, option in entry.items():
                    other, _, package = str(choice).removeprefix("override ").partition("@")
                    within = other.lstrip("/") if other.startswith("/") else f"{group}/{other}"
                    if package and isinstance(option, str):
                        keys |= self.option_keys(within, option, _join(base, package), depth + 1)
        return {**keys, **dict(_keys(content, base))}


def _package_of(path: Path, group: str) -> str:
    """Return the config key below which an option file's values are put; an empty text means the root of the config."""
    for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines()[:3]:
        if line.startswith("# @package "):
            package = line.split()[2]
            return "" if package == "_global_" else package
    return "" if group == "experiments" else group.replace("/", ".")


def _join(base: str, key: str) -> str:
    return f"{base}.{key}" if base else key


def _keys(node: Any, base: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the full key of each value in a part of a config, and of each field of the classes named there.

    Each key comes with the list of its possible values, which is empty if they are not known.

    Args:
        node: the part of the config.
        base: the full key of this part.
    """
    if not isinstance(node, dict):
        return
    for name, inner in node.items():
        if not str(name).startswith("_") and name != "defaults":
            if isinstance(inner, dict) and inner:
                yield from _keys(inner, _join(base, str(name)))
            else:
                yield _join(base, str(name)), []
    for name, values in _fields(str(node["_target_"]), base.partition(".")[0]) if "_target_" in node else ():
        if not node.get(name) or not isinstance(node[name], dict):
            yield _join(base, name), values


@functools.cache
def _fields(target: str, group: str) -> list[tuple[str, list[str]]]:
    """Return the name and the possible values of each field of the class that is named by `_target_` in a group."""
    from instruct_lab.config.classes import class_of
    from instruct_lab.config.external import ExternalClass
    from instruct_lab.config.fields import fields_of

    kind = class_of(target, group, [])
    if kind is None:
        return []
    fields = fields_of(kind if isinstance(kind, type) else ExternalClass(target, {}))
    return [(field.name, _values(field.type)) for field in fields]


def _values(kind: str) -> list[str]:
    """Return all values of a type that is given as text, such as `bool`, or `cut | keep | null` for three values.

    The list is empty if the values of the type cannot be listed, as for `int`.
    """
    parts = kind.split(" | ")
    if "bool" in parts:
        parts = ["true", "false", *(part for part in parts if part != "bool")]
    words = ("str", "int", "float", "any", "dict", "list", "tuple")
    is_listed = all(part.replace("_", "").replace("-", "").isalnum() and part not in words for part in parts)
    is_class = any(part[:1].isupper() for part in parts)
    return parts if is_listed and not is_class and parts != ["null"] else []

"""Write a converted config as the files of a study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from instruct_lab.config.options import STUDIES
from instruct_lab.conversion.engine import Converted
from instruct_lab.conversion.reading import TOOLS
from instruct_lab.errors import InstructLabError, one_line
from instruct_lab.files import disk_errors, write_atomically


def study_files(converted: Converted) -> dict[str, str]:
    """Return the text of each file of the study, keyed by its path relative to the lab folder (the working directory).

    The files are the study itself in `experiments/` and, if the config names data, a data option in `conf/data/`.
    """
    source = converted.source
    tool, name = TOOLS[source.tool].name, source.name
    files = {f"{STUDIES}/{name}.yaml": _study_text(converted, tool)}
    if converted.data is not None:
        head = f"# {name}: the data of {one_line(source.where)}, converted from {tool}\n"
        files[f"conf/data/{name}.yaml"] = head + _dump(converted.data)
    return files


def write_study(converted: Converted, folder: Path, replace: bool = False) -> list[Path]:
    """Write the files of the study into the user's lab folder, and return their paths.

    Args:
        converted: the converted config.
        folder: the lab folder, which contains the user's `conf/` and `experiments/`.
        replace: whether existing files with the same names may be replaced.

    Raises:
        InstructLabError: one of the files exists and may not be replaced, or a file cannot be written.
    """
    texts = {folder / path: text for path, text in study_files(converted).items()}
    existing = [str(path) for path in texts if path.exists()]
    if existing and not replace:
        do = "choose another name with --name, or add --replace"
        raise InstructLabError("The file exists", where=", ".join(existing), do=do)
    for path, text in texts.items():
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, [text])
    return list(texts)


def _study_text(converted: Converted, tool: str) -> str:
    name = converted.source.name
    head = [
        "# @package _global_",
        f"# {name}: {one_line(converted.source.where)}, converted from {tool}",
        f"# Command: instruct-lab train experiments={name}",
    ]
    differences = [row for row in converted.rows if row.kind in ("different", "unknown")]
    for row in differences:
        head.append(f"# Without an equal: {one_line(f'{row.key}: {row.note}', 160)}")
    config: dict[str, Any] = {"defaults": _defaults(converted.choices)}
    for key, value in converted.values.items():
        _set(config, key.split("."), value)
    return "\n".join(head) + "\n" + _dump(config)


def _defaults(choices: Mapping[str, str]) -> list[dict[str, Any]]:
    chosen = {"preprocessing": "none", **choices}
    entries: list[dict[str, Any]] = []
    for group, option in chosen.items():
        value: Any = yaml.safe_load(option) if option.startswith("[") else option
        entries.append({f"override /{group}": value})
    return entries


def _set(config: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        config = config.setdefault(key, {})
    config[keys[-1]] = value


class _Dumper(yaml.SafeDumper):
    """A YAML dumper that writes the number 1e-05 as `1.0e-05`, because YAML 1.1 reads `1e-05` as a text."""


def _represent_float(dumper: yaml.SafeDumper, value: float) -> yaml.Node:
    text = repr(value)
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


_Dumper.add_representer(float, _represent_float)


def _dump(value: Mapping[str, Any]) -> str:
    return yaml.dump(dict(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)

"""Read and write the user's settings file, which lists the permissions that apply to every command."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import yaml

from instruct_lab.config.yaml_text import read_yaml_text
from instruct_lab.errors import InstructLabError
from instruct_lab.files import disk_errors, write_atomically


@dataclasses.dataclass(frozen=True)
class Settings:
    """The content of the user's settings file.

    Args:
        allow: names of the permissions that apply to every command.
        labs: absolute paths of the user's lab folders whose Python files may run.
    """

    allow: tuple[str, ...] = ()
    labs: tuple[str, ...] = ()


def settings_path() -> Path:
    """Return the path of the user's settings file."""
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(folder) / "instruct_lab" / "settings.yaml"


def read_settings() -> Settings:
    """Read the user's settings file; if it does not exist, the settings give no permissions.

    Raises:
        InstructLabError: the file cannot be read, or has other content than lists of texts under `allow` and `labs`.
    """
    path = settings_path()
    refusal = InstructLabError(
        "The settings file is not of the expected form",
        where=str(path),
        do="write `allow:` and `labs:`, each with a list of texts, or move the file away",
    )
    try:
        content = yaml.safe_load(read_yaml_text(path)) or {}
    except (FileNotFoundError, NotADirectoryError):
        return Settings()
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise refusal from error
    names = {field.name for field in dataclasses.fields(Settings)}
    if not isinstance(content, dict) or not names.issuperset(content):
        raise refusal
    lists = {name: value if value is not None else [] for name, value in content.items()}
    if not all(isinstance(value, list) and all(isinstance(text, str) for text in value) for value in lists.values()):
        raise refusal
    return Settings(**{name: tuple(value) for name, value in lists.items()})


def write_settings(settings: Settings) -> None:
    """Write the user's settings file.

    Raises:
        InstructLabError: the file cannot be written.
    """
    path = settings_path()
    header = "# What instruct-lab may do without asking again; `instruct-lab allow` changes this file.\n"
    content = {name: sorted(set(values)) for name, values in dataclasses.asdict(settings).items()}
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, [header, yaml.safe_dump(content, allow_unicode=True)])

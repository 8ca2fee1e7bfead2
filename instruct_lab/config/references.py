"""References such as `model=hub:OWNER/NAME` and `data=path:FILE`, which name a model or data instead of an option file.

A reference can be chosen like an option. Its config is made by the module `references` in the package of the group
(`instruct_lab.model` or `instruct_lab.data`): the function `describe_option` examines the model or data and returns a
config. The rest of the program treats this config like the content of an option file.
"""

from __future__ import annotations

import dataclasses
import glob
import importlib
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import yaml
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf

from instruct_lab.config.options import option_of_repository
from instruct_lab.config.quoting import parse_or_none, quote_value
from instruct_lab.config.yaml_text import read_yaml_text
from instruct_lab.errors import InstructLabError, Problem, one_line, wrap_errors

FORMS: Mapping[str, tuple[str, ...]] = {
    "model": ("hub:OWNER/NAME[@REVISION]", "path:FOLDER"),
    "data": ("hub:OWNER/NAME[:CONFIGURATION][@REVISION]", "path:FILE"),
}
"""The forms of references that can be chosen in each config group."""
FORM_COMMENTS = {
    "hub": "anything on the Hugging Face Hub, recognised by its files",
    "path": "your own files, recognised by what they contain",
}
"""The meaning of each scheme of references (the text before the colon), shown in lists of options."""
SCHEMES = tuple(FORM_COMMENTS)
MAX_LABEL = 50
"""Maximum number of characters of `Reference.label`, which trackers use in tags; these have at most 64."""
SPECIAL = frozenset("=,()[]{}'\"")
"""Characters that have a meaning in Hydra's syntax for values; the user must quote a reference that contains one."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """A reference to a model or to data.

    Args:
        group: the config group, `model` or `data`.
        scheme: `hub` for a repository of the Hugging Face Hub, `path` for files on this machine.
        name: the text after the colon: the name of the repository, or the path.
    """

    group: str
    scheme: str
    name: str

    def __str__(self) -> str:
        return f"{self.group}={self.scheme}:{self.name}"

    @property
    def label(self) -> str:
        """A short text for folder names and tags: the name of the repository or file, without owner, folder and ending.

        For a pattern of files such as `texts/*.json`, it is the folder's name.
        """
        name = self.name.partition("@")[0] if self.scheme == "hub" else self.name
        parts = [part for part in re.split(r"[/\\]", name) if part.strip(".") and not glob.has_magic(part)]
        last = parts[-1] if parts else self.scheme
        if self.scheme == "path" and "." in last[1:]:
            last = last[: last.index(".", 1)]
        return re.sub(r"[^\w.-]+", "_", last)[:MAX_LABEL]


@dataclasses.dataclass(frozen=True)
class ReferencedOption:
    """The config for the model or data that a reference names.

    Args:
        config: the config, with the same content as an option file in `conf/` would have.
        notes: sentences on what was recognised in the model or data, and how to set something else.
        unset: mapping from the key of each value that could not be recognised to a text that says why, and what the
            user can set. Such a value is `???` (missing) in `config`. The keys are relative to the group.
    """

    config: dict[str, Any]
    notes: tuple[str, ...] = ()
    unset: Mapping[str, str] = dataclasses.field(default_factory=dict)


def parse_reference(group: str, option: Any) -> Reference | None:
    """Parse a chosen option as a reference; return `None` if it is not a reference but the name of an option file."""
    scheme, separator, name = str(option).partition(":")
    is_reference = group in FORMS and separator and scheme in SCHEMES and name.strip()
    return Reference(group, scheme, name.strip()) if is_reference else None


def option_label(group: str, option: str) -> str:
    """Return the name of a chosen option for use in folder names and tags.

    For a reference such as `hub:OWNER/NAME`, it is the name of the repository or file, without owner and folder.
    """
    reference = parse_reference(group, option)
    return option if reference is None else reference.label


def describe_reference(reference: Reference) -> ReferencedOption:
    """Examine the model or data that a reference names, and return a config for it.

    Raises:
        InstructLabError: there is no such model or data, or it cannot be reached.
    """
    package = __name__.partition(".")[0]
    module = importlib.import_module(f"{package}.{reference.group}.references")
    option = module.describe_option(reference)
    assert isinstance(option, ReferencedOption)
    return option


def references_in(choices: Mapping[str, Any]) -> list[Reference]:
    """Return the references among the chosen options.

    Args:
        choices: the chosen option of each group, keyed by group.
    """
    found = [parse_reference(group, option) for group, option in choices.items() if isinstance(option, str)]
    return [reference for reference in found if reference is not None]


def reference_notes(*choices: Mapping[str, Any]) -> list[str]:
    """Return sentences that say what was recognised in the model or data of each reference among the chosen options.

    Args:
        choices: the chosen option of each group, keyed by group; for a sweep, one such mapping for each of its trials.
    """
    references = dict.fromkeys(reference for chosen in choices for reference in references_in(chosen))
    return [f"{reference}: {note}" for reference in references for note in describe_reference(reference).notes]


def unset_problems(choices: Mapping[str, Any], config: DictConfig) -> list[Problem]:
    """Return a problem for each value that could not be recognised in a referenced model or data and is still missing.

    Args:
        choices: the chosen option of each group, keyed by group.
        config: the composed config, in which the user may have set such values.
    """
    problems = []
    for reference in references_in(choices):
        for key, reason in describe_reference(reference).unset.items():
            full = f"{reference.group}.{key}"
            above, _, name = full.rpartition(".")
            node = OmegaConf.select(config, above)
            if OmegaConf.is_config(node) and OmegaConf.is_missing(node, name):
                problems.append(Problem(key=full, reason=f"{reason} ({reference})", kind="missing"))
    return problems


def known_option(group: str, repository: str, revision: str) -> ReferencedOption | None:
    """Return the config for a repository of the Hugging Face Hub without access to the Hub.

    The config is the content of the option file that names the repository.

    Args:
        group: the config group, `model` or `data`.
        repository: the name of the repository.
        revision: the revision to use instead of the revision in the option file; `main` keeps the file's revision.

    Returns:
        The config; `None` if no option file names the repository, or if the file includes other option files.
    """
    option = option_of_repository(group, repository)
    if option is None:
        return None
    with wrap_errors(yaml.YAMLError, what="The option file is not valid YAML", where=str(option.path)):
        config = yaml.safe_load(read_yaml_text(option.path))
    if not isinstance(config, dict) or "defaults" in config:
        return None
    if revision != "main":
        _set_revision(config, repository.casefold(), revision)
    note = f"as {group}={option.name}, whose file names this repository, since the Hub cannot be reached"
    return ReferencedOption(config, (note,))


def _set_revision(node: Any, repository: str, revision: str) -> None:
    if isinstance(node, dict):
        if str(node.get("repository")).casefold() == repository:
            node["revision"] = revision
        for inner in node.values():
            _set_revision(inner, repository, revision)


def suggest_reference(group: str, name: str) -> str | None:
    """Return the reference that the user probably meant, such as `hub:OWNER/NAME` for `hf:OWNER/NAME`.

    The text before the colon is looked up in a list of common names: `hf` and `huggingface`, for example, stand for
    `hub`, and `file`, `local` and `dir` for `path`. The result is `None` for any other text, and if the group takes no
    references.

    Args:
        group: the config group.
        name: the option that the user chose.
    """
    if group not in FORMS:
        return None
    scheme, separator, rest = name.partition(":")
    if separator and scheme.strip().casefold() in ("hf", "huggingface", "hub", "hf_hub"):
        return f"hub:{rest.strip('/ ')}"
    if separator and scheme.strip().casefold() in ("file", "path", "local", "dir", "folder"):
        return f"path:{rest.strip().removeprefix('//')}"
    return None


def quote_reference(text: str) -> str:
    """Put quotes around the reference in an override if Hydra refuses it without quotes.

    Hydra refuses `~` and most letters outside ASCII. Two sorts of overrides are returned unchanged: those without a
    reference, and those whose reference contains a character of Hydra's syntax, such as a comma. The user has to quote
    the latter.

    Args:
        text: the override that the user typed.
    """
    key, _, value = text.partition("=")
    if parse_reference(key.lstrip("+"), value) is None or SPECIAL & {*value} or parse_or_none(text) is not None:
        return text
    return f"{key}={quote_value(value)}"


class ReferenceSource(ConfigSource):
    """A Hydra config source for references: it gives Hydra a config for the model or data that a reference names."""

    PROVIDER: ClassVar = "instruct_lab-references"

    @staticmethod
    def scheme() -> str:
        """Return `reference`: Hydra uses this source for the entry `reference://…` of its search path."""
        return "reference"

    def load_config(self, config_path: str) -> ConfigResult:
        """Return the config for the model or data that a reference names; values that were not recognised are `???`.

        Args:
            config_path: the group and the reference, such as `model/hub:OWNER/NAME`.

        Raises:
            ConfigLoadError: there is no such model or data, or it cannot be reached.
        """
        reference = _reference_at(config_path)
        if reference is None:
            raise ConfigLoadError(f"Config not found: {config_path}")
        try:
            option = describe_reference(reference)
        except InstructLabError as error:
            raise ConfigLoadError(one_line(error, 1000)) from error
        return ConfigResult(self.provider, self.full_path(), OmegaConf.create(option.config), {"package": None})

    def available(self) -> bool:
        """Return `True`: this source can always be used."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Return `False`: this source provides configs, but no config groups."""
        return False

    def is_config(self, config_path: str) -> bool:
        """Whether a path has the form `GROUP/REFERENCE`, such as `model/hub:OWNER/NAME`."""
        return _reference_at(config_path) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return an empty list: references cannot be listed."""
        return []


def _reference_at(config_path: str) -> Reference | None:
    group, _, option = config_path.partition("/")
    return parse_reference(group, option.removesuffix(".yaml"))

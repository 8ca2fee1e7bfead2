"""Compose the config of a run from option files and overrides, collecting what cannot be composed."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from instruct_lab.config.options import GROUPS, SWEEP_GROUPS, LabSearchPath, StudySource, options, packaged_conf
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import ConfigError, Problem

PRIMARY = "train"
OPTIONAL_GROUPS = ("debug", "experiments")
SWEEP = "sweep"
OWN_HYDRA_KEYS = ("hydra.sweeper.", "hydra.launcher.")


@dataclasses.dataclass(frozen=True)
class Composition:
    """A composed config, the option chosen in each group, and what could not be composed.

    Args:
        config: the composed tree of one run, interpolations unresolved.
        choices: group to option (a list where several were chosen; groups without a choice are left out).
        overrides: what the user typed.
        problems: overrides that were left out of `config`, and why.
        sweep: the keys `sweep`, `hydra.sweeper` and `hydra.launcher`, which say how several runs are made.
        swept: the overrides with several values, in order.
    """

    config: DictConfig
    choices: dict[str, str | list[str]]
    overrides: list[str]
    problems: list[Problem]
    sweep: DictConfig = dataclasses.field(default_factory=lambda: OmegaConf.create({}))
    swept: list[Override] = dataclasses.field(default_factory=list)


@contextmanager
def _hydra() -> Iterator[None]:
    plugins = Plugins.instance()
    for plugin in (LabSearchPath, StudySource):
        plugins.register(plugin)
    with hydra.initialize_config_dir(str(packaged_conf()), job_name="instruct-lab", version_base="1.3"):
        yield


def compose(overrides: list[str]) -> Composition:
    """Compose `conf/train.yaml` with overrides in Hydra's syntax.

    Overrides that name no group, option or syntax that exists are collected as problems and left out, so that the rest
    of the config can still be checked. Keys that no component has are kept: building refuses them by name.

    Raises:
        ConfigError: an option file itself cannot be read or composed.
    """
    problems: list[Problem] = []
    swept: list[Override] = []
    usable = [text for text in (_usable(text, problems, swept) for text in overrides) if text is not None]
    with _hydra():
        config = _composed(usable, problems)
    chosen = config.hydra.runtime.choices
    of_runs = [group for group in GROUPS if group not in SWEEP_GROUPS]
    choices = {group: _plain(chosen[group]) for group in of_runs if chosen.get(group) not in (None, "null")}
    choices |= _lists_chosen(usable)
    root = {key: config._get_node(key) for key in config if key not in ("hydra", SWEEP)}
    hydra_nodes = {name: config.hydra._get_node(name) for name in ("sweeper", "launcher")}
    sweep = {SWEEP: config._get_node(SWEEP), "hydra": hydra_nodes} if SWEEP in config else {}
    return Composition(OmegaConf.create(root), choices, list(overrides), problems, OmegaConf.create(sweep), swept)


def compose_option(group: str, option: str) -> dict[str, Any]:
    """The config of one option only, without the key of its group.

    Raises:
        ConfigError: the file cannot be read or composed.
    """
    with _option_errors(group, option):
        config = OmegaConf.create(compose_option_tree(group, option))
        found = OmegaConf.to_container(OmegaConf.select(config, group.replace("/", ".")), resolve=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def compose_option_tree(group: str, option: str) -> dict[str, Any]:
    """What one option sets, by the keys of the whole config; interpolations stay unresolved.

    Raises:
        ConfigError: the file cannot be read or composed.
    """
    with _option_errors(group, option), _hydra(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*missing `_self_`")  # which only a whole config needs
        tree = OmegaConf.to_container(hydra.compose(f"{group}/{option}"))
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


@contextmanager
def _option_errors(group: str, option: str) -> Iterator[None]:
    try:
        yield
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([_composition_problem(f"{group}={option}", error)]) from error


def _lists_chosen(overrides: list[str]) -> dict[str, list[str]]:
    """The groups of which several options were named: Hydra does not list those among its choices."""
    found = {}
    for text in overrides:
        override = OverridesParser.create().parse_override(text)
        value = None if override.is_delete() else override.value()
        if override.key_or_group in GROUPS and override.package is None and isinstance(value, list) and value:
            found[override.key_or_group] = [str(name) for name in value]
    return found


def _plain(choice: Any) -> Any:
    return list(choice) if OmegaConf.is_list(choice) else choice


def _usable(text: str, problems: list[Problem], swept: list[Override]) -> str | None:
    """The override as Hydra takes it, or none when it has several values, names no option or is no override."""
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        problems.append(Problem(key=text.partition("=")[0], value=text, reason=f"this is not an override: {reason}"))
        return None
    key = override.key_or_group
    if not key:
        problems.append(Problem(key="", value=text, reason="this is not an override: nothing stands before the ="))
        return None
    if override.is_sweep_override():
        swept.append(override)
        return None
    if key in GROUPS and override.package is None and not override.is_delete():
        return _choice(override, problems)
    if (
        override.is_delete()
        or (key.startswith("hydra") and not key.startswith(OWN_HYDRA_KEYS))
        or "@" in text.partition("=")[0]
    ):
        return text
    if override.value() is None and isinstance(override.value_type, type(None)):
        return text
    return "++" + text.lstrip("+")


def _choice(override: Override, problems: list[Problem]) -> str | None:
    group, value = override.key_or_group, override.value()
    if isinstance(value, dict):  # a group's whole content given inline
        return f"++{override.input_line.lstrip('+')}" if override.input_line else None
    chosen = value if isinstance(value, list) else [value]
    known = [option.name for option in options(group)]
    wrong = [name for name in chosen if str(name) not in known and not (name is None and group in OPTIONAL_GROUPS)]
    for name in wrong:
        problems.append(unknown_option(group, name, known))
    return None if wrong else str(override.input_line).lstrip("+")


def unknown_option(group: str, name: Any, known: list[str]) -> Problem:
    """The problem of an option that a group does not have."""
    return Problem(
        key=group,
        value=name,
        reason=f"group {group} has no such option (options: {', '.join(known)})",
        suggestion=nearest(str(name), known),
    )


def _composed(overrides: list[str], problems: list[Problem]) -> DictConfig:
    """Compose with every override that composes; name each that does not."""
    try:
        return _compose(overrides)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError) as first:
        usable: list[str] = []
        for override in overrides:  # one by one: which of them cannot be applied?
            try:
                _compose([*usable, override])
                usable.append(override)
            except (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError) as error:
                problems.append(_composition_problem(override, error))
        try:
            return _compose(usable)
        except (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError([*problems, _composition_problem("", error)]) from first


def _compose(overrides: list[str]) -> DictConfig:
    """What the option files give, with values set in it afterwards and in their order, as Hydra sets them."""
    loader: Any = GlobalHydra.instance().config_loader()
    files: list[str] = []
    values: list[Override] = []
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        is_option = "." not in key and bool(loader.get_group_options(key))
        if override.is_force_add() and not is_option:
            values.append(override)
        else:
            if not is_option:  # a deletion, say: what was set before it stays before it
                files += [str(value.input_line) for value in values]
                values.clear()
            files.append(str(override.input_line))
    config = _of_files(tuple(files))
    for value in values:
        OmegaConf.update(config, value.key_or_group, value.value(), merge=True, force_add=True)
    return config


_composed_files: ContextVar[dict[tuple[str, ...], DictConfig] | None] = ContextVar("composed files", default=None)


@contextmanager
def files_read_once() -> Iterator[None]:
    """In here, configs that differ in values alone share what their option files give, read once."""
    token = _composed_files.set({})
    try:
        yield
    finally:
        _composed_files.reset(token)


def _of_files(overrides: tuple[str, ...]) -> DictConfig:
    known = _composed_files.get()
    if known is None:
        return hydra.compose(PRIMARY, overrides=[*overrides], return_hydra_config=True)
    if overrides not in known:
        known[overrides] = hydra.compose(PRIMARY, overrides=[*overrides], return_hydra_config=True)
    return copy.deepcopy(known[overrides])


def _composition_problem(override: str, error: Exception) -> Problem:
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    key, _, value = override.lstrip("+").partition("=")
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if group in GROUPS:
            missing = unknown_option(group, name, [option.name for option in options(group)])
            return dataclasses.replace(missing, reason=f"{missing.reason}; named by {key}={value}")
    if isinstance(cause, yaml.MarkedYAMLError) and cause.problem_mark is not None:
        mark = cause.problem_mark
        reason = f"{Path(str(mark.name)).name}, line {mark.line + 1}: not valid YAML: {cause.problem}"
        return Problem(key=key or PRIMARY, value=value or None, reason=reason)
    reason = " ".join(str(cause).split("\nSearch path")[0].split())
    return Problem(key=key.lstrip("~") or PRIMARY, value=value or None, reason=reason)


def provenance(composition: Composition) -> dict[str, str]:
    """Where each value came from: the full key of every leaf to a file's name below `conf/`, or the override."""
    usable = [text for text in (_usable(text, [], []) for text in composition.overrides) if text is not None]
    origins: dict[str, str] = {}
    with _hydra():
        loader: Any = GlobalHydra.instance().config_loader()
        parsed, repository = loader._parse_overrides_and_create_caching_repo(PRIMARY, usable)
        defaults = loader.compute_defaults_list(PRIMARY, usable, RunMode.RUN)
        for default in defaults.defaults:
            if default.config_path is None or default.config_path.startswith("hydra"):
                continue
            loaded = loader._load_single_config(default=default, repo=repository)
            for key in leaves(loaded.config):
                origins[key] = f"{default.config_path}.yaml"
    for override in parsed:
        if override.key_or_group not in GROUPS:
            _overridden(origins, override)
    return origins


def _overridden(origins: dict[str, str], override: Override) -> None:
    key = override.key_or_group
    for known in [known for known in origins if known == key or known.startswith(f"{key}.")]:
        del origins[known]
    value = override.value()
    if isinstance(value, dict):
        for leaf in leaves(OmegaConf.create({key: value})):
            origins[leaf] = "override"
    origins[key] = "override"


def leaves(config: Any, prefix: str = "") -> Iterator[str]:
    """Full keys of the values of a tree; a list is one value."""
    for key in config:
        full = f"{prefix}.{key}" if prefix else str(key)
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation() and len(node):
            yield from leaves(node, full)
        else:
            yield full

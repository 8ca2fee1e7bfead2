"""Compose the config of a run from option files and overrides, and collect problems with the overrides."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from instruct_lab.config.interpolation import bounded
from instruct_lab.config.options import GROUPS, SWEEP_GROUPS, options, packaged_conf, roots
from instruct_lab.config.overrides import chosen_lists, parse, to_applicable, unknown_option
from instruct_lab.config.references import ReferenceSource, unset_problems
from instruct_lab.config.shared_files import PRIMARY, load_config
from instruct_lab.config.sources import LabSearchPath, LabSource, StudySource
from instruct_lab.errors import ConfigError, Problem, one_line

SWEEP = "sweep"
Load = Callable[[list[Override]], DictConfig]
_BY_WRONG_FILES = (RecursionError, ValueError, TypeError, AttributeError, KeyError, AssertionError, OSError)
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError, *_BY_WRONG_FILES)
"""Exceptions that composing a config may raise, including built-in exceptions that libraries raise for wrong files."""


@dataclasses.dataclass(frozen=True)
class Composition:
    """A composed config, the option chosen in each group, and the problems with the overrides.

    Args:
        config: the composed config of one run, with interpolations unresolved.
        choices: for each group, the chosen option or list of options; groups without a chosen option are left out.
        overrides: the overrides that the user typed.
        problems: a problem for each override that could not be applied to `config`, and other problems found while
            composing.
        sweep: the part of the config that configures a sweep: `sweep`, `hydra.sweeper` and `hydra.launcher`.
        swept: the overrides with several values, which a sweep combines, in order.
        applied: the overrides with one value, in order and in the form that Hydra applies.
        derived: for each value that the program set, and not a file or an override, the reason as text, keyed by the
            value's full key.
    """

    config: DictConfig
    choices: dict[str, str | list[str]]
    overrides: list[str]
    problems: list[Problem]
    sweep: DictConfig = dataclasses.field(default_factory=lambda: OmegaConf.create({}))
    swept: list[Override] = dataclasses.field(default_factory=list)
    applied: list[Override] = dataclasses.field(default_factory=list)
    derived: dict[str, str] = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def initialized_hydra() -> Iterator[None]:
    """Initialise Hydra for the `with` block.

    In the block, Hydra finds this package's option files and studies, and those in the user's lab folder.
    """
    plugins = Plugins.instance()
    for plugin in (LabSearchPath, LabSource, StudySource, ReferenceSource):
        plugins.register(plugin)
    with hydra.initialize_config_dir(str(packaged_conf()), job_name="instruct-lab", version_base="1.3"):
        yield


def compose(overrides: list[str], load: Load = load_config) -> Composition:
    """Compose `conf/train.yaml` with overrides in Hydra's syntax.

    An override with wrong syntax or an unknown option becomes a problem and is left out, so that the rest of the config
    can still be checked; if quotes around its value correct the syntax, it is applied with them. An override with an
    unknown key is applied; the key is reported when components are built.

    Args:
        overrides: the overrides that the user typed.
        load: function that composes the config with parsed overrides; a sweep passes a function that reuses work
            between its trials.

    Raises:
        ConfigError: an option file is not readable or does not compose.
    """
    problems: list[Problem] = []
    parsed = [override for text in overrides if (override := parse(text, problems)) is not None]
    swept = [override for override in parsed if override.is_sweep_override()]
    single = [override for override in parsed if not override.is_sweep_override()]
    applied = [applicable for one in single if (applicable := to_applicable(one, problems)) is not None]
    with initialized_hydra():
        config, applied = _compose_usable(applied, problems, load)
    chosen = config.hydra.runtime.choices
    of_runs = [group for group in GROUPS if group not in SWEEP_GROUPS]
    choices = {group: _to_plain(chosen[group]) for group in of_runs if chosen.get(group) not in (None, "null")}
    choices |= chosen_lists(applied)
    of_run = _tree({key: config._get_node(key) for key in config if key not in ("hydra", SWEEP)})
    problems += unset_problems(choices, of_run)
    of_hydra = _tree({name: config.hydra._get_node(name) for name in ("sweeper", "launcher")})
    sweep = _tree({SWEEP: config._get_node(SWEEP), "hydra": of_hydra} if SWEEP in config else {})
    return Composition(of_run, choices, list(overrides), problems, sweep, swept, applied)


def _tree(nodes: dict[Any, Any]) -> DictConfig:
    """Create a config from OmegaConf nodes, keyed by top-level key; to save time, the nodes are not copied."""
    tree = OmegaConf.create({})
    with flag_override(tree, "no_deepcopy_set_nodes", True):
        for key, node in nodes.items():
            tree[key] = node
    return tree


def compose_option(group: str, option: str) -> dict[str, Any]:
    """Compose the values that one option sets below the key of its group, with interpolations resolved.

    Raises:
        ConfigError: the option's file is not readable or does not compose.
    """
    with _option_errors(group, option), bounded():
        config = OmegaConf.create(compose_option_tree(group, option))
        found = OmegaConf.to_container(OmegaConf.select(config, group.replace("/", ".")), resolve=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def compose_option_tree(group: str, option: str) -> dict[str, Any]:
    """Compose the values that one option sets, as a tree from the root of the config, with interpolations unresolved.

    Raises:
        ConfigError: the option's file is not readable or does not compose.
    """
    tree = _tree_of_file(group, option)
    if tree is None:
        with _option_errors(group, option), initialized_hydra(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*missing `_self_`")  # only a whole config needs it
            tree = OmegaConf.to_container(hydra.compose(f"{group}/{option}"))
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def _tree_of_file(group: str, option: str) -> Any:
    """Read the values that an option sets from its file, which is about ten times as fast as composing it with Hydra.

    Returns:
        What Hydra would compose, as a tree from the root of the config. `None` if Hydra is needed, because the file has
        a defaults list or keys of Hydra, or if there is no readable file.
    """
    folders = [root / "conf" for root in roots() if (root / "conf" / group / f"{option}.yaml").is_file()]
    with contextlib.suppress(*COMPOSITION_ERRORS):
        for folder in folders[:1]:
            found = LabSource("instruct-lab", f"{LabSource.scheme()}://{folder}").load_config(f"{group}/{option}")
            package = found.header.get("package") or group.replace("/", ".")
            parts = [] if package == "_global_" else package.split(".")
            if {"defaults", "hydra"} & {*found.config, *parts} or any(part.startswith("_") for part in parts):
                return None
            tree: Any = OmegaConf.to_container(found.config)
            for part in reversed(parts):
                tree = {part: tree}
            return tree
    return None


@contextlib.contextmanager
def _option_errors(group: str, option: str) -> Iterator[None]:
    try:
        yield
    except COMPOSITION_ERRORS as error:
        raise ConfigError([_composition_problem(f"{group}={option}", error)]) from error


def _to_plain(choice: Any) -> Any:
    return list(choice) if OmegaConf.is_list(choice) else choice


def _compose_usable(
    overrides: list[Override], problems: list[Problem], load: Load
) -> tuple[DictConfig, list[Override]]:
    """Compose a config with all overrides that can be applied, and add a problem for each override that cannot.

    Returns:
        The config, and the overrides that were applied.
    """
    usable: list[Override] = []
    rest = list(overrides)
    while True:
        try:
            return load([*usable, *rest]), [*usable, *rest]
        except COMPOSITION_ERRORS as error:
            if not rest:
                raise ConfigError([*problems, _composition_problem("", error)]) from error
            failure = error
        good, bad = 0, len(rest)  # the first `good` of the rest can be applied together, the first `bad` cannot
        while bad - good > 1:
            middle = (good + bad) // 2
            try:
                load([*usable, *rest[:middle]])
                good = middle
            except COMPOSITION_ERRORS as error:
                bad, failure = middle, error
        problems.append(_composition_problem(str(rest[good].input_line), failure))
        usable, rest = [*usable, *rest[:good]], rest[bad:]


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
    reason = one_line(str(cause).split("\nSearch path")[0], max_characters=500)
    return Problem(key=key.lstrip("~") or PRIMARY, value=value or None, reason=reason)

"""Build the experiment with which a recorded run's model is evaluated: the run's config with some choices replaced."""

from __future__ import annotations

import dataclasses
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from instruct_lab.config.compose import compose
from instruct_lab.config.environment_values import require_variables, to_omegaconf, to_plain_config
from instruct_lab.config.linked_fields import settle_linked_fields
from instruct_lab.config.options import GROUPS
from instruct_lab.config.overrides import parse
from instruct_lab.config.references import option_label, parse_reference
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import ConfigError, Problem
from instruct_lab.evaluation.evaluation import HELD_OUT
from instruct_lab.experiment.check import check_config
from instruct_lab.experiment.experiment import Experiment
from instruct_lab.experiment.settled import NEW_TOKENS
from instruct_lab.records import RunRecord

MEASURED = (
    "data",
    "preprocessing",
    "template",
    "batching",
    "objective",
    "generation",
    "metrics",
    "evaluation",
    "seed",
)
"""The top-level keys that an evaluation can set: all except those of the model and its training."""


ONE_DEVICE = {"devices": 1, "num_nodes": 1, "strategy": "auto"}
"""The trainer's arguments with which an evaluation uses one device, whatever number of devices trained the model."""


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """The config of a later evaluation of a run's model.

    Args:
        experiment: the experiment built from the run's config and the overrides of the evaluation.
        config: the config of this experiment as dictionaries and lists.
        labels: a short text for each override; the name of the evaluation is composed of these texts.
        changes_data: whether the evaluated rows, or their preparation, differ from those of the run.
    """

    experiment: Experiment
    config: dict[str, Any]
    labels: list[str]
    changes_data: bool


def build_evaluated(record: RunRecord, overrides: list[str]) -> Evaluated:
    """Build the experiment with which the model of a run is evaluated.

    The experiment is that of the run, changed by the overrides. An override that chooses an option, such as
    `metrics=translation`, replaces all values of the group; an override of a single value changes only this value. The
    maximum length of answers stays that of the run unless an override sets it.

    An override such as `data=path:rows.jsonl` names a file or a data set on the Hub. Then the model is evaluated on all
    rows of this data, unless it has held-out rows of its own, or another override (`data.split`, `data.train` or
    `data.test`) assigns the rows to splits.

    Args:
        record: the record of the run.
        overrides: overrides of keys that do not change the model or its training, such as `data` and `metrics`.

    Raises:
        ConfigError: an override is wrong, or the model cannot be evaluated with it.
        InstructLabError: an environment variable to which the run's config refers is not set.
    """
    parsed = parse_measured(overrides)
    trainer = record.config.get("trainer") or {}
    one_device = {name: value for name, value in ONE_DEVICE.items() if name in trainer}
    used = {**record.config, "tracker": {}, "callbacks": {}, "trainer": {**trainer, **one_device}}
    require_variables(used, f"run {record.id}")
    chosen = {one.key_or_group.partition("/")[0] for one in parsed if one.key_or_group in GROUPS}
    of_groups = [one for one in parsed if _top(one) in chosen]
    if of_groups:
        composed = settle_linked_fields(compose([str(one.input_line) for one in of_groups]))
        if composed.problems:
            raise ConfigError(composed.problems)
        plain = to_plain_config(composed.config)
        used |= {group: plain[group] for group in chosen}
        if "data" in chosen:
            used["data"] = _all_held_out(used, parsed)
    config = to_omegaconf(used)
    for one in parsed:
        if _top(one) not in chosen:
            OmegaConf.update(config, one.key_or_group, one.value(), merge=True, force_add=True)
    known = OmegaConf.select(to_omegaconf({"generation": record.config.get("generation")}), NEW_TOKENS)
    if known is not None and OmegaConf.select(config, NEW_TOKENS) is None:
        OmegaConf.update(config, NEW_TOKENS, known, force_add=True)
    experiment = check_config(config, record.path.parent.parent)
    of_data = ("data", "preprocessing", "template", "batching", "objective")
    return Evaluated(
        experiment, to_plain_config(config), list(map(_label, parsed)), any(_top(one) in of_data for one in parsed)
    )


def _all_held_out(used: dict[str, Any], parsed: list[Override]) -> dict[str, Any]:
    """Return the config of the data for an evaluation.

    If an override names a file or a data set (`data=path:rows.jsonl`), a run would train on most of its rows. Here the
    config is changed so that all of them are in an evaluated split. It stays as it is if the data has held-out rows of
    its own, or if an override assigns the rows to splits.

    Args:
        used: the config of the whole evaluation.
        parsed: the overrides.
    """
    data: dict[str, Any] = dict(used["data"])
    is_named = any(
        one.key_or_group == "data" and parse_reference("data", _value_text(one).strip("'\"")) for one in parsed
    )
    divides = any(str(one.key_or_group).startswith(("data.split", "data.train", "data.test")) for one in parsed)
    splits = (used.get("evaluation") or {}).get("splits") or []
    if not is_named or divides or not splits or any(data.get(name) for name in HELD_OUT):
        return data
    split = "test" if "test" in splits else splits[0]
    return {**data, "train": {}, split: data.get("train") or {}, "split": None}


def parse_measured(overrides: list[str]) -> list[Override]:
    """Parse the overrides of an evaluation.

    Raises:
        ConfigError: an override cannot be parsed, has several values, removes a key, or changes the model.
    """
    problems: list[Problem] = []
    parsed = [one for text in overrides if (one := parse(text, problems)) is not None]
    problems += [problem for one in parsed if (problem := _problem(one)) is not None]
    if problems:
        raise ConfigError(problems)
    return parsed


def _problem(override: Override) -> Problem | None:
    """Return the problem with an override for an evaluation, or `None` if there is none."""
    key = override.key_or_group
    if _top(override) not in MEASURED:
        reason = f"an evaluation changes neither the model nor its training: it can choose {', '.join(MEASURED)}"
        return Problem(
            key=key, value=_value_text(override), reason=reason, suggestion=nearest(_top(override), MEASURED)
        )
    if override.is_sweep_override():
        reason = "an evaluation takes one value for each key: evaluate once for each value"
        return Problem(key=key, value=_value_text(override), reason=reason)
    if override.is_delete():
        return Problem(key=key, reason=f"an evaluation removes no key: type {key}=null to switch it off")
    return None


def _top(override: Override) -> str:
    return str(override.key_or_group).partition(".")[0].partition("/")[0]


def _value_text(override: Override) -> str:
    return str(override.input_line).partition("=")[2]


def _label(override: Override) -> str:
    key, value = override.key_or_group, _value_text(override)
    return option_label(key, value) if key in GROUPS else f"{key}-{value}"

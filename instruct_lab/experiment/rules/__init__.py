"""Rules that check, before anything is loaded, whether the choices of a run fit together.

A rule reads built components and yields problems, each with its full key. To add a rule, write a function whose
parameters are fields of `Experiment` (see `apply.py`), and add it to one of the lists below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from instruct_lab.errors import Problem
from instruct_lab.experiment.rules import (
    combinations,
    comparisons,
    declarations,
    devices,
    engines,
    monitoring,
    sharding,
    streams,
    trainer,
)
from instruct_lab.experiment.rules.apply import Rule, apply

COMBINATION_RULES: tuple[Rule, ...] = (
    combinations.check_families,
    combinations.check_quantization,
    combinations.check_trained_tokenizer,
    combinations.check_tuning,
    combinations.check_biases,
    combinations.check_overlong,
    combinations.check_micro_batch,
    combinations.check_packing,
    combinations.check_metrics,
    combinations.check_pair_metrics,
    combinations.check_answers,
    combinations.check_benchmarks,
    combinations.check_num_samples,
    streams.check_streamed_steps,
    streams.check_streamed_objective,
    streams.check_streamed_parts,
    engines.check_engine,
    engines.check_engine_devices,
    comparisons.check_opponents,
    sharding.check_sharded_choices,
    declarations.check_supervision,
    declarations.check_new_tokens,
    declarations.check_biases_exist,
    declarations.check_positions,
    declarations.check_packed_model,
    declarations.check_chat_template,
)
"""Rules that compare choices of several groups. `check --all` skips these rules, since it combines each option with the
default options of all other groups, and an option need not suit the default family, objective and metrics."""

SETTING_RULES: tuple[Rule, ...] = (
    combinations.check_averages,
    combinations.check_answer_length,
    trainer.check_target,
    trainer.check_owned_arguments,
    trainer.check_counts,
    devices.check_devices,
    devices.check_float16,
    sharding.check_split,
    sharding.check_sharded_trainer,
    trainer.check_bound,
    trainer.check_loggers,
    monitoring.check_monitors,
    monitoring.check_modes,
    declarations.check_learning_rate,
)
"""Rules about single settings, which `check --all` also applies."""

TRAINING_RULES: tuple[Rule, ...] = (
    declarations.check_training_rows,
    trainer.check_unused_arguments,
    devices.check_launch_here,
    devices.check_accelerator_here,
    devices.check_processes_here,
    devices.check_nodes_here,
    devices.check_precision_here,
)
"""Rules that only a new run must follow; a recorded run need not, since it can be continued or evaluated elsewhere."""


def problems(built: Mapping[str, Any], settings_only: bool = False) -> Iterator[Problem]:
    """Apply `COMBINATION_RULES` and `SETTING_RULES` to the built components, and yield the problems.

    Args:
        built: components, keyed by full key; see `instruct_lab.config.build.Build`.
        settings_only: whether to apply only `SETTING_RULES`.
    """
    if not settings_only:
        yield from combination_problems(built)
    for rule in SETTING_RULES:
        yield from apply(rule, built)


def training_problems(built: Mapping[str, Any]) -> Iterator[Problem]:
    """Apply `TRAINING_RULES` to the built components, and yield the problems, which concern only new runs."""
    for rule in TRAINING_RULES:
        yield from apply(rule, built)


def combination_problems(built: Mapping[str, Any]) -> Iterator[Problem]:
    """Apply only `COMBINATION_RULES` to the built components and yield the problems."""
    for rule in COMBINATION_RULES:
        yield from apply(rule, built)

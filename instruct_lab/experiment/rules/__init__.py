"""Rules that check, before anything is loaded, whether the choices of a run fit together.

A rule is a function that reads components and yields problems, each with the full config key of the wrong value. To add
a rule, write a function whose parameters have the names and types of fields of `Experiment`, and add it to one of the
tuples of this module: `COMBINATION_RULES`, `SETTING_RULES` or `TRAINING_RULES`.
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
"""Rules that compare choices of several groups.

`check --all` skips these rules for all options but studies: it combines each option with the default options of the
other groups, and the option need not suit the default model, objective and metrics.
"""

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
"""Rules for new runs only: that there is data to train on, that all arguments have an effect, and that this machine can
do what the run asks for. A recorded run may break them, since it can be continued or evaluated on another machine."""


def problems(built: Mapping[str, Any], settings_only: bool = False) -> Iterator[Problem]:
    """Apply `COMBINATION_RULES` and `SETTING_RULES` to the components of a run, and yield the problems found.

    The former compare choices of several groups. The latter check single settings, some of them against other settings.

    Args:
        built: the components that could be built, keyed by full key, and the config's top-level values that are
            strings, such as `runs_path`.
        settings_only: whether to apply only `SETTING_RULES`.
    """
    if not settings_only:
        yield from combination_problems(built)
    for rule in SETTING_RULES:
        yield from apply(rule, built)


def training_problems(built: Mapping[str, Any]) -> Iterator[Problem]:
    """Apply `TRAINING_RULES`, the rules for new runs only, to the components of a run, and yield the problems."""
    for rule in TRAINING_RULES:
        yield from apply(rule, built)


def combination_problems(built: Mapping[str, Any]) -> Iterator[Problem]:
    """Apply `COMBINATION_RULES`, which compare choices of several groups, to the components of a run.

    Yields the problems found.
    """
    for rule in COMBINATION_RULES:
        yield from apply(rule, built)

"""What the choices of a run have to agree on, checked before anything is loaded.

In: the components that were built. Out: problems, each with the full key that it is about. To add a rule, write a
function whose parameters are fields of `Experiment` (see `apply.py`) and add it to one of the two lists below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from instruct_lab.errors import Problem
from instruct_lab.experiment.rules import combinations, declarations, monitoring, trainer
from instruct_lab.experiment.rules.apply import Rule, apply

COMBINATION_RULES: tuple[Rule, ...] = (
    combinations.check_families,
    combinations.check_quantization,
    combinations.check_trained_tokenizer,
    combinations.check_tuning,
    combinations.check_biases,
    combinations.check_overlong,
    combinations.check_metrics,
    combinations.check_answers,
    combinations.check_num_samples,
    declarations.check_supervision,
    declarations.check_new_tokens,
    declarations.check_biases_exist,
    declarations.check_positions,
)
"""What choices of several groups have to agree on. `check --all` skips these, since it combines one option with the
defaults of all other groups, and it need not suit their family, objective and metrics."""

SETTING_RULES: tuple[Rule, ...] = (
    combinations.check_averages,
    combinations.check_answer_length,
    trainer.check_target,
    trainer.check_owned_arguments,
    trainer.check_counts,
    trainer.check_devices,
    trainer.check_bound,
    trainer.check_float16,
    trainer.check_loggers,
    monitoring.check_monitors,
    monitoring.check_modes,
    declarations.check_learning_rate,
)
"""What single settings have to agree on."""


def problems(built: Mapping[str, Any], settings_only: bool = False) -> Iterator[Problem]:
    """Yield what does not go together among the components that were built.

    Args:
        built: components by full key, as `instruct_lab.config.build.Build.built` holds them.
        settings_only: apply `SETTING_RULES` only.
    """
    if not settings_only:
        yield from combination_problems(built)
    for rule in SETTING_RULES:
        yield from apply(rule, built)


def combination_problems(built: Mapping[str, Any]) -> Iterator[Problem]:
    """The same, by `COMBINATION_RULES` only."""
    for rule in COMBINATION_RULES:
        yield from apply(rule, built)

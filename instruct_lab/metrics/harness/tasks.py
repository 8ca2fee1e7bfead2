"""Loading of tasks of lm-evaluation-harness by name, and measurement of a model on them."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import random
from collections.abc import Collection, Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from instruct_lab.errors import InstructLabError, wrap_errors
from instruct_lab.metrics.benchmark import DIRECTIONS, TaskScores
from instruct_lab.metrics.harness._model import LoadedLM, decoding_as_exported, without_bars
from instruct_lab.metrics.harness.names import EXAMPLES, names_in
from instruct_lab.metrics.harness.scores import pooled, task_scores
from instruct_lab.model import LoadedModel
from instruct_lab.progress import stage
from instruct_lab.template import Template

if TYPE_CHECKING:
    from instruct_lab.metrics.lm_eval import LmEval

SEED, NUMPY_SEED, TORCH_SEED, FEWSHOT_SEED = 0, 1234, 1234, 1234
"""The default random seeds of lm-evaluation-harness."""


def measure_tasks(
    suite: LmEval, loaded: LoadedModel, template: Template, known: Collection[str]
) -> Iterator[tuple[str, TaskScores]]:
    """Measure a model on the tasks and groups of tasks that `suite` names; yield the name of each with its scores.

    Args:
        suite: the settings of the benchmark.
        loaded: the model in memory, with or without adapters.
        template: the template of the run.
        known: names of tasks and groups to leave out, because they have been measured before.

    Raises:
        InstructLabError: a task cannot be loaded, its data cannot be reached, or the model cannot be measured.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    do = (
        "download the data once with a network, give task files with local data (include_path), or install what the "
        "tasks need: pip install 'lm-eval[tasks]'"
    )
    loading = wrap_errors(what="The tasks cannot be loaded", where=", ".join(suite.tasks), do=do)
    with stage("loading the data of the benchmarks"), loading:
        units = _units(suite)
    units = {name: unit for name, unit in units.items() if name not in known}
    if not units:
        return
    lm = LoadedLM(loaded, template, suite.batch_size)
    for name, unit in units.items():
        do = "leave the task out, or change its settings, such as chat_template and num_fewshot"
        measuring = wrap_errors(what="The model cannot be measured on this task", where=name, do=do)
        with stage(f"benchmark {name}", unit="request"), decoding_as_exported(loaded, template), measuring:
            scores = _measure(suite, lm, name, unit)
        yield name, scores


def _units(suite: LmEval) -> dict[str, Any]:
    """Load the chosen tasks and groups, and return those whose results are reported, keyed by name.

    Results are reported for each group for which the library aggregates a score, except for a group that is part of
    another such group. A task is reported if it is in none of the reported groups.
    """
    from datasets import disable_progress_bars
    from lm_eval.tasks import TaskManager

    disable_progress_bars()
    manager = TaskManager(
        include_path=[str(folder) for folder in (EXAMPLES, *suite.folders)],
        include_defaults=not names_in(EXAMPLES, *suite.folders).issuperset(suite.tasks),  # indexing them takes seconds
    )
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = manager.load(suite.tasks)
    for name, task in loaded["tasks"].items():
        _check_task(name, task)
        if task.get_config("num_fewshot") != 0:  # a task that says 0 has prompts that suit no worked examples
            num_fewshot = suite.num_fewshot if suite.num_fewshot is not None else task.get_config("num_fewshot")
            task.set_config(key="num_fewshot", value=num_fewshot or 0)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
    groups = [group for group in loaded.get("groups", {}).values() if group.has_aggregation]
    inner = {name for group in groups for name in [one.name for one in group.get_all_groups()]}
    outer = {group.name: group for group in groups if group.name not in inner}
    covered = {task.task_name for group in outer.values() for task in group.get_all_tasks()}
    return {**outer, **{name: task for name, task in loaded["tasks"].items() if name not in covered}}


def _check_task(name: str, task: Any) -> None:
    if getattr(task, "UNSAFE_CODE", False):
        raise InstructLabError(
            f"The task {name} executes programs that the model writes, without a sandbox",
            where="tasks of the benchmarks",
            do="leave it out, and measure programs with data=human_eval metrics=code_execution, in a sandbox",
        )
    if getattr(task, "MULTIMODAL", False):
        raise InstructLabError(
            f"The task {name} has images or sound", where="tasks of the benchmarks", do="choose tasks of text only"
        )


def _measure(suite: LmEval, lm: LoadedLM, name: str, unit: Any) -> TaskScores:
    """Measure a model on one task or on all tasks of a group, and return the scores of the task or group.

    Args:
        suite: the settings of the benchmark.
        lm: the model.
        name: name of the task or group.
        unit: the library's object for the task or group.
    """
    from lm_eval.evaluator import evaluate

    is_group = hasattr(unit, "get_all_tasks")
    tasks = {task.task_name: task for task in unit.get_all_tasks()} if is_group else {name: unit}
    random.seed(SEED)
    np.random.seed(NUMPY_SEED)
    torch.manual_seed(TORCH_SEED)
    with without_bars(), contextlib.redirect_stdout(io.StringIO()):
        found = evaluate(
            lm,
            {"tasks": tasks},
            limit=suite.limit,
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=suite.chat_template,
            fewshot_as_multiturn=suite.chat_template and suite.fewshot_as_multiturn,
        )
    of_task = {
        one: task_scores(one, task, found["samples"][one], functools.partial(_describe, suite, one, task))
        for one, task in tasks.items()
    }
    if not is_group:
        return of_task[name]
    describe = functools.partial(_describe, suite, name, unit)
    return pooled(list(of_task.values()), unit.aggregate_metric_list, describe)


def _describe(suite: LmEval, name: str, unit: Any, score: str, aggregated: str, is_better: bool | None) -> str:
    """Describe how a score of a task or a group is computed; values with the same description can be compared.

    Args:
        suite: the settings of the benchmark.
        name: name of the task or group.
        unit: the library's task or group.
        score: name of the score.
        aggregated: how the score is aggregated over examples or tasks, such as `mean`.
        is_better: whether a higher score is better; `None` if neither direction is better.
    """
    parts = ["lm_eval", f"version:{metadata.version('lm-eval')}", f"task:{name}"]
    if not hasattr(unit, "get_all_tasks"):
        parts += [f"task_version:{unit.VERSION}", f"fewshot:{unit.get_config('num_fewshot')}"]
    elif suite.num_fewshot is not None:
        parts.append(f"fewshot:{suite.num_fewshot}")
    parts.append(f"chat:{'yes' if suite.chat_template else 'no'}")
    if suite.limit is not None:
        parts.append(f"limit:{suite.limit}")
    return "|".join([*parts, f"score:{score}", f"by:{aggregated}", f"better:{DIRECTIONS[is_better]}"])

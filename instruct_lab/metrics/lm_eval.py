"""Benchmarks by name, measured by lm-evaluation-harness."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import Problem, Refusal
from instruct_lab.files import user_path
from instruct_lab.metrics.benchmark import Benchmarks, TaskScores
from instruct_lab.optional_packages import is_installed, missing_packages

if TYPE_CHECKING:
    from instruct_lab.model import LoadedModel
    from instruct_lab.template import Template

SPLITS = ("train", "val", "validation", "test")
"""Names that a task cannot have, since results on the run's own splits have these names."""


@component
class LmEval(Benchmarks):
    """Tasks of lm-evaluation-harness, such as GSM8K, IFEval and ARC, measured on the run's model in memory.

    An adapter may be merged or not, and the weights may be quantised. The library itself makes prompts, answers and
    scores. The values therefore equal those that it gives for the exported model, and they use its scale: an accuracy
    is between 0 and 1. Each score is reported under its task's name, such as `arc_easy/acc`. If the task filters
    answers before it scores them, the name of the filter follows: `gsm8k/exact_match,strict-match`. A group of tasks
    whose scores the library averages, such as `mmlu`, has one result, and with `evaluation.by_source` also one for each
    task. Intervals and paired tests use the scores of single examples. For a score that is no mean over examples, such
    as BLEU or a perplexity, the jackknife computes how much each example contributes to it.

    The data comes from the Hugging Face Hub, or from its cache if there is no network. A folder of task files
    (`include_path`) needs a permission, because such files can run Python code. Two tasks come with this package and
    need no network: `cldr_currencies` and `cldr_languages`. Tasks that execute programs of the model are refused: use
    `metrics=code_execution`, which does so in a sandbox. Needs the package lm-eval. Source: Gao et al., A framework for
    few-shot language model evaluation, 2024.
    """

    families: ClassVar = frozenset({"decoder", "encoder-decoder"})

    tasks: Annotated[list[str], Field(min_length=1)]  # names of tasks, groups of tasks or tags
    include_path: str | None = None  # folder of further task files of the library's format; needs a permission
    num_fewshot: Annotated[int, Field(ge=0)] | None = None  # worked examples in each prompt; null: as each task says
    chat_template: bool = False  # render each prompt with the template of the run, as a conversation
    fewshot_as_multiturn: bool = True  # with chat_template, render worked examples as earlier turns of the conversation
    limit: Annotated[int, Field(ge=1)] | None = None  # number of first examples of each task; null: all
    batch_size: Annotated[int, Field(ge=1)] = 8  # number of prompts computed at once

    def __post_init__(self) -> None:
        for index, name in enumerate(self.tasks):
            if self.tasks.index(name) != index:
                raise Refusal("tasks", f"names {name!r} twice; name each task once")
            if name in SPLITS:
                raise Refusal("tasks", f"a task cannot be named {name!r}, since results on the run's own data are")
            if "/" in name or name.endswith((".yaml", ".yml")):
                raise Refusal("tasks", f"{name!r} is a path: name the task, and the folder of its file in include_path")

    @property
    def names(self) -> list[str]:
        """The names of the chosen tasks, groups and tags."""
        return list(self.tasks)

    @property
    def folders(self) -> list[Path]:
        """A list with the folder of the field `include_path`; an empty list if the field is not set."""
        return [] if self.include_path is None else [user_path(self.include_path)]

    def permissions_needed(self) -> Iterator[tuple[str, str]]:
        """Yield the field `include_path` with the permission `task-code`, if a folder of task files is set.

        The templates and functions in such a folder are code.
        """
        if self.include_path is not None:
            yield "include_path", "task-code"

    def problems(self) -> Iterator[Problem]:
        """Report that lm-eval is not installed, that the folder of task files is missing, or that a task is unknown."""
        from instruct_lab.metrics.harness.names import known_names

        yield from missing_packages("lm_eval", subject=type(self).__name__)
        missing = [folder for folder in self.folders if not folder.is_dir()]
        for folder in missing:
            yield Problem(key="include_path", value=self.include_path, reason=f"there is no folder {folder}")
        if missing or not is_installed("lm_eval"):
            return
        known = known_names(self.folders)
        for index, name in enumerate(self.tasks):
            if name not in known:
                reason = f"lm-eval {metadata.version('lm-eval')} has no task, group or tag of this name"
                hint = nearest(name, sorted(known))
                yield Problem(key=f"tasks[{index}]", value=name, reason=reason, suggestion=hint)

    def fingerprint(self) -> dict[str, Any]:
        """Return what changes results besides the settings: lm-eval's version, and a hash of the task files."""
        digest = hashlib.sha256()
        for folder in self.folders:
            for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"):
                digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
        return {"lm-eval": metadata.version("lm-eval"), "files": digest.hexdigest() if self.folders else None}

    def measure(
        self, loaded: LoadedModel, template: Template, known: Collection[str] = ()
    ) -> Iterator[tuple[str, TaskScores]]:
        """Measure a model on one task after the other; yield the name of each task or group with its scores.

        Args:
            loaded: the model and its tokenizer.
            template: the run's template, with which prompts are rendered if `chat_template` is true.
            known: names of tasks and groups to leave out, because their scores are known already.
        """
        from instruct_lab.metrics.harness.tasks import measure_tasks

        yield from measure_tasks(self, loaded, template, known)

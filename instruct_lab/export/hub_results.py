"""Convert a run's results to the two forms that model hubs read.

These are YAML files in the folder `.eval_results`, and entries in the front matter of the model card.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import yaml

from instruct_lab.data import Data, DataSet, HubDataSet, Mixture
from instruct_lab.data.sources.base import Source
from instruct_lab.hub import PINNED
from instruct_lab.pages.format import format_interval
from instruct_lab.records import RunRecord, Summary
from instruct_lab.records.schema import AFTER, SPLITS, split_of

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from instruct_lab.metrics import MetricValue

FOLDER = ".eval_results"
"""Folder of an exported model in which the Hub looks for results on its data sets."""


@dataclasses.dataclass(frozen=True)
class HubResult:
    """A metric's value for the tuned model, with the data set on which it was measured.

    Args:
        name: full name of the metric, such as `test/chrf`.
        value: the value with its confidence interval.
        data: name of the data; the result is reported under this name if `source` is `None`.
        source: the data set on the Hub from which all examples are; `None` if there is no single one.
        is_cut: whether the run itself held the examples out of the rows of the training split.
        evaluation: name of the evaluation that measured the value; empty for the run's own results.
    """

    name: str
    value: MetricValue
    data: str
    source: HubDataSet | None
    is_cut: bool
    evaluation: str = ""

    @property
    def full_name(self) -> str:
        """The name of the metric, preceded by the name of the evaluation if there is one."""
        return f"{self.evaluation}: {self.name}" if self.evaluation else self.name

    @property
    def split(self) -> str:
        """The name under which the examples' split is published.

        For a data set on the Hub, this is the name of its split. If the run itself held the examples out of the data
        set's training split, it is a text such as `validation (held out from train)`. If `source` is `None`, it
        is the name of the run's split; for a benchmark, it is `test`.
        """
        own = split_of(self.name)
        if own not in SPLITS:
            return "test"
        if self.source is None:
            return own
        return f"{own} (held out from {self.source.split})" if self.is_cut else self.source.split


def collect_results(data: Data, record: RunRecord) -> list[HubResult]:
    """Return the metrics' values for the tuned model in a run's record; values that are not finite are left out.

    Args:
        data: the data of the run.
        record: the record of the run.
    """
    choice = record.manifest.choices.get("data")
    return results_on(data, choice if isinstance(choice, str) else "local data", record.summary or Summary())


def results_on(data: Data | None, label: str, summary: Summary) -> list[HubResult]:
    """Return the metrics' values for the tuned model in a summary; values that are not finite are left out.

    Args:
        data: the data on which the model was measured; `None` if the installed version of instruct_lab cannot build it.
        label: name of the data.
        summary: the metrics' values of a run or of an evaluation.
    """
    results = []
    for name, systems in summary.metrics.items():
        value = systems.get(AFTER)
        if value is None or not all(map(math.isfinite, (value.value, value.low, value.high))):
            continue
        if split_of(name) not in SPLITS:  # a benchmark
            results.append(HubResult(name, value, name.rpartition("/")[0], None, False))
            continue
        part = name.partition("/")[2].rpartition("/")[0]
        sources, is_cut = _sources_of(data, split_of(name), part)
        only = sources[0] if len(sources) == 1 and isinstance(sources[0], HubDataSet) else None
        results.append(HubResult(name, value, f"{label}/{part}" if part else label, only, is_cut))
    return results


def _sources_of(data: Data | None, split: str, part: str) -> tuple[list[Source], bool]:
    """Return the sources of a split's examples, and whether the run itself held the examples out of the training rows.

    Args:
        data: the data; `None` if the installed version of instruct_lab cannot build it.
        split: the split.
        part: name of a single source of the data, or of a single data set of a mixture, whose examples are considered;
            an empty text for all examples.
    """
    if isinstance(data, Mixture):
        found = [_sources_of(one, split, "") for name, one in data.parts.items() if one and part in ("", name)]
        return [source for sources, _ in found for source in sources], any(is_cut for _, is_cut in found)
    if not isinstance(data, DataSet):
        return [], False
    is_cut = split != "train" and data.split is not None and getattr(data.split, split, 0) > 0
    named: dict[str, Source | None] = getattr(data, "train" if is_cut else split, {})
    return [source for name, source in named.items() if source and part in ("", name)], is_cut


def card_results(results: list[HubResult], record: RunRecord, task: str, notes: list[str]) -> list[EvalResult]:
    """Convert results to entries of the list of results (`model-index`) in the model card's front matter.

    Args:
        results: the results.
        record: the run's record.
        task: the task of the model, as model hubs name it.
        notes: remarks that apply to every result.
    """
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=task,
            dataset_type=one.data if one.source is None else one.source.repository,
            dataset_name=one.data if one.source is None else one.source.repository,
            dataset_config=None if one.source is None else one.source.configuration,
            dataset_revision=None if one.source is None else one.source.revision,
            dataset_split=one.split,
            metric_type=one.name.rpartition("/")[2],
            metric_name=one.full_name,
            metric_value=one.value.value,
            metric_args={
                "interval": [one.value.low, one.value.high],
                "confidence": 0.95,
                "examples": one.value.count,
                "computed": one.value.signature,
                "run": record.id,
                "notes": [*one.value.notes, *notes],
            },
        )
        for one in results
    ]


def result_files(results: list[HubResult], record: RunRecord, notes: list[str]) -> dict[str, str]:
    """Return the contents of the files in `.eval_results`, keyed by file name; there is one file for each Hub data set.

    Results without a single Hub data set (`source` is `None`) are left out, since each entry must name one. The
    dictionary is empty if the installed version of `huggingface_hub` does not support these files.

    Args:
        results: the results.
        record: the run's record.
        notes: remarks that apply to every result.
    """
    try:
        from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    except ImportError:
        return {}
    entries: dict[str, list[Any]] = {}
    for one in results:
        if one.source is None:
            continue
        value, name, revision = one.value, one.source.configuration, one.source.revision
        is_pinned = PINNED.fullmatch(revision) is not None
        interval = format_interval(value.value, value.low, value.high, digits=4)
        facts = [
            f"metric {one.full_name}: {interval} (95% interval), {value.count} examples",
            f"split {one.split}",
            *([f"configuration {name}"] if name else []),
            *([] if is_pinned else [f"revision {revision}"]),
            f"computed as {value.signature}",
            f"run {record.id}",
            *value.notes,
            *notes,
        ]
        entry = EvalResultEntry(
            dataset_id=one.source.repository,
            task_id=one.full_name,
            value=value.value,
            dataset_revision=revision if is_pinned else None,  # the Hub expects a commit
            date=record.manifest.ended,
            notes="; ".join(facts),
        )
        entries.setdefault(one.source.repository, []).append(entry)
    return {
        f"{repository.replace('/', '--')}.yaml": yaml.safe_dump(
            eval_result_entries_to_yaml(found), sort_keys=False, allow_unicode=True
        )
        for repository, found in entries.items()
    }

"""The evaluations of a run that the model card of an export reports in addition to the run's own results."""

from __future__ import annotations

import dataclasses

from omegaconf import OmegaConf

from instruct_lab.config.build import build
from instruct_lab.config.references import option_label
from instruct_lab.data import Data
from instruct_lab.errors import InstructLabError
from instruct_lab.export.hub_results import HubResult, results_on
from instruct_lab.records import RunRecord, Summary
from instruct_lab.records.evaluations import EvaluationFiles, Origin, evaluation_names


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """An evaluation of the exported weights (`instruct-lab evaluate`) and its results.

    Args:
        name: name of the evaluation.
        origin: the overrides with which the evaluation was started, and the weights that it evaluated.
        summary: the metrics' values for all evaluated systems.
        results: the metrics' values for the tuned model, each with the data set on which it was measured, in the form
            in which they are published on a model hub.
    """

    name: str
    origin: Origin
    summary: Summary
    results: list[HubResult]


def evaluations_of(record: RunRecord, step: int) -> list[Evaluated]:
    """Return the evaluations in a run's record that evaluated the exported weights, sorted by name.

    An evaluation is left out if its files are damaged, or if they do not state the optimizer step of the weights, which
    earlier versions of instruct_lab did not write.

    Args:
        record: the record of the run.
        step: the optimizer step of the exported weights.
    """
    found = []
    for name in evaluation_names(record):
        files = EvaluationFiles(record, name)
        try:
            origin, summary, config = files.origin, files.summary, files.config
        except InstructLabError:
            continue
        if origin is None or summary is None or origin.step != step:
            continue
        data = build(OmegaConf.create({"data": config.get("data")})).root["data"]
        choices = [text.partition("=")[2].strip("'\"") for text in origin.overrides if text.startswith("data=")]
        label = option_label("data", choices[-1]) if choices else record.manifest.choices.get("data")
        results = results_on(data if isinstance(data, Data) else None, str(label or "local data"), summary)
        found.append(Evaluated(name, origin, summary, [dataclasses.replace(one, evaluation=name) for one in results]))
    return found

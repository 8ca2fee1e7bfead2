"""The front matter of a model card: facts about the model that model hubs read and filter by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from instruct_lab.data import Catalogues, Data, DataSet, HubDataSet, Mixture
from instruct_lab.data.sources.base import Source
from instruct_lab.experiment import Experiment
from instruct_lab.export.hub_results import HubResult, card_results
from instruct_lab.model import Hub, LocalFolder
from instruct_lab.records import RunRecord

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

CARD = "README.md"
LANGUAGE = re.compile(r"[a-z]{2,3}(?=$|[_-])")
"""Matches the language at the start of a locale code, as `de` in `de_AT`; model hubs list only the language."""


def front_matter(
    experiment: Experiment, record: RunRecord, library: str, results: list[HubResult], notes: list[str]
) -> ModelCardData:
    """Collect the front matter of the model card; facts that are not known are left out.

    Args:
        experiment: the run's configuration.
        record: the run's record.
        library: the name of the library that loads the export, as model hubs spell it.
        results: the results of the exported weights.
        notes: remarks on all results, for example that the weights were evaluated in another number type.
    """
    from huggingface_hub import ModelCardData

    weights, task = experiment.model.weights, _task(experiment)
    sources = list(_training_sources(experiment.data))
    datasets = {source.repository for source in sources if isinstance(source, HubDataSet)}
    return ModelCardData(
        library_name=library,
        pipeline_tag=task,
        base_model=weights.repository if isinstance(weights, Hub) else None,
        license=_licence(experiment),
        language=sorted(set(_languages(experiment.data, sources))) or None,
        datasets=sorted(datasets) or None,
        tags=["instruct-lab"],
        model_name=record.name,
        eval_results=card_results(results, record, task, notes) or None,
    )


def _task(experiment: Experiment) -> str:
    if experiment.objective.head == "score":
        return "text-classification"
    return "fill-mask" if experiment.model.family == "encoder" else "text-generation"


def _training_sources(data: Data) -> Iterator[Source]:
    if isinstance(data, Mixture):
        for part in data.parts.values():
            if part is not None:
                yield from _training_sources(part)
    elif isinstance(data, DataSet):
        yield from (source for source in data.train.values() if source is not None)


def _languages(data: Data, sources: list[Source]) -> Iterator[str]:
    """Yield the languages that the options of the data state; no language is guessed from texts."""
    parts = [data, *(data.parts.values() if isinstance(data, Mixture) else ())]
    stated = [part.language for part in parts if isinstance(part, DataSet)]
    stated += [source.language for source in sources if isinstance(source, Catalogues)]
    for code in stated:
        if found := LANGUAGE.match(code or ""):
            yield found[0]


def _licence(experiment: Experiment) -> str | None:
    """Return the licence that the base model's card declares; `None` if it declares none or is not on this machine."""
    import huggingface_hub

    weights = experiment.model.weights
    file: object = None
    if isinstance(weights, Hub):
        file = huggingface_hub.try_to_load_from_cache(weights.repository, CARD, revision=weights.revision)
    elif isinstance(weights, LocalFolder):
        file = str(weights.folder / CARD)
    if not isinstance(file, str) or not Path(file).is_file():
        return None
    try:
        licence = huggingface_hub.ModelCard.load(file, ignore_metadata_errors=True).data.license
    except Exception:  # a stranger's card, whose front matter may be anything
        return None
    return licence if isinstance(licence, str) else None

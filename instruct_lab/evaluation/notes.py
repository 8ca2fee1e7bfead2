"""Notes that warn about misleading values; every report shows them with the values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from instruct_lab.evaluation.setup import EvaluationSetup
from instruct_lab.generation import Prediction
from instruct_lab.metrics import AnswerMetric, ComparisonMetric, CorpusMetric, Metric
from instruct_lab.metrics.intervals import example_scores
from instruct_lab.metrics.resampling import units_of
from instruct_lab.metrics.sampling import sampling_variance
from instruct_lab.records.measurement import Measurement
from instruct_lab.records.schema import AFTER, short_name

FEW_EXAMPLES = 20
"""Number of examples below which a note warns that a bootstrap interval is too narrow."""


def value_notes(setup: EvaluationSetup, split: str, system: str, name: str, measurement: Measurement) -> list[str]:
    """List the notes on the value of one metric for one system.

    Args:
        setup: the settings of the evaluation. `EvaluationSetup.for_references` has adapted its metrics to the
            references, for example to their writing system.
        split: the evaluated split.
        system: name of the evaluated system: the base model, the tuned model or a baseline.
        name: name of the metric.
        measurement: the system's results on the examples.
    """
    metric, rows = setup.metrics[name], measurement.rows[name]
    predictions = measurement.predictions if isinstance(metric, AnswerMetric) else []
    return [
        *measurement.remarks.get(name, ()),
        *metric.notes(rows, predictions),
        *_cut_answers(predictions, setup.generation.max_new_tokens),
        *_equal_scores(metric, rows),
        *count_notes(len(rows)),
        *units_of(measurement.clusters_of(rows), len(rows)).notes(),
        *_sampling_notes(metric, predictions),
        *(selection_notes(setup, split) if system == AFTER else ()),
    ]


def count_notes(count: int) -> Iterator[str]:
    """Yield a note if there are too few examples for a reliable interval."""
    if count < FEW_EXAMPLES:
        examples = f"{count} example{'s' * (count != 1)}"
        yield f"measured on {examples}: the interval of fewer than {FEW_EXAMPLES} is too narrow, so compare with care"


def selection_notes(setup: EvaluationSetup, split: str) -> Iterator[str]:
    """Yield a note if the evaluated checkpoint was chosen by a value that was measured on the same split."""
    if setup.selected_by is not None and setup.selected_by.startswith(f"{short_name(split)}/"):
        yield f"the evaluated checkpoint was chosen by {setup.selected_by}, on this split: the value is optimistic"


def _cut_answers(predictions: Sequence[Prediction], max_new_tokens: int | None) -> Iterator[str]:
    """Yield a note if answers were cut at the length limit.

    For comparison, the note gives the number of tokens of the longest reference.
    """
    num_cut = sum(one.num_cut for one in predictions)
    if num_cut:
        share = 100 * num_cut / sum(1 + len(one.samples) for one in predictions)
        longest = max(one.reference_tokens for one in predictions)
        yield (
            f"{share:.3g} % of the answers ended at the length limit (generation.max_new_tokens={max_new_tokens}); "
            f"the longest reference has {longest} tokens"
        )


def _sampling_notes(metric: Metric[Any], predictions: Sequence[Prediction]) -> Iterator[str]:
    """Yield a note on how much of a value's variance is due to sampling, if each prompt has several answers.

    The variance due to sampling is measured by scoring each of a prompt's answers separately. This is not possible, so
    there is no note, for three sorts of metrics: those that need several answers to a prompt, those that score all
    answers together, and those that compare the answers of two models.
    """
    count = min((len(one.samples) for one in predictions), default=0)
    if not count or isinstance(metric, CorpusMetric | ComparisonMetric) or not isinstance(metric, AnswerMetric):
        return
    if metric.reads_samples or metric.num_answers > 1:
        return
    answers = [
        [metric.of_prediction(dataclasses.replace(one, text=text)) for text in (one.text, *one.samples[:count])]
        for one in predictions
    ]
    variance = sampling_variance(metric, answers)
    if variance is not None:
        yield (
            f"by {1 + count} sampled answers to each prompt, {100 * variance.share:.0f} % of the variance is due to "
            f"sampling (standard deviation {variance.sampling**0.5:.2g}), the rest to the choice of examples "
            f"({variance.examples**0.5:.2g})"
        )


def _equal_scores(metric: Metric[Any], rows: Sequence[Any]) -> Iterator[str]:
    """Yield a note if all examples have the same score, so that the interval has no width."""
    scores = example_scores(metric, rows)
    if len(scores) > 1 and not math.isnan(scores[0]) and len(set(scores)) == 1:
        yield f"all {len(scores)} examples score {scores[0]:.4g}: the interval has no width, which is not certainty"

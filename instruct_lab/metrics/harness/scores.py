"""Convert the results that lm-evaluation-harness returns for each example to scores of single examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from instruct_lab.generation import Prediction
from instruct_lab.metrics.base import Statistics
from instruct_lab.metrics.benchmark import TaskScores
from instruct_lab.metrics.sacrebleu_metrics import BLEU, TER, ChrF

UNFILTERED = "none"
"""The library's name of a filter that changes nothing."""
JACKKNIFE = "jackknife"


def task_scores(name: str, task: Any, samples: Sequence[Mapping[str, Any]], describe: Callable[..., str]) -> TaskScores:
    """Convert the library's results for one task to the scores of each example.

    Args:
        name: name of the task.
        task: the library's object for the task.
        samples: the library's results for each example, once for each filter (a way to extract the answer from a
            response).
        describe: function that returns a text on how a score is computed, given the score's name, how it is aggregated
            (such as `mean`), and whether a higher score is better.
    """
    by_filter: dict[str, dict[Any, Mapping[str, Any]]] = {}
    for sample in samples:
        by_filter.setdefault(sample["filter"], {})[sample["doc_id"]] = sample
    first = next(iter(by_filter.values()))
    rows: dict[str, list[Statistics]] = {}
    signatures: dict[str, str] = {}
    for filter_name, of_filter in by_filter.items():
        for metric in dict.fromkeys(one for sample in of_filter.values() for one in sample["metrics"]):
            full_name = metric if filter_name == UNFILTERED else f"{metric},{filter_name}"
            items = [of_filter[index].get(metric) if index in of_filter else None for index in first]
            aggregate = task.aggregation().get(metric, _mean)
            found = contributions(items, aggregate)
            if found is not None:
                rows[full_name] = found
                by = "mean" if _is_mean(aggregate) else f"{aggregate.__name__} by {JACKKNIFE}"
                signatures[full_name] = describe(full_name, by, task.higher_is_better().get(metric))
    predictions = [_prediction(name, sample) for sample in first.values()]
    return TaskScores(predictions, rows, [name] * len(first), signatures)


def contributions(items: Sequence[Any], aggregate: Callable[[list[Any]], Any]) -> list[Statistics] | None:
    """Divide a score that is aggregated over examples into one contribution for each; their mean is the score.

    If the aggregated score is a mean, the contribution of an example is its own score. Otherwise the jackknife is used:
    if `s` is the aggregated score without the example, and `m` is the mean of `s` over all `n` examples, the
    contribution is the aggregated score of all examples plus `(n - 1) * (m - s)`.

    Args:
        items: the values that the library aggregates, one for each example; `None` for an example without a score.
        aggregate: the library's function that aggregates the items.

    Returns:
        The contribution of each example and its weight, which is 1, or 0 for an example without a score; `None` if the
        aggregated score is not a number, or if no example has a score.
    """
    known = [item for item in items if item is not None]
    if not known:
        return None
    if _is_mean(aggregate):
        parts = [_number(item) for item in known]
    else:
        whole = _number(aggregate(known))
        parts = [whole]
        if whole is not None and len(known) > 1:
            without = _without_each(known, aggregate, whole)
            numbers = [whole if one is None else one for one in without]  # undefined without this example
            middle = math.fsum(numbers) / len(numbers)
            parts = [whole + (len(known) - 1) * (middle - one) for one in numbers]
    if any(part is None for part in parts):
        return None
    of_known = iter(parts)
    return [[0.0, 0.0] if item is None else [float(next(of_known) or 0.0), 1.0] for item in items]


SUMMED = {"bleu": BLEU(), "chrf": ChrF(), "chrfpp": ChrF(word_order=2), "ter": TER()}
"""Metrics of this package that give the same scores as functions of the library, keyed by the functions' names.

They compute the score from sums over the examples.
"""


def _without_each(items: list[Any], aggregate: Callable[[list[Any]], Any], whole: float) -> list[float | None]:
    """Return for each item the score that is aggregated over all other items; `None` if it is not a number.

    For BLEU, chrF, chrF++ and TER, a metric of this package scores each text only once and subtracts each item's
    statistics from the sum over all items, provided that it gives the same score as the library for all items. In all
    other cases, the library aggregates the other items again for each item. For BLEU and a task with thousands of
    examples, this would take hours.

    Args:
        items: the values that the library aggregates, one for each example.
        aggregate: the library's function that aggregates the items.
        whole: the score that is aggregated over all items.
    """
    metric = SUMMED.get(getattr(aggregate, "__name__", ""))
    if metric is not None:
        rows = [metric.statistics(_text_of(answer), _references(target)) for target, answer in items]
        total = [math.fsum(column) for column in zip(*rows, strict=True)]
        if math.isclose(metric.value(total), whole, rel_tol=1e-9, abs_tol=1e-9):
            rests = ([a - b for a, b in zip(total, row, strict=True)] for row in rows)
            return [_number(metric.value(rest)) for rest in rests]
    return [_number(aggregate([*items[:index], *items[index + 1 :]])) for index in range(len(items))]


def _references(target: Any) -> tuple[str, ...]:
    return tuple(map(str, target)) if isinstance(target, list | tuple) else (str(target),)


def _text_of(answer: Any) -> str:
    return str(answer[0] if isinstance(answer, list | tuple) else answer)


def pooled(parts: Sequence[TaskScores], metrics: Sequence[Any], describe: Callable[..., str]) -> TaskScores:
    """Return the scores of a group of tasks, aggregated over the tasks as lm-evaluation-harness does.

    Args:
        parts: the scores of each task.
        metrics: the library's settings for each metric of the group: its name, its filters, and whether tasks are
            weighted by their number of examples or equally.
        describe: function that returns a text on how a score is computed, given the score's name, how it is aggregated
            (such as `mean`), and whether a higher score is better.
    """
    rows: dict[str, list[Statistics]] = {}
    signatures: dict[str, str] = {}
    for setting in metrics:
        for full_name in dict.fromkeys(one for part in parts for one in part.rows):
            metric, _, filter_name = full_name.partition(",")
            filters = setting.filter_list
            if metric != setting.metric or (filters is not None and (filter_name or UNFILTERED) not in filters):
                continue
            rows[full_name] = []
            for part in parts:
                of_part = part.rows.get(full_name, [[0.0, 0.0]] * len(part.predictions))
                total = math.fsum(weight for _, weight in of_part)
                share = 1.0 if setting.weight_by_size or not total else 1 / total
                rows[full_name] += [[value * share, weight * share] for value, weight in of_part]
            better = {part.signatures[full_name].rpartition("|better:")[2] for part in parts if full_name in part.rows}
            by = "mean of examples" if setting.weight_by_size else "mean of tasks"
            known = {"higher": True, "lower": False}.get(better.pop()) if len(better) == 1 else None
            signatures[full_name] = describe(full_name, by, known)
    predictions = [one for part in parts for one in part.predictions]
    return TaskScores(predictions, rows, [one for part in parts for one in part.sources], signatures)


def _prediction(name: str, sample: Mapping[str, Any]) -> Prediction:
    """Return the model's answer to an example, with the references.

    The answer is the generated text or, for a task with choices, the choice with the highest likelihood.
    """
    arguments, responses = sample["arguments"], sample["resps"]
    target, prompt = sample["target"], str(arguments[0][0])
    first = responses[0][0]
    text = str(first)
    if isinstance(first, str):
        text = first
    elif len(arguments) > 1 and all(len(one) > 1 for one in arguments):
        likelihoods = [_number(one[0][0] if isinstance(one[0], tuple | list) else one[0]) for one in responses]
        found = [-math.inf if one is None else one for one in likelihoods]
        best = max(range(len(found)), key=found.__getitem__)
        text = str(arguments[best][1]).strip()
        if isinstance(target, int) and 0 <= target < len(arguments):
            target = str(arguments[target][1]).strip()
    references = _references(target)
    identity = f"{name}/{sample['doc_id']}-{sample['doc_hash'][:12]}"
    return Prediction(id=identity, split=name, prompt=prompt, text=text, references=references or ("",))


def _mean(items: Sequence[float]) -> float:
    return sum(items) / len(items)


def _is_mean(aggregate: Callable[..., Any]) -> bool:
    from lm_eval.api.metrics import mean

    return aggregate in (mean, _mean)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None

"""Measure a model on held-out examples: its answers, and the likelihood of the references."""

from __future__ import annotations

import dataclasses
import hashlib
import heapq
import random
from collections.abc import Mapping
from typing import Any

from instruct_lab.batching import Example
from instruct_lab.data import Audit, Conversation
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment import Experiment
from instruct_lab.generation import Prediction
from instruct_lab.metrics import AnswerMetric, LikelihoodMetric, Metric, MetricValue, ValueMetric
from instruct_lab.metrics.intervals import summarize
from instruct_lab.objective import TokenScores
from instruct_lab.records.schema import Measurement
from instruct_lab.training.datamodule import InstructionData


def metric_values(metrics: Mapping[str, Metric], measurement: Measurement) -> dict[str, MetricValue]:
    """Each metric's value and interval."""
    return {name: summarize(metrics[name], rows) for name, rows in measurement.rows.items() if rows}


def sample(data: InstructionData, split: str, max_examples: int | None, by_source: bool = False) -> list[Conversation]:
    """The conversations that are measured: those with an answer, the first by the hash of their id.

    The choice depends on each conversation alone, so that runs over the same data measure the same examples.

    Args:
        data: the run's data.
        split: which of its splits.
        max_examples: how many at most; none: all.
        by_source: take so many of each source.
    """
    encoded = {example.id for example in data.examples.get(split, [])}
    usable = (c for c in data.conversations.get(split, []) if c.answers and c.id in encoded)
    if max_examples is None:
        return sorted(usable, key=_rank)
    if not by_source:
        return heapq.nsmallest(max_examples, usable, key=_rank)
    chosen = []
    for source in data.sources(split):
        of_source = (c for c in data.conversations[split] if c.source == source and c.answers and c.id in encoded)
        chosen += heapq.nsmallest(max_examples, of_source, key=_rank)
    return sorted(chosen, key=_rank)


def _rank(conversation: Conversation) -> bytes:
    return hashlib.sha256(conversation.id.encode()).digest()


def measure(
    experiment: Experiment,
    model: Any,
    tokenizer: Any,
    data: InstructionData,
    split: str,
    chosen: list[Conversation],
    teacher: Any = None,
    prompted: list[Conversation] | None = None,
) -> Measurement:
    """Answer the chosen conversations' prompts and score them with every metric of the run.

    Args:
        experiment: the run's configuration.
        model: what is measured.
        tokenizer: its tokenizer.
        data: the run's data.
        split: where the conversations stand.
        chosen: what is measured on.
        teacher: the other model that the objective needs, if it needs one.
        prompted: the same conversations as the model is asked them; none: as they are.
    """
    predictions = answer(experiment, model, tokenizer, split, chosen, prompted)
    rows = answer_rows(experiment, predictions)
    metrics = experiment.active_metrics
    likelihoods = {name: metric for name, metric in metrics.items() if isinstance(metric, LikelihoodMetric)}
    told = {name: metric for name, metric in metrics.items() if isinstance(metric, ValueMetric)}
    if likelihoods or told:
        examples = _prompted_examples(experiment, tokenizer, prompted) if prompted else data.some(split, chosen)
        scored = score_examples(experiment, model, tokenizer, examples, bool(likelihoods), bool(told), teacher)
        for name, likelihood in likelihoods.items():
            rows[name] = [likelihood.statistics(one.tokens) for one in scored if one.tokens is not None]
        for name, value in told.items():
            rows[name] = [value.statistics(one.values[value.value_name]) for one in scored]
    rows = {name: rows[name] for name in metrics if name in rows}
    return Measurement(predictions, rows, [conversation.source for conversation in chosen])


def _prompted_examples(experiment: Experiment, tokenizer: Any, prompted: list[Conversation]) -> list[Example]:
    """Examples of prompts that were changed, with the final answer alone as target.

    Raises:
        InstructLabError: one is too long.
    """
    audit = Audit()
    examples = list(
        experiment.batching.encode(prompted, experiment.template, tokenizer, audit, "prompted", experiment.layout)
    )
    if len(examples) < len(prompted) or audit.count("truncated"):
        raise InstructLabError(
            f"{len(prompted) - len(examples) or audit.count('truncated')} of {len(prompted)} prompts are too long with "
            "what the tuning method puts before them",
            where="batching.max_tokens",
            do="raise it, or lower tuning.shots",
        )
    return examples


def answer(
    experiment: Experiment,
    model: Any,
    tokenizer: Any,
    split: str,
    chosen: list[Conversation],
    prompted: list[Conversation] | None = None,
) -> list[Prediction]:
    """The model's answers, in the order of the conversations; none where no metric looks at answers."""
    if not any(isinstance(metric, AnswerMetric) for metric in experiment.active_metrics.values()) or not chosen:
        return []
    asked = chosen if prompted is None else prompted
    count = experiment.generation.num_samples
    texts = answers(experiment, model, tokenizer, [one for one in asked for _ in range(count)])
    samples = [texts[start : start + count] for start in range(0, len(texts), count)]
    return predictions_of(split, chosen, samples)


def answers(experiment: Experiment, model: Any, tokenizer: Any, asked: list[Conversation]) -> list[str]:
    """The model's answers to the conversations' prompts, as the run's generation settings decode them."""
    prompts = experiment.batching.encode_prompts(asked, experiment.template, tokenizer, experiment.layout)
    if experiment.model.family == "encoder-decoder":
        stops = [tokenizer.eos_token_id]  # the decoder's text is the answer alone
    else:
        stops = experiment.template.stop_token_ids(tokenizer)
    return experiment.generation.generate(model, tokenizer, prompts, stops)


def predictions_of(split: str, chosen: list[Conversation], samples: list[list[str]]) -> list[Prediction]:
    """Answers beside what they are compared against; of several to one prompt, the first is the prediction."""
    return [
        Prediction(
            id=conversation.id,
            split=split,
            prompt=conversation.prompt[-1].content if conversation.prompt else "",
            text=texts[0],
            references=conversation.answers,
            metadata=conversation.metadata,
            samples=tuple(texts[1:]),
        )
        for conversation, texts in zip(chosen, samples, strict=True)
    ]


def answer_rows(experiment: Experiment, predictions: list[Prediction]) -> dict[str, list[list[float]]]:
    """Every answer metric's statistics for each prediction."""
    return {
        name: [metric.of_prediction(prediction) for prediction in predictions]
        for name, metric in experiment.active_metrics.items()
        if isinstance(metric, AnswerMetric)
    }


@dataclasses.dataclass(frozen=True)
class Scored:
    """What the model says of one example's labels, and what the objective tells of it, as far as it was asked for."""

    tokens: TokenScores | None
    values: dict[str, float]


def score_examples(
    experiment: Experiment,
    model: Any,
    tokenizer: Any,
    examples: list[Example],
    tokens: bool,
    values: bool,
    teacher: Any = None,
) -> list[Scored]:
    """Score examples without generating anything, in order.

    Args:
        experiment: the run's configuration.
        model: what is measured; its mode is as before afterwards.
        tokenizer: its tokenizer.
        examples: as batching gave them; an objective that masks or noises does it as in validation.
        tokens: whether the labels' likelihoods are asked for.
        values: whether the objective's further values are asked for.
        teacher: the other model that the objective needs, if it needs one.
    """
    import torch

    from instruct_lab.objective.log_probabilities import token_scores

    batching, objective = experiment.batching, experiment.objective
    drawn = [
        objective.corrupt(example, tokenizer, random.Random(f"{experiment.seed}:{example.id}")) for example in examples
    ]
    by_length = sorted(range(len(drawn)), key=lambda index: len(drawn[index].input_ids))
    scored: list[Scored] = [Scored(None, {})] * len(drawn)
    was_training = model.training
    model.eval()
    size = batching.evaluation_batch_size
    device = next(model.parameters()).device
    with torch.inference_mode():
        for start in range(0, len(by_length), size):
            indices = by_length[start : start + size]
            batch = batching.collate([drawn[index] for index in indices], tokenizer.pad_token_id).to(device)
            told = token_scores(model, batch) if tokens else [None] * len(indices)
            further = objective.loss(model, batch, teacher).values if values else {}
            lists = {name: column.tolist() for name, column in further.items()}
            for place, index in enumerate(indices):
                scored[index] = Scored(told[place], {name: column[place] for name, column in lists.items()})
    model.train(was_training)
    return scored


def baselines(
    experiment: Experiment, data: InstructionData, split: str, chosen: list[Conversation]
) -> dict[str, Measurement]:
    """The data set's plain baselines, scored as a model's answers are."""
    named = getattr(experiment.data, "baselines", None) or {}
    measured = {}
    for name, baseline in named.items():
        if baseline is not None and chosen:
            texts = baseline.answers(data.conversations["train"], chosen)
            predictions = predictions_of(split, chosen, [[text] for text in texts])
            sources = [conversation.source for conversation in chosen]
            measured[name] = Measurement(predictions, answer_rows(experiment, predictions), sources)
    return measured

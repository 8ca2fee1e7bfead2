"""Evaluation of a model on held-out examples: its answers, and the likelihood of the references."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from instruct_lab.data import Conversation
from instruct_lab.data.baselines import Baseline
from instruct_lab.evaluation.examples import EvaluatedExamples
from instruct_lab.evaluation.ranks import evaluate_shared, num_ranks
from instruct_lab.evaluation.scores import score_examples
from instruct_lab.evaluation.setup import EvaluationSetup
from instruct_lab.generation import Answer, Prediction
from instruct_lab.metrics import (
    AnswerMetric,
    ComparisonMetric,
    LengthControlledWinRate,
    LikelihoodMetric,
    Metric,
    MetricValue,
    ValueMetric,
)
from instruct_lab.metrics.intervals import summarize
from instruct_lab.metrics.references import all_references
from instruct_lab.model import LoadedModel
from instruct_lab.records.measurement import Measurement


def metric_values(
    metrics: Mapping[str, Metric[Any]], measurement: Measurement, resamples: int = 1000
) -> dict[str, MetricValue]:
    """Compute the value of each metric, with its bootstrap interval.

    Args:
        metrics: the metrics by name. `EvaluationSetup.for_references` has adapted them to the references, for example
            to their writing system.
        measurement: the results of one system: the base model, the tuned model or a baseline.
        resamples: number of bootstrap samples.
    """
    values = {
        name: summarize(metrics[name], rows, clusters=measurement.clusters_of(rows), resamples=resamples)
        for name, rows in measurement.rows.items()
        if rows
    }
    for name, value in values.items():
        metric = metrics[name]
        if isinstance(metric, LengthControlledWinRate):  # whose verdicts it uses is part of how it is computed
            signature = f"{metrics[metric.of].signature()}|{value.signature}"
            values[name] = dataclasses.replace(value, signature=signature)
    return values


def measure(
    setup: EvaluationSetup, loaded: LoadedModel, examples: EvaluatedExamples, teacher: Any = None
) -> Measurement:
    """Generate answers to the prompts, and compute the statistics of every metric for each example.

    In a multi-device run, each rank evaluates its share of the examples, and every rank gets all results.

    Args:
        setup: the settings of the evaluation.
        loaded: the evaluated model.
        examples: the examples to evaluate on.
        teacher: the second model that some objectives need, loaded by `Objective.load_teacher`; `None` for others.
    """
    setup = setup.for_references(examples.references)
    if num_ranks() == 1 or not len(examples):
        return _measure(setup, loaded, examples, teacher)

    def evaluate(indices: Sequence[int]) -> list[tuple[Prediction | None, dict[str, Any]]]:
        own = _measure(setup, loaded, examples.take(indices), teacher)
        return [
            (own.predictions[i] if own.predictions else None, {name: rows[i] for name, rows in own.rows.items()})
            for i in range(len(indices))
        ]

    gathered = evaluate_shared(examples.lengths, evaluate, next(loaded.model.parameters()).device)
    names = [name for name in setup.metrics if name in gathered[0][1]]
    return Measurement(
        [prediction for prediction, _ in gathered if prediction is not None],
        {name: [rows[name] for _, rows in gathered] for name in names},
        examples.sources,
        list(examples.clusters),
    )


def _measure(setup: EvaluationSetup, loaded: LoadedModel, examples: EvaluatedExamples, teacher: Any) -> Measurement:
    predictions = _predict(setup, loaded, examples)
    rows = answer_rows(setup.metrics, predictions)
    likelihoods = {name: metric for name, metric in setup.metrics.items() if isinstance(metric, LikelihoodMetric)}
    values = {name: metric for name, metric in setup.metrics.items() if isinstance(metric, ValueMetric)}
    if likelihoods or values:
        scores = score_examples(
            setup, loaded, examples.examples, tokens=bool(likelihoods), values=bool(values), teacher=teacher
        )
        for name, likelihood in likelihoods.items():
            rows[name] = [likelihood.statistics(one.tokens) for one in scores if one.tokens is not None]
        for name, value in values.items():
            rows[name] = [value.statistics(one.values[value.value_name]) for one in scores]
    rows = {name: rows[name] for name in setup.metrics if name in rows}
    return Measurement(predictions, rows, examples.sources, list(examples.clusters))


def _predict(setup: EvaluationSetup, loaded: LoadedModel, examples: EvaluatedExamples) -> list[Prediction]:
    """Generate the model's answers, in the order of the examples; return an empty list if no metric needs answers."""
    if not len(examples) or not any(isinstance(metric, AnswerMetric) for metric in setup.metrics.values()):
        return []
    count = setup.generation.num_samples
    prompts = [prompt for prompt in examples.prompts for _ in range(count)]
    seeds = [seed_of(setup.seed, one.id, number) for one in examples.conversations for number in range(count)]
    answers = generate_answers(setup, loaded, prompts, seeds)
    samples = [answers[start : start + count] for start in range(0, len(answers), count)]
    predictions = _predictions(examples.split, examples.conversations, samples)
    lengths = _reference_tokens(loaded.tokenizer, predictions)
    return [dataclasses.replace(one, reference_tokens=tokens) for one, tokens in zip(predictions, lengths, strict=True)]


def _reference_tokens(tokenizer: Any, predictions: Sequence[Prediction]) -> list[int]:
    """Count the tokens of each prediction's longest reference."""
    references = all_references(predictions)
    if not references:
        return [0] * len(predictions)
    lengths = iter(map(len, tokenizer(references, add_special_tokens=False, verbose=False)["input_ids"]))
    return [max((next(lengths) for _ in one.references), default=0) for one in predictions]


def seed_of(seed: int, name: str, number: int = 0) -> int:
    """Compute the random seed of a sampled answer.

    Args:
        seed: seed of the run.
        name: text that identifies the prompt, such as the id of the conversation.
        number: index of the answer among several answers to the same prompt.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}:{number}".encode()).digest()[:7])


def generate_answers(
    setup: EvaluationSetup, loaded: LoadedModel, prompts: Sequence[Conversation], seeds: Sequence[int]
) -> list[Answer]:
    """Generate an answer to each prompt with the run's generation settings.

    Args:
        setup: the settings of the evaluation.
        loaded: the model.
        prompts: conversations; the prompt of each is its messages without the final answer.
        seeds: random seed for each prompt.
    """
    encoded, stops = _encode(setup, loaded, prompts)
    return setup.generation.generate(
        loaded.model, loaded.tokenizer, encoded, stops, seeds, setup.journal, setup.batch_tokens
    )


def stream_answer(
    setup: EvaluationSetup, loaded: LoadedModel, prompt: Conversation, seed: int, on_text: Callable[[str], None]
) -> Answer:
    """Generate the answer to one conversation with the run's generation settings, and pass its text on piece by piece.

    Args:
        setup: the settings of the evaluation.
        loaded: the model.
        prompt: the conversation.
        seed: random seed of the answer.
        on_text: function that is called with each new piece of the answer.
    """
    (encoded,), stops = _encode(setup, loaded, [prompt])
    return setup.generation.stream(loaded.model, loaded.tokenizer, encoded, stops, seed, on_text)


def _encode(
    setup: EvaluationSetup, loaded: LoadedModel, prompts: Sequence[Conversation]
) -> tuple[list[list[int]], list[int]]:
    """Return the token ids of each prompt, and the ids of the tokens that end an answer."""
    tokenizer = loaded.tokenizer
    encoded = setup.batching.encode_prompts(list(prompts), setup.template, tokenizer, setup.layout)
    if loaded.family == "encoder-decoder":  # the decoder writes only the answer
        return encoded, [tokenizer.eos_token_id]
    return encoded, setup.template.stop_token_ids(tokenizer)


def _predictions(
    split: str, conversations: Sequence[Conversation], samples: Sequence[Sequence[Answer]]
) -> list[Prediction]:
    """Combine the model's answers with the references.

    Of several answers to a prompt, the first is the text of the prediction, and the others are its `samples`.
    """
    return [
        Prediction(
            id=conversation.id,
            split=split,
            prompt=conversation.prompt[-1].content if conversation.prompt else "",
            text=answers[0].text,
            references=conversation.answers,
            metadata=conversation.metadata,
            samples=tuple(answer.text for answer in answers[1:]),
            num_cut=sum(answer.is_cut for answer in answers),
        )
        for conversation, answers in zip(conversations, samples, strict=True)
    ]


def answer_rows(metrics: Mapping[str, Metric[Any]], predictions: Sequence[Prediction]) -> dict[str, list[Any]]:
    """Compute the statistics of every prediction for each answer metric, keyed by the name of the metric.

    Metrics that compare the answers of two models, such as win rates, are left out.
    """
    return {
        name: [metric.of_prediction(prediction) for prediction in predictions]
        for name, metric in metrics.items()
        if isinstance(metric, AnswerMetric) and not isinstance(metric, ComparisonMetric)
    }


def measure_baselines(
    setup: EvaluationSetup,
    baselines: Mapping[str, Baseline | None],
    training: Sequence[Conversation],
    examples: EvaluatedExamples,
) -> dict[str, Measurement]:
    """Let baselines answer the examples, without a model, and compute the statistics of the answer metrics.

    Args:
        setup: the settings of the evaluation.
        baselines: the baselines, by name.
        training: the training conversations, which a baseline may use.
        examples: the examples to answer.

    Returns:
        The results of each baseline, keyed by its name.
    """
    setup, measured = setup.for_references(examples.references), {}
    for name, baseline in baselines.items():
        if baseline is not None and len(examples):
            texts = baseline.answers(training, list(examples.conversations))
            predictions = _predictions(
                examples.split, examples.conversations, [[Answer(text, is_cut=False)] for text in texts]
            )
            rows, clusters = answer_rows(setup.metrics, predictions), list(examples.clusters)
            measured[name] = Measurement(predictions, rows, examples.sources, clusters)
    return measured

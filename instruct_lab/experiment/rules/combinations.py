"""Rules that compare model, tuning method, objective, batching, generation, metrics, optimizer and callbacks."""

from __future__ import annotations

from collections.abc import Iterator

from instruct_lab.batching import Batching
from instruct_lab.callbacks import Callback, WeightAverage
from instruct_lab.config import Component, ExternalClass
from instruct_lab.data import Data
from instruct_lab.errors import Problem
from instruct_lab.experiment.rules.apply import Components
from instruct_lab.generation import Generation
from instruct_lab.metrics import Benchmarks, LmEval, Metric, ValueMetric
from instruct_lab.model import Model
from instruct_lab.objective import Objective
from instruct_lab.optimizer import Optimizer
from instruct_lab.tuning import LoRA, Prompting, Tuning


def check_families(model: Model, components: Components) -> Iterator[Problem]:
    """Report components that do not work with the family of the chosen model."""
    for key, chosen in components.items():
        if isinstance(chosen, Component) and (reason := family_reason(chosen, model.family)):
            yield Problem(key=key, value=type(chosen).__name__, reason=reason)


def family_reason(chosen: Component, family: str) -> str | None:
    """Return the reason why a component does not work with models of a family, or `None` if it does."""
    if family in chosen.families:
        return None
    name, works = type(chosen).__name__, " and ".join(sorted(chosen.families))
    return f"{name} works with {works} models; model is {_with_article(family)} model"


def _with_article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


# ---- model and tuning


def check_quantization(model: Model, tuning: Tuning) -> Iterator[Problem]:
    """Report a quantised model whose tuning method adds no parameters, since quantised weights cannot be trained."""
    if model.is_quantized and tuning.trains and not tuning.is_adapter:
        reason = f"quantised weights cannot be trained, and {type(tuning).__name__} adds none: choose an adapter"
        yield Problem(key="model.quantization", value=str(model.quantization), reason=reason)


def check_trained_tokenizer(model: Model) -> Iterator[Problem]:
    """Report a new tokenizer that cannot be trained or used with the model.

    Pretrained weights need the tokenizer with which they were trained. The vocabulary of a new tokenizer must be large
    enough for the 256 byte tokens and the special tokens.
    """
    if reason := model.tokenizer_reason:
        yield Problem(key="model.tokenizer", value="TrainedTokenizer", reason=reason, suggestion="tokenizer=own")


# ---- tuning and objective


def check_tuning(tuning: Tuning, objective: Objective) -> Iterator[Problem]:
    """Report a tuning method that does not work with the objective."""
    if reason := tuning_reason(tuning, objective):
        yield Problem(key="tuning", value=type(tuning).__name__, reason=reason)


def tuning_reason(tuning: Tuning, objective: Objective) -> str | None:
    """Return the reason why a tuning method does not work with an objective, or `None` if it does."""
    method, goal = type(tuning).__name__, type(objective).__name__
    if objective.head not in tuning.heads:
        return f"{method} tunes models that give text; {goal} trains one that gives a score"
    if not tuning.trains and not (objective.is_likelihood and objective.generates and objective.reads == "answers"):
        return f"{method} trains nothing, so {goal} would have no effect; leave the objective at supervised"
    if disables_adapters(objective) and not tuning.is_adapter:
        return f"{goal} reads the untuned model by switching adapters off, and {method} adds none"
    if disables_adapters(objective) and not tuning.keeps_base:
        return f"{goal} reads the untuned model by switching adapters off, but this {method} changes the base weights"
    return None


def disables_adapters(objective: Objective) -> bool:
    """Whether the objective computes the base model's output with the adapters switched off."""
    return objective.needs_reference and not objective.takes_reference_from_batch


def check_biases(tuning: LoRA, objective: Objective) -> Iterator[Problem]:
    """Report trained biases (`tuning.bias`) if the objective computes the base model's output without the adapters.

    Switching the adapters off would leave the trained biases in place, so the output would not be the base model's.
    """
    if disables_adapters(objective) and tuning.bias != "none" and tuning_reason(tuning, objective) is None:
        reason = "the untuned model is read by switching adapters off, which leaves trained biases on"
        yield Problem(key="tuning.bias", value=tuning.bias, reason=reason, suggestion="none")


# ---- batching


def check_overlong(batching: Batching, objective: Objective) -> Iterator[Problem]:
    """Report truncation of overlong examples if the objective learns from preferences.

    Two answers to one prompt would be cut at different points, so the comparison would be distorted.
    """
    if reason := batching_reason(batching, objective):
        yield Problem(key="batching.overlong", value=batching.overlong, reason=reason, suggestion="drop")


def batching_reason(batching: Batching, objective: Objective) -> str | None:
    """Return the reason why `batching` cannot batch the examples that an objective reads, or `None` if it can."""
    reads_preferences = objective.reads in ("pairs", "labels")
    if reads_preferences and batching.overlong.startswith("truncate"):
        return (
            f"two answers to one prompt cannot be cut alike, so pairs are not truncated (overlong={batching.overlong})"
        )
    return None


def check_micro_batch(batching: Batching, objective: Objective) -> Iterator[Problem]:
    """Report a fixed size of micro-batches if the objective's loss compares the examples of a batch with each other.

    Such a batch cannot be divided into micro-batches.
    """
    if batching.micro_batch != "auto" and not objective.has_independent_examples:
        reason = (
            f"{type(objective).__name__} compares the examples of a batch with each other, so a batch is not divided; "
            "batching.batch_size sets how many are computed at once"
        )
        yield Problem(key="batching.micro_batch", value=batching.micro_batch, reason=reason, suggestion="auto")


def check_packing(batching: Batching, objective: Objective, tuning: Tuning) -> Iterator[Problem]:
    """Report packing (several texts in one row of a batch) if the objective or the tuning method rules it out."""
    if reason := packing_reason(batching, objective, tuning):
        yield Problem(key="batching", value=type(batching).__name__, reason=reason, suggestion="padded")


def packing_reason(batching: Batching, objective: Objective, tuning: Tuning) -> str | None:
    """Return the reason why several texts cannot be packed into one row of a batch.

    The result is `None` if they can, or if `batching` does not pack.
    """
    if batching.packing is None:
        return None
    goal, method = type(objective).__name__, type(tuning).__name__
    if objective.head == "score":
        return f"{goal} reads one score from each row, and a packed row holds several texts"
    if not objective.reads_packed:
        return f"{goal} does not declare that it reads packed rows (reads_packed)"
    if tuning.num_added_positions:
        return f"{method} puts virtual tokens before each row, and a packed row holds several texts"
    if tuning.neftune_alpha is not None:
        return "tuning.neftune_alpha scales its noise by the length of a row, and a packed row holds several texts"
    return None


def check_answer_length(batching: Batching, generation: Generation) -> Iterator[Problem]:
    """Report `generation.max_new_tokens` if it exceeds `batching.max_tokens`, the length limit of training examples."""
    longest, new = batching.max_tokens, generation.max_new_tokens
    if longest is not None and new is not None and new > longest:
        reason = f"an answer must not be longer than batching.max_tokens ({longest}), the limit in training"
        yield Problem(key="generation.max_new_tokens", value=new, reason=reason)


# ---- metrics


def check_metrics(metrics: dict[str, Metric], objective: Objective) -> Iterator[Problem]:
    """Report metrics that cannot be computed for a model that is trained with the objective."""
    for name, metric in metrics.items():
        if reason := metric_reason(metric, objective):
            yield _unread_metric(name, metric, reason)


def check_pair_metrics(metrics: dict[str, Metric], objective: Objective, data: Data) -> Iterator[Problem]:
    """Report metrics that compare a chosen with a rejected answer if not all rows of the data have both."""
    values = objective.values_of(data.gives)
    for name, metric in metrics.items():
        if isinstance(metric, ValueMetric) and metric.value_name in objective.value_names - values:
            reason = (
                f"{type(metric).__name__} compares two answers to one prompt, and not every row of data is such a pair "
                f"(each validation logs {' and '.join(f'val/{value}' for value in sorted(values))})"
            )
            yield _unread_metric(name, metric, reason)


def check_answers(metrics: dict[str, Metric], model: Model) -> Iterator[Problem]:
    """Report metrics that read answers if the model cannot write text."""
    for name, metric in metrics.items():
        if not can_answer(metric, model.family):
            yield _unread_metric(name, metric, "an encoder writes no text, so no answer can be scored")


def _unread_metric(name: str, metric: Metric, reason: str) -> Problem:
    do = f"; choose other metrics, or leave this one out with ~metrics.{name}"
    return Problem(key=f"metrics.{name}", value=type(metric).__name__, reason=reason + do)


def can_answer(metric: Metric, family: str) -> bool:
    """Whether models of a family can write the answers that a metric reads; also true if the metric reads none."""
    return metric.reads != "answers" or family != "encoder"


def metric_reason(metric: Metric, objective: Objective) -> str | None:
    """Return the reason why a metric cannot be computed for a model trained with an objective, or `None` if it can."""
    goal = type(objective).__name__
    if metric.reads == "answers" and not objective.generates:
        return f"{goal} trains a model that gives no text, so no answer can be scored"
    if metric.reads == "likelihood" and objective.head != "language":
        return f"{goal} trains a model that gives a score, and no likelihood of tokens"
    if isinstance(metric, ValueMetric) and metric.value_name not in objective.value_names:
        known = ", ".join(sorted(objective.value_names)) or "nothing"
        return f"{goal} computes no {metric.value_name} of an example (it computes {known})"
    return None


def check_benchmarks(metrics: dict[str, Benchmarks], objective: Objective, tuning: Tuning) -> Iterator[Problem]:
    """Report benchmarks if the model outputs scores, not text.

    Also warn if the tuning method adds worked examples to prompts, which the prompts of benchmarks do not contain.
    """
    for name, suite in metrics.items():
        key, kind = f"metrics.{name}", type(suite).__name__
        if objective.head != "language":
            reason = f"{type(objective).__name__} trains a model that gives a score, and benchmarks read tokens"
            yield Problem(key=key, value=kind, reason=f"{reason}: leave this one out with ~metrics.{name}")
        elif isinstance(suite, LmEval) and isinstance(tuning, Prompting) and tuning.shots:
            reason = "the tasks have prompts of their own, without the worked examples of the tuning method"
            yield Problem(key=key, value=kind, reason=f"{reason}; num_fewshot sets theirs", kind="warning")


def check_num_samples(metrics: dict[str, Metric], generation: Generation) -> Iterator[Problem]:
    """Report metrics that need more answers to each prompt than are generated."""
    needed = max((metric.num_answers for metric in metrics.values()), default=1)
    if generation.num_samples < needed:
        name = next(name for name, metric in metrics.items() if metric.num_answers == needed)
        reason = f"metrics.{name} needs {needed} answers to each prompt"
        yield Problem(key="generation.num_samples", value=generation.num_samples, reason=reason, suggestion=str(needed))


# ---- optimizer and callbacks


def check_averages(optimizer: Optimizer, callbacks: dict[str, Callback | ExternalClass]) -> Iterator[Problem]:
    """Report a callback that averages the weights if the optimizer already averages them itself."""
    for name, callback in callbacks.items():
        if optimizer.averages_weights and isinstance(callback, WeightAverage):
            reason = "the optimizer averages the weights itself: leave the callback out, or choose another optimizer"
            yield Problem(key=f"callbacks.{name}", value="WeightAverage", reason=reason)

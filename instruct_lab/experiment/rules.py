"""Compares what the chosen components declare: every combination either trains or is refused here, with a reason."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from typing import Any

from instruct_lab.config.component import Component
from instruct_lab.config.external import Foreign
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import Problem

TRAINER = "pytorch_lightning.Trainer"

OWNED_TRAINER_ARGUMENTS = {
    "logger": "trackers are chosen in the group tracker",
    "callbacks": "callbacks are chosen in the group callbacks",
    "enable_checkpointing": "checkpoints are chosen in callbacks.checkpoint",
    "enable_progress_bar": "the progress line is chosen in callbacks.progress",
    "enable_model_summary": "the record holds the parameter counts",
    "num_sanity_val_steps": "a sanity check would move the random states of a continued run",
    "use_distributed_sampler": "the loaders shard by themselves",
    "default_root_dir": "the run record is written below runs_path",
    "overfit_batches": "use debug=overfit, which holds the examples fixed",
    "fast_dev_run": "use debug=fast, which writes a record too",
    "barebones": "use callbacks=none and tracker=none",
    "reload_dataloaders_every_n_epochs": "a reloaded loader would lose its position",
}
"""Arguments of the trainer that a config may not set, and what to do instead."""

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")

REQUIRED_MODULES = {
    "pytorch_lightning.loggers.TensorBoardLogger": ("tensorboard",),
    "pytorch_lightning.loggers.MLFlowLogger": ("mlflow",),
    "pytorch_lightning.loggers.CometLogger": ("comet_ml",),
    "pytorch_lightning.loggers.NeptuneLogger": ("neptune",),
}
"""What Lightning's loggers need beside Lightning."""
EXTRAS = {"tensorboard": "dashboard", "mlflow": "mlflow"}
"""Our own extra that brings a package."""


def combination_problems(built: dict[str, Any], with_defaults: bool = False) -> Iterator[Problem]:
    """Yield what does not go together among the built components, by full key.

    Args:
        built: the components by full key.
        with_defaults: one option stands among the defaults of all other groups, so that it need not suit their family,
            objective and metrics.
    """
    if not with_defaults:
        yield from _family_problems(built)
        yield from _model_problems(built)
        yield from _tuning_problems(built)
        yield from _measure_problems(built)
    yield from _average_problems(built)
    yield from _trainer_problems(built)
    yield from _precision_problems(built)
    yield from _tracker_problems(built)
    yield from _monitor_problems(built)
    yield from _length_problems(built)


def _family_problems(built: dict[str, Any]) -> Iterator[Problem]:
    family = getattr(built.get("model"), "family", None)
    if family is None:
        return
    for key, chosen in built.items():
        if isinstance(chosen, Component) and (reason := family_reason(chosen, family)):
            yield Problem(key=key, value=type(chosen).__name__, reason=reason)


def family_reason(chosen: Any, family: str) -> str | None:
    """Why a component does not work with models of a family; none where it does."""
    if family in chosen.families:
        return None
    name, works = type(chosen).__name__, " and ".join(sorted(chosen.families))
    return f"{name} works with {works} models; model is {_a(family)} model"


def tuning_reason(tuning: Any, objective: Any) -> str | None:
    """Why a tuning method and an objective do not go together; none where they do."""
    method, goal = type(tuning).__name__, type(objective).__name__
    if objective.head not in tuning.heads:
        return f"{method} tunes models that give text; {goal} trains one that gives a score"
    if not tuning.trains and not (objective.is_likelihood and objective.generates and objective.reads == "answers"):
        return f"{method} trains nothing, so {goal} would have no effect; leave the objective at supervised"
    if objective.needs_reference and not objective.takes_reference_from_batch:
        if not tuning.is_adapter:
            return f"{goal} reads the untuned model by switching adapters off, and {method} adds none"
        if not tuning.keeps_base:
            return f"{goal} reads the untuned model by switching adapters off, and this {method} changed what is left"
    return None


def batching_reason(batching: Any, objective: Any) -> str | None:
    """Why examples of an objective cannot be batched so; none where they can."""
    overlong = getattr(batching, "overlong", "drop")
    if objective.reads == "pairs" and overlong.startswith("truncate"):
        return f"two answers to one prompt cannot be cut alike, so pairs are not truncated (overlong={overlong})"
    return None


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _tuning_problems(built: dict[str, Any]) -> Iterator[Problem]:
    tuning, objective, batching = built.get("tuning"), built.get("objective"), built.get("batching")
    if isinstance(tuning, Component) and isinstance(objective, Component):
        if reason := tuning_reason(tuning, objective):
            yield Problem(key="tuning", value=type(tuning).__name__, reason=reason)
        elif _keeps_trained_biases(tuning, objective):
            reason = "the untuned model is read by switching adapters off, which leaves trained biases on"
            yield Problem(key="tuning.bias", value=getattr(tuning, "bias", None), reason=reason, suggestion="none")
    comparable = isinstance(batching, Component) and isinstance(objective, Component)
    if comparable and (reason := batching_reason(batching, objective)):
        value = getattr(batching, "overlong", None)
        yield Problem(key="batching.overlong", value=value, reason=reason, suggestion="drop")


def _average_problems(built: dict[str, Any]) -> Iterator[Problem]:
    """Two averages of the weights, of which one would stand in the other's place."""
    if not getattr(built.get("optimizer"), "averages_weights", False):
        return
    for key, chosen in built.items():
        if key.startswith("callbacks.") and type(chosen).__name__ == "WeightAverage":
            reason = "the optimizer averages the weights itself: leave the callback out, or choose another optimizer"
            yield Problem(key=key, value="WeightAverage", reason=reason)


def _model_problems(built: dict[str, Any]) -> Iterator[Problem]:
    """Weights that cannot train as the tuning method wants, and a tokenizer that cannot be trained for them."""
    model, tuning = built.get("model"), built.get("tuning")
    if not isinstance(model, Component):
        return
    trains_weights = isinstance(tuning, Component) and tuning.trains and not tuning.is_adapter  # type: ignore[attr-defined]
    if getattr(model, "is_quantized", False) and trains_weights:
        reason = f"quantised weights do not train, and {type(tuning).__name__} adds none: choose an adapter"
        yield Problem(key="model.quantization", value=str(getattr(model, "quantization", "")), reason=reason)
    untrainable = getattr(model, "tokenizer_reason", None)
    if untrainable:
        yield Problem(key="model.tokenizer", value="TrainedTokenizer", reason=untrainable, suggestion="tokenizer=own")


def _keeps_trained_biases(tuning: Any, objective: Any) -> bool:
    by_switching = objective.needs_reference and not objective.takes_reference_from_batch
    return by_switching and getattr(tuning, "bias", "none") != "none"


def _measure_problems(built: dict[str, Any]) -> Iterator[Problem]:
    """Metrics that have nothing to read."""
    objective, model = built.get("objective"), built.get("model")
    if not isinstance(objective, Component) or not isinstance(model, Component):
        return
    metrics = {key: chosen for key, chosen in built.items() if key.startswith("metrics.") and key.count(".") == 1}
    for key, metric in metrics.items():
        if isinstance(metric, Component) and (reason := metric_reason(metric, objective, model)):
            do = f"; choose other metrics, or leave this one out with ~{key}"
            yield Problem(key=key, value=type(metric).__name__, reason=reason + do)
    samples = getattr(built.get("generation"), "num_samples", 1)
    wanted = max((getattr(metric, "num_samples", 1) for metric in metrics.values()), default=1)
    if samples < wanted:
        reason = f"a metric needs {wanted} answers to each prompt"
        yield Problem(key="generation.num_samples", value=samples, reason=reason, suggestion=str(wanted))


def metric_reason(metric: Any, objective: Any, model: Any) -> str | None:
    """Why a metric has nothing to read; none where it has."""
    goal = type(objective).__name__
    if metric.reads == "answers":
        if model.family == "encoder":
            return "an encoder writes no text, so no answer can be scored"
        if not objective.generates:
            return f"{goal} trains a model that gives no text, so no answer can be scored"
    if metric.reads == "likelihood" and objective.head != "language":
        return f"{goal} trains a model that gives a score, and no likelihood of tokens"
    if metric.reads == "value" and metric.value_name not in objective.value_names:
        told = ", ".join(sorted(objective.value_names)) or "nothing"
        return f"{goal} tells no {metric.value_name} of an example (it tells {told})"
    return None


def _trainer_problems(built: dict[str, Any]) -> Iterator[Problem]:
    trainer = built.get("trainer")
    if not isinstance(trainer, Foreign):
        return
    if trainer.target != TRAINER:
        yield Problem(key="trainer._target_", value=trainer.target, reason=f"the trainer is {TRAINER}")
    for argument, reason in OWNED_TRAINER_ARGUMENTS.items():
        if argument in trainer.arguments:
            value = trainer.arguments[argument]
            yield Problem(key=f"trainer.{argument}", value=value, reason=f"this is not the trainer's to say: {reason}")
    arguments = trainer.arguments
    for name in ("accumulate_grad_batches", "max_epochs", "max_steps", "gradient_clip_val"):
        value = arguments.get(name)
        lowest = 1 if name == "accumulate_grad_batches" else 0
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if value < lowest and not (name in ("max_epochs", "max_steps") and value == -1):
            yield Problem(key=f"trainer.{name}", value=value, reason=f"expected at least {lowest}")
    accelerator, devices = arguments.get("accelerator", "auto"), arguments.get("devices", "auto")
    if isinstance(accelerator, str) and accelerator not in ACCELERATORS:
        reason = f"no such accelerator (known: {', '.join(ACCELERATORS)})"
        suggestion = nearest(accelerator, ACCELERATORS)
        yield Problem(key="trainer.accelerator", value=accelerator, reason=reason, suggestion=suggestion)
    if (isinstance(devices, str) and not re.fullmatch(r"auto|-1|\d+(,\d+)*,?", devices)) or devices == 0:
        reason = "expected a number of devices, a list of their indices, or auto"
        yield Problem(key="trainer.devices", value=devices, reason=reason, suggestion="auto")
    epochs, steps = arguments.get("max_epochs"), arguments.get("max_steps", -1)
    if epochs in (None, -1) and steps in (None, -1):
        reason = "one of trainer.max_epochs and trainer.max_steps must bound the run: the schedule needs its length"
        yield Problem(key="trainer.max_epochs", value=epochs, reason=reason)


def _precision_problems(built: dict[str, Any]) -> Iterator[Problem]:
    """Float16 without a GPU; or beside a fused optimizer, which unscales gradients too, and clipping stands between."""
    trainer, optimizer = built.get("trainer"), built.get("optimizer")
    if not isinstance(trainer, Foreign):
        return
    precision = str(trainer.arguments.get("precision", "32-true"))
    if precision not in ("16", "16-mixed"):
        return
    if trainer.arguments.get("accelerator") == "cpu":
        reason = "float16 needs a GPU, and trainer.accelerator is cpu: Lightning would take bfloat16 without a word"
        yield Problem(key="trainer.precision", value=precision, reason=reason, suggestion="bf16-mixed")
    elif getattr(optimizer, "fused", False) and trainer.arguments.get("gradient_clip_val"):
        reason = f"a fused optimizer leaves no room for trainer.gradient_clip_val with trainer.precision={precision}"
        yield Problem(key="optimizer.fused", value=True, reason=reason, suggestion="false")


def _tracker_problems(built: dict[str, Any]) -> Iterator[Problem]:
    for key, chosen in built.items():
        if not isinstance(chosen, Foreign):
            continue
        for module in REQUIRED_MODULES.get(chosen.target, ()):
            if importlib.util.find_spec(module) is None:
                name = chosen.target.rpartition(".")[2]
                install = f"'instruct-lab[{EXTRAS[module]}]'" if module in EXTRAS else module
                reason = f"{name} needs the package {module}, which is not installed: pip install {install}"
                yield Problem(key=key, value=name, reason=reason)


def _monitor_problems(built: dict[str, Any]) -> Iterator[Problem]:
    """A monitored name that no validation will log."""
    evaluation = built.get("evaluation")
    metrics = [
        key.split(".")[1]
        for key, metric in built.items()
        if key.startswith("metrics.") and key.count(".") == 1 and getattr(metric, "reads", None) == "answers"
    ]
    objective = built.get("objective")
    logged = ["train/loss", "val/loss"]
    if getattr(objective, "is_likelihood", True):
        logged.append("val/perplexity")
    logged += [f"val/{name}" for name in sorted(getattr(objective, "value_names", ()))]
    if evaluation is not None and evaluation.during_examples:
        logged += [f"val/{name}" for name in metrics]
    data, trainer = built.get("data"), built.get("trainer")
    unvalidated = not getattr(data, "has_validation", True)
    if isinstance(trainer, Foreign) and trainer.arguments.get("limit_val_batches") == 0:
        unvalidated = True
    for key, chosen in built.items():
        if not key.startswith("callbacks."):
            continue
        monitor = chosen.arguments.get("monitor") if isinstance(chosen, Foreign) else getattr(chosen, "monitor", None)
        if isinstance(chosen, Foreign) and isinstance(monitor, str) and monitor.startswith("val/") and unvalidated:
            yield Problem(key=f"{key}.monitor", value=monitor, reason="this run has no validation, so nothing logs it")
            continue
        if isinstance(monitor, str) and monitor not in logged:
            known = ", ".join(dict.fromkeys(logged))
            hint = "" if evaluation is None or evaluation.during_examples else "; evaluation.during_examples is 0"
            reason = f"no such value is logged (logged: {known}{hint})"
            yield Problem(key=f"{key}.monitor", value=monitor, reason=reason, suggestion=nearest(monitor, logged))


def _length_problems(built: dict[str, Any]) -> Iterator[Problem]:
    batching, generation = built.get("batching"), built.get("generation")
    longest, new = getattr(batching, "max_tokens", None), getattr(generation, "max_new_tokens", None)
    if longest is not None and longest < 2:
        yield Problem(key="batching.max_tokens", value=longest, reason="an example needs a prompt and a target token")
    if longest is not None and new is not None and new > longest:
        reason = f"an answer may not be longer than batching.max_tokens ({longest}), which it was trained on"
        yield Problem(key="generation.max_new_tokens", value=new, reason=reason)

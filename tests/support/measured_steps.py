"""Memory and FLOPs of training steps, as `plan` predicts them and as torch measures them."""

from __future__ import annotations

import gc
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from instruct_lab.batching import Batch, Example
from instruct_lab.batching.division import divide_batch
from instruct_lab.experiment import Experiment
from instruct_lab.experiment.check import check
from instruct_lab.planning.skeleton import build_skeleton
from instruct_lab.planning.step import StepSimulator
from instruct_lab.training.module import TuningModule
from instruct_lab.training.trainer import build_trainer

COMMON = ["tracker=none", "metrics=none", "trainer=cpu", "callbacks=none", "evaluation.before=false"]


def allocated_peak(compute: Callable[[], object]) -> int:
    """Return the most bytes that torch's CPU allocator held at once during a computation, above those before it."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        compute()
    assert profiler.profiler is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def experiment_of(overrides: list[str], folder: Path) -> Experiment:
    """Build the configuration of a case."""
    pairs = folder / "pairs.jsonl"
    pairs.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    path = ["data.train.file.path=" + str(pairs)] if "data=local_preference" in overrides else []
    return check([*COMMON, *overrides, *path]).experiment


def batch_of(experiment: Experiment, kind: str, num_examples: int = 8) -> Batch:
    """Build a batch of examples of 60 tokens and more, each 10 longer than the one before."""
    examples = []
    for index in range(num_examples):
        length, prompt = 60 + 10 * index, 20 + 3 * index
        ids, labels = [5 + index] * length, [-100] * prompt + [5 + index] * (length - prompt)
        if kind == "masked":
            labels = [5 if position % 7 == 0 else -100 for position in range(length)]
        elif experiment.model.family == "encoder-decoder":
            labels = [5] * (20 + index)
        examples.append(Example(ids, labels, str(index), "source"))
    if kind == "pairs":
        examples = [
            Example(e.input_ids, e.labels, e.id, e.source, rejected=Example([*e.input_ids, 7], [*e.labels, 7], e.id))
            for e in examples
        ]
    return experiment.batching.divisible_batch(examples, 0)


def measure(experiment: Experiment, batch: Batch, folder: Path) -> tuple[int, int]:
    """Train three steps with Lightning; return the peak bytes of the allocator, and the FLOPs of one micro-batch."""
    cache = Path(experiment.cache_path).expanduser()
    loaded = experiment.tuning.apply(experiment.model.load(experiment.model.load_tokenizer(cache), cache))
    record: Any = types.SimpleNamespace(add_warning=print, metrics_size=lambda: 0)
    recorder: Any = types.SimpleNamespace(record=record, log=lambda *_, **__: None)
    micro = experiment.trainer.arguments.get("accumulate_grad_batches", 1)
    module = TuningModule(experiment, loaded, recorder, 3)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    storages = {
        tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes()
        for tensor in (*loaded.model.parameters(), *loaded.model.buffers())
    }
    trainer = build_trainer(experiment, folder)
    trainer.fit_loop.epoch_loop.max_steps = 3
    gc.collect()
    batches = torch.utils.data.DataLoader([batch] * 3 * micro, batch_size=None)
    peak = allocated_peak(lambda: trainer.fit(module, train_dataloaders=batches))
    loaded.model.train()
    with FlopCounterMode(display=False) as counter:
        for part in divide_batch(batch):
            experiment.objective.loss(loaded.model, part).sums.sum().backward()
    return peak + sum(storages.values()), counter.get_total_flops()


def predict(experiment: Experiment, batch: Batch) -> tuple[int, int]:
    """Return the predicted peak bytes, and the FLOPs of one micro-batch."""
    skeleton = build_skeleton(experiment, Path(experiment.cache_path).expanduser(), None)
    simulator = StepSimulator(experiment, skeleton, "32-true")
    micro = experiment.trainer.arguments.get("accumulate_grad_batches", 1)
    steps = [simulator.train(batch, micro) for _ in range(2)]
    return max(step.peak_bytes for step in steps), steps[-1].flops

"""Training steps of two models with random weights: tokens a second, peak memory, and the peak that `plan` predicts.

Each case trains on the same synthetic examples with the objective, batches, tuning method and optimizer of a run, in
bfloat16 autocast with float32 weights on a GPU. A case that this machine cannot run is printed with its reason. Cases
that no longer fit into the time are named at the end.

Run: `bash tests/benchmarks/gpu.sh`, or with `--cpu` to rehearse it on tiny models.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import importlib.metadata
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from instruct_lab.batching import IGNORED, Batch, Example
from instruct_lab.errors import InstructLabError, one_line
from instruct_lab.experiment import Experiment
from instruct_lab.experiment.check import check
from instruct_lab.model import compiling
from instruct_lab.planning.skeleton import build_skeleton
from instruct_lab.planning.step import StepSimulator

LIMIT = 440.0
"""Seconds after which no further case begins."""
PACKAGES = "torch triton transformers peft pytorch-lightning liger-kernel cut-cross-entropy flash-attn".split()
COMMON = ["tracker=none", "metrics=none", "callbacks=none", "evaluation.before=false", "trainer.max_steps=10"]
SIZES = {
    "135M": "hidden_size: 576, num_hidden_layers: 30, num_attention_heads: 9, num_key_value_heads: 3, "
    "intermediate_size: 1536, vocab_size: 49152",
    "1B": "hidden_size: 2048, num_hidden_layers: 16, num_attention_heads: 32, num_key_value_heads: 8, "
    "intermediate_size: 8192, vocab_size: 128256",
}
TINY = (
    "hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, intermediate_size: 64, "
    "vocab_size: 512"
)
LORA, FULL, WHOLE = ["tuning=lora"], ["tuning=full"], ["batching.share_prefix=off"]
CASES: dict[str, list[str]] = {
    "LoRA, padded": [*LORA, *WHOLE],
    "LoRA, shared prefix": LORA,
    "LoRA, packed": [*LORA, "batching=packed"],
    "LoRA, checkpointing selective": [*LORA, *WHOLE, "model.gradient_checkpointing=selective"],
    "LoRA, checkpointing full": [*LORA, *WHOLE, "model.gradient_checkpointing=full"],
    "LoRA, Liger": [*LORA, *WHOLE, "model.kernels=liger"],
    "LoRA, compile": [*LORA, *WHOLE, "model.compile=true"],
    "full, padded": [*FULL, *WHOLE],
    "full, packed": [*FULL, "batching=packed"],
    "full, checkpointing selective": [*FULL, *WHOLE, "model.gradient_checkpointing=selective"],
    "full, Cut Cross-Entropy": [*FULL, *WHOLE, "model.kernels=cut_cross_entropy"],
    "full, Liger and Cut Cross-Entropy": [*FULL, *WHOLE, "model.kernels=all"],
    "full, AdamW not fused": [*FULL, *WHOLE, "optimizer.fused=false"],
    "full, compile": [*FULL, *WHOLE, "model.compile=true"],
}


@dataclasses.dataclass
class Result:
    """What a case measured; seconds of the first step include the time to compile."""

    tokens: int
    first: float
    step: float
    peak: int
    predicted: int | None


def examples(rehearsal: bool) -> list[Example]:
    """Sixteen examples of different lengths with a common prefix; the second half of each is trained."""
    source = random.Random(0)
    longest, shared = (40, 16) if rehearsal else (1024, 128)
    prefix = [source.randrange(10, 500) for _ in range(shared)]
    found = []
    for index in range(16):
        length = longest - index * longest // 40
        ids = prefix + [source.randrange(10, 500) for _ in range(length - shared)]
        found.append(Example(ids, [IGNORED] * (length // 2) + ids[length // 2 :], str(index), "source"))
    return found


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def predict(experiment: Experiment, batch: Batch, device: torch.device) -> int | None:
    """The peak of a step in bytes, as `plan` estimates it; `None` if it cannot be planned."""
    try:
        skeleton = build_skeleton(experiment, Path(experiment.cache_path).expanduser(), None)
        is_on_cpu = device.type == "cpu"
        precision = "32-true" if is_on_cpu else "bf16-mixed"
        simulator = StepSimulator(experiment, skeleton, precision, divides=is_on_cpu)
        return max(simulator.train(batch).peak_bytes for _ in range(2))
    except InstructLabError:
        return None


def measure(experiment: Experiment, batch: Batch, device: torch.device, seconds: float) -> Result:
    """Train for some seconds, but at least three steps."""
    cache = Path(experiment.cache_path).expanduser()
    loaded = experiment.model.load(experiment.model.load_tokenizer(cache), cache)
    loaded.model.to(device)
    loaded = experiment.tuning.apply(loaded)
    if experiment.model.compile:
        compiling.compile_layers(loaded.model)
    model = loaded.model.train()
    optimizer = experiment.optimizer.build(model.named_parameters())
    on_device = batch.to(device)
    is_gpu = device.type == "cuda"
    autocast: Callable[[], Any] = (lambda: torch.autocast("cuda", torch.bfloat16)) if is_gpu else contextlib.nullcontext
    times: list[float] = []
    if is_gpu:
        torch.cuda.reset_peak_memory_stats()
    while len(times) < 3 or sum(times[1:]) < seconds:
        synchronize(device)
        started = time.perf_counter()
        optimizer.zero_grad()
        with autocast():
            loss = experiment.objective.loss(model, on_device)
        loss.sums.sum().backward()
        optimizer.step()
        synchronize(device)
        times.append(time.perf_counter() - started)
    usual = sorted(times[1:])[len(times[1:]) // 2]
    peak = torch.cuda.max_memory_allocated() if is_gpu else 0
    return Result(int(batch.attention_mask.sum()), times[0], usual, peak, None)


def run_case(overrides: Sequence[str], device: torch.device, rehearsal: bool) -> Result:
    experiment = check([*COMMON, *overrides]).or_refuse().experiment
    batch = experiment.batching.divisible_batch(examples(rehearsal), 0)
    predicted = predict(experiment, batch, device)
    result = measure(experiment, batch, device, 0.0 if rehearsal else 4.0)
    return dataclasses.replace(result, predicted=predicted)


def row(model: str, case: str, result: Result, plain: Result | None) -> str:
    gib = 2.0**30
    cells = [model, case, f"{result.tokens / result.step:,.0f}", f"{result.step * 1e3:,.1f}", f"{result.first:.1f}"]
    cells.append(f"{result.peak / gib:.2f}" if result.peak else "-")
    cells.append(f"{result.predicted / gib:.2f}" if result.predicted else "-")
    if plain is not None and "compile" in case:
        gain = plain.step - result.step
        steps = (result.first - plain.step) / gain if gain > 0 else None
        cells.append("never" if steps is None else f"after {steps:,.0f} steps")
    else:
        cells.append("")
    return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="rehearse on tiny models")
    rehearsal = parser.parse_args().cpu
    if not rehearsal and not torch.cuda.is_available():
        print("no GPU is found; --cpu rehearses the script on tiny models", file=sys.stderr)
        return 2
    device = torch.device("cpu" if rehearsal else "cuda")
    if rehearsal:
        compiling.BACKEND = "aot_eager"  # needs no C++ compiler
    name = "the CPU, tiny models: a rehearsal" if rehearsal else torch.cuda.get_device_name()
    print(f"on {name}, {time.strftime('%d %B %Y')}")
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            print(f"{package} {importlib.metadata.version(package)}")
    print("\n| model | case | tokens/s | ms a step | first step, s | peak GiB | `plan` GiB | compile pays |")
    print("|---|---|---|---|---|---|---|---|")
    started, left, failures = time.perf_counter(), [], 0
    for model, size in ({"tiny": TINY} if rehearsal else SIZES).items():
        weights = f"model.weights.settings={{{size}, max_position_embeddings: 2048, tie_word_embeddings: true}}"
        plain: dict[str, Result] = {}
        for case, overrides in CASES.items():
            if time.perf_counter() - started > LIMIT:
                left.append(f"{model} {case}")
                continue
            kind = case.partition(",")[0]
            try:
                result = run_case(["model=tiny_random", weights, *overrides], device, rehearsal)
                plain.setdefault(kind, result)
                print(row(model, case, result, plain[kind]), flush=True)
            except InstructLabError as error:
                print(f"| {model} | {case} | refused: {one_line(error)} |" + " |" * 5, flush=True)
            except Exception as error:  # such as exhausted memory, or a package that does not fit this torch
                failures += 1
                print(f"| {model} | {case} | failed: {one_line(error)[:300]} |" + " |" * 5, flush=True)
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
    print(
        f"\n{time.perf_counter() - started:.0f} s" + (f"; not run for lack of time: {', '.join(left)}" if left else "")
    )
    return 1 if failures and rehearsal else 0


if __name__ == "__main__":
    sys.exit(main())

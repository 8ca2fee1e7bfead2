"""Measurement of the speed and memory of a recorded run's model when it answers, with and without a merged adapter."""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from collections.abc import Iterator
from typing import Any

from instruct_lab.callbacks.peak_memory import peak_bytes
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment import Experiment
from instruct_lab.generation import Generation
from instruct_lab.metrics.general import read_items
from instruct_lab.model import LoadedModel
from instruct_lab.progress import stage
from instruct_lab.records import RunRecord
from instruct_lab.training.costs import reset_peak
from instruct_lab.training.quiet import quiet_libraries
from instruct_lab.training.workspace import Workspace

FILE = "inference.json"
"""Name of the file in a run's record that holds the newest measurement."""


@dataclasses.dataclass(frozen=True)
class Workload:
    """The number and lengths of the prompts and answers with which speed and memory are measured.

    Args:
        prompt_tokens: number of tokens of each prompt.
        new_tokens: number of tokens of each answer, at least 2.
        batch: number of prompts that are answered at the same time.
        repeats: number of measurements, after one that only warms up.
    """

    prompt_tokens: int = 128
    new_tokens: int = 64
    batch: int = 1
    repeats: int = 3


@dataclasses.dataclass(frozen=True)
class InferenceCost:
    """The measured speed and memory of the base model, or of one variant of the tuned model.

    Args:
        form: `base` (the base model), `tuned` (a model tuned without an adapter), `adapter` (a tuned model with its
            adapter kept separate) or `merged` (a tuned model with its adapter merged into the weights).
        prompt_tokens_per_second: number of prompt tokens that are read in a second, the median of the repeats.
        new_tokens_per_second: number of answer tokens that are generated in a second, the median of the repeats.
        slowest: the new tokens per second of the slowest repeat.
        fastest: the new tokens per second of the fastest repeat.
        weights_bytes: size of the weights in memory, in bytes.
        peak_bytes: peak memory while the model answers, in bytes: that of the GPU or, without one, of this process.
    """

    form: str
    prompt_tokens_per_second: float
    new_tokens_per_second: float
    slowest: float
    fastest: float
    weights_bytes: int
    peak_bytes: int


def measure_inference(
    experiment: Experiment, record: RunRecord, workload: Workload, device: Any
) -> list[InferenceCost]:
    """Measure the base model and the tuned model, one after the other, and write `inference.json` to the run's record.

    A model that was tuned with an adapter is measured with the adapter kept separate and, if the method permits it,
    also with the adapter merged. The peak memory is measured after loading and merging, which may need more memory than
    answering does.

    Each prompt gets one answer of exactly `new_tokens` tokens, because generation does not stop at the end token. All
    other decoding settings are those of the run, and this package's own engine decodes. The prompts are cut from the
    texts in `metrics/general/items.jsonl`.

    Args:
        experiment: the configuration of the run.
        record: the run's record.
        workload: the number and lengths of the prompts and answers.
        device: the device of the model.

    Raises:
        InstructLabError: the model generates no answers, or a prompt with its answer is longer than the model's
            context length.
    """
    if reason := experiment.cannot_answer:
        raise InstructLabError(f"This run's model answers no prompts: {reason}", do="choose another run")
    quiet_libraries()
    workspace, costs = Workspace(experiment, device), []
    for form in _forms(experiment):
        loaded = _load(workspace, record, form)
        gc.collect()
        reset_peak()
        with stage(f"measuring the form {form}"):
            costs.append(_measure(form, loaded, experiment.generation, workload))
        del loaded
    entries = [dataclasses.asdict(one) for one in costs]
    record.write_json(FILE, {"device": str(device), **dataclasses.asdict(workload), "forms": entries})
    return costs


def _forms(experiment: Experiment) -> Iterator[str]:
    yield "base"
    tuning = experiment.tuning
    if not tuning.is_adapter:
        if tuning.trains:
            yield "tuned"
        return
    yield "adapter"
    if tuning.mergeable:
        yield "merged"


def _load(workspace: Workspace, record: RunRecord, form: str) -> LoadedModel:
    if form == "base":
        return workspace.base().loaded
    return workspace.tuned(record.path, merged=form == "merged").loaded


def _measure(form: str, loaded: LoadedModel, generation: Generation, workload: Workload) -> InferenceCost:
    prompts = _prompts(loaded.tokenizer, workload)
    reading, writing = [], []
    for repeat in range(1 + workload.repeats):
        first = _seconds(loaded, generation, prompts, 1)
        whole = _seconds(loaded, generation, prompts, workload.new_tokens)
        if repeat:  # the first one warms up
            reading.append(workload.batch * workload.prompt_tokens / first)
            writing.append(workload.batch * (workload.new_tokens - 1) / max(1e-9, whole - first))
    tensors = [*loaded.model.parameters(), *loaded.model.buffers()]
    return InferenceCost(
        form,
        statistics.median(reading),
        statistics.median(writing),
        min(writing),
        max(writing),
        sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        peak_bytes(),
    )


def _prompts(tokenizer: Any, workload: Workload) -> list[list[int]]:
    """Return token ids of prompts of equal length, each starting at another text of `metrics/general/items.jsonl`."""
    texts = [item.text for item in read_items()]
    prompts = []
    for index in range(workload.batch):
        ids: list[int] = []
        number = index
        while len(ids) < workload.prompt_tokens:
            ids += tokenizer(texts[number % len(texts)], add_special_tokens=False, verbose=False)["input_ids"]
            number += 1
        prompts.append(ids[: workload.prompt_tokens])
    return prompts


def _seconds(loaded: LoadedModel, generation: Generation, prompts: list[list[int]], new_tokens: int) -> float:
    import torch

    settings = dataclasses.replace(generation, max_new_tokens=new_tokens, num_samples=1, engine="native")
    budget = len(prompts) * (len(prompts[0]) + new_tokens) * generation.num_beams
    is_on_gpu = next(loaded.model.parameters()).device.type == "cuda"
    if is_on_gpu:
        torch.cuda.synchronize()
    started = time.perf_counter()
    answers = settings.generate_ids(
        loaded.model, prompts, (), loaded.tokenizer.pad_token_id, seeds=range(len(prompts)), batch_tokens=budget
    )
    if is_on_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    if any(len(answer) != new_tokens for answer in answers):
        what = "An answer ended before its last token, so the speed cannot be measured"
        raise InstructLabError(what, where="the generated answers", do="choose a model without a fixed end of answers")
    return seconds

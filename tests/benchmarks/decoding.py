"""Answers to the quick start's held-out prompts: `Generation` against `generate` of transformers in fixed batches.

Both decode greedily with the same model and the same limit and must give the same answers. "transformers" pads batches
of 8 prompts in the order of the data on the left and calls `model.generate`.

Command: python tests/benchmarks/decoding.py [--rounds N] [--run RUN] [OVERRIDE ...]
With `generation.engine=transformers_cb`, `Generation` decodes by this engine, and the engine `native` is measured too.
Prints processor seconds of one thread, the median of N alternating rounds. RUN is the record of a run
with the default config, whose tuned model is measured; without it, the base model is. Downloads data and model at first
use.
"""

import argparse
import dataclasses
import statistics
import time
from pathlib import Path

import torch
from transformers import GenerationConfig

from instruct_lab.callbacks.kept_weights import read_weights
from instruct_lab.data import Audit
from instruct_lab.experiment.check import check
from instruct_lab.experiment.settled import settle_answers
from instruct_lab.generation import context_length
from instruct_lab.training.datamodule import InstructionData

FIXED = 8


def fixed_batches(model, prompts, stops, pad, limit):
    """Answers by `model.generate` in fixed batches."""
    config = GenerationConfig(
        max_new_tokens=limit, do_sample=False, eos_token_id=stops, pad_token_id=pad, use_cache=True
    )
    answers = []
    for start in range(0, len(prompts), FIXED):
        batch = prompts[start : start + FIXED]
        width = max(map(len, batch))
        input_ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in batch])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in batch])
        with torch.inference_mode():
            output = model.generate(input_ids=input_ids, attention_mask=mask, generation_config=config)
        for row in output[:, width:].tolist():
            end = next((index for index, token in enumerate(row) if token in stops), len(row))
            answers.append(row[:end])
    return answers


def prepare(overrides, run):
    """Load the model, and encode the prompts of the validation split."""
    experiment = check(overrides).or_refuse().experiment
    cache = Path(experiment.cache_path).expanduser()
    tokenizer = experiment.model.load_tokenizer(cache)
    data = InstructionData(experiment, tokenizer, cache, Audit())
    loaded = experiment.model.load(tokenizer, cache)
    if run is not None:
        weights = read_weights(run / "checkpoints", "best")
        loaded = experiment.tuning.merge(experiment.tuning.load(loaded, weights.path))
    settled, _ = settle_answers(experiment, data.answer_lengths, context_length(loaded.model))
    examples = data.evaluated_examples("validation", experiment.evaluation.max_examples)
    prompts = experiment.batching.encode_prompts(examples.prompts, experiment.template, tokenizer, experiment.layout)
    stops = experiment.template.stop_token_ids(tokenizer)
    return settled.generation, loaded.model.eval(), prompts, stops, tokenizer.pad_token_id


def main():
    """Print the processor seconds of both, and their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--profile", action="store_true", help="print where the time of `Generation` goes")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generation, model, prompts, stops, pad = prepare(arguments.overrides, arguments.run)
    prompts = prompts[: arguments.prompts]
    limit = generation.limit
    ways = {
        "Generation": lambda: generation.generate_ids(model, prompts, stops, pad),
        "transformers": lambda: fixed_batches(model, prompts, stops, pad, limit),
    }
    if generation.engine != "native":
        native = dataclasses.replace(generation, engine="native")
        ways["native"] = lambda: native.generate_ids(model, prompts, stops, pad)
    if arguments.profile:
        with torch.profiler.profile() as profile:
            ways["Generation"]()
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=20, max_name_column_width=40))
        return
    seconds, answers = {name: [] for name in ways}, {}
    for _ in range(arguments.rounds):
        for name, answer in ways.items():
            started = time.process_time()
            answers[name] = answer()
            seconds[name].append(time.process_time() - started)
            print(f"{name}: {seconds[name][-1]:.1f} s", flush=True)
    same = sum(map(list.__eq__, answers["Generation"], answers["transformers"]))
    tokens = sum(map(len, answers["Generation"]))
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    rates = ", ".join(f"{name} {tokens / found:.1f} tokens/s" for name, found in medians.items())
    if "native" in answers:
        alike = sum(map(list.__eq__, answers["Generation"], answers["native"]))
        ratio = medians["Generation"] / medians["native"]
        print(f"{generation.engine} takes {ratio:.2f} times as long as native; {alike} answers identical")
    mean = sum(map(len, prompts)) / len(prompts)
    print(f"{len(prompts)} prompts of {mean:.1f} tokens, answers of at most {limit}, together {tokens}")
    ratio = medians["transformers"] / medians["Generation"]
    print(f"{rates}: {ratio:.2f} times; {same} of {len(prompts)} answers identical")


if __name__ == "__main__":
    main()

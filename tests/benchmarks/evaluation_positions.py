"""Positions that an evaluation computes for each real token, in fixed batches and under a limit of tokens.

Command: python tests/benchmarks/evaluation_positions.py [OVERRIDE ...]
Prepares the data sets with the default model's tokenizer (downloaded at first use) and counts; no model runs. "Fixed"
are the batches of version 0.1 before the limit: 16 examples in order in validation, 16 by length for likelihoods, 64
prompts by length in decoding.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from instruct_lab.batching.token_budget import batches_by_length
from instruct_lab.data import Audit
from instruct_lab.experiment.check import check
from instruct_lab.generation.generation import MAX_ROWS
from instruct_lab.model.token_budget import scored_tokens
from instruct_lab.training.datamodule import InstructionData

DATA = ("interface_fr", "stdlib_functions", "mixture")


def positions(lengths, batches):
    """Positions for each token, and the number of batches."""
    computed = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    return f"{computed / int(lengths.sum()):.2f} in {len(batches):3}"


def fixed(order, size):
    """Batches of consecutive examples."""
    return [order[start : start + size] for start in range(0, len(order), size)]


def show(name, lengths, before, after):
    """Print one row."""
    sizes = f"{len(lengths):>4} examples of {lengths.min()} to {lengths.max()} tokens, {lengths.mean():.0f} on average"
    counts = f"{positions(lengths, before)} fixed batches, {positions(lengths, after)} limited ones"
    print(f"{name:<30}{sizes}: {counts}", flush=True)


def main():
    """Print three rows for each data set."""
    for option in DATA:
        experiment = check([f"data={option}", *sys.argv[1:]]).or_refuse().experiment
        cache = Path(experiment.cache_path).expanduser()
        tokenizer = experiment.model.load_tokenizer(cache)
        data = InstructionData(experiment, tokenizer, cache, Audit())
        tokens = experiment.evaluation.batch_tokens or scored_tokens(torch.device("cpu"))
        lengths = data.examples["validation"].lengths
        order = np.arange(len(lengths))
        show(f"{option}: validation", lengths, fixed(order, 16), batches_by_length(lengths, tokens))
        evaluated = data.evaluated_examples(
            "validation", experiment.evaluation.max_examples, experiment.reports_by_source
        )
        lengths = np.array([len(example.input_ids) for example in evaluated.examples])
        order = np.argsort(lengths, kind="stable")
        show(f"{option}: likelihoods", lengths, fixed(order, 16), batches_by_length(lengths, tokens))
        prompts = experiment.batching.encode_prompts(evaluated.prompts, experiment.template, tokenizer)
        lengths = np.array([len(prompt) for prompt in prompts])
        order = np.argsort(-lengths, kind="stable")
        show(f"{option}: prompts", lengths, fixed(order, 64), batches_by_length(lengths, 2**40, max_rows=MAX_ROWS))


if __name__ == "__main__":
    main()

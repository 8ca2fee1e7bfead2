"""Answering the held-out prompts of the quick start: decoding token by token against `generate` of transformers.

Both decode the same batches greedily, with the base model and with the tuned one, and have to give the same answers.

Command: python tests/benchmarks/decoding_against_generate.py RUN
RUN: the record of a run of `instruct-lab train` with the default config.
"""

import json
import sys
import time
from pathlib import Path

from omegaconf import OmegaConf

from instruct_lab.data import Conversation, Message
from instruct_lab.experiment.check import check_config
from instruct_lab.generation import decoding
from instruct_lab.records import RunRecord

ROUNDS = 3


def prompts_of(experiment, tokenizer, record):
    lines = map(json.loads, (record / "predictions.jsonl").read_text(encoding="utf-8").splitlines())
    asked = [Conversation((Message("user", line["prompt"]),)) for line in lines if line["split"] == "validation"]
    return experiment.batching.encode_prompts(asked, experiment.template, tokenizer, experiment.layout)


def main():
    """Print the seconds of each way of decoding, for each model."""
    record = Path(sys.argv[1])
    experiment = check_config(OmegaConf.create(RunRecord.open(record).config))
    cache = Path(experiment.cache_path).expanduser()
    tokenizer = experiment.model.load_tokenizer(cache)
    prompts = prompts_of(experiment, tokenizer, record)
    stops = experiment.template.stop_token_ids(tokenizer)
    loaded = experiment.model.load(tokenizer, cache)
    best = json.loads((record / "checkpoints" / "best.json").read_text(encoding="utf-8"))["path"]
    tuned = experiment.tuning.merge(experiment.tuning.load(loaded, record / "checkpoints" / best))
    models = {"tuned": tuned.model, "base": experiment.model.load(tokenizer, cache).model}
    original = decoding.can_remove_rows
    for name, model in models.items():
        seconds, answers = {True: [], False: []}, {}
        for _ in range(ROUNDS):
            for own in (True, False):
                decoding.can_remove_rows = original if own else lambda _: False
                started = time.perf_counter()
                answers[own] = experiment.generation.generate_ids(model, prompts, stops, tokenizer.pad_token_id)
                seconds[own].append(time.perf_counter() - started)
        assert answers[True] == answers[False]
        tokens = sum(map(len, answers[True]))
        ours, theirs = min(seconds[True]), min(seconds[False])
        ratio = f"{ours:.1f} s against {theirs:.1f} s, {theirs / ours:.2f} times faster"
        print(f"{name} model: {len(prompts)} prompts, {tokens} tokens: {ratio}")


if __name__ == "__main__":
    main()

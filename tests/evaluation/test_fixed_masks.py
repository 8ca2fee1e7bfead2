"""Held-out examples are masked alike in every run, and alike during and after training."""

import json
import random

import numpy as np
import pytest
import torch
from support.records import newest_run

from instruct_lab import cli
from instruct_lab.batching import BatchLoader, Example
from instruct_lab.batching.example import evaluation_source

ENCODER = ["model=tiny_encoder", "template=contents", "objective=masked", "metrics=masked", "tuning=full"]
INFILLING = ["model=tiny_bart", "template=contents", "objective=text_infilling", "metrics=perplexity", "tuning=full"]
CORRUPTION = [*INFILLING[1:], "model=tiny_encoder_decoder", "objective=span_corruption"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [ENCODER, INFILLING, CORRUPTION], ids=["masked", "text_infilling", "span_corruption"]
)
def test_seeds_are_measured_on_the_same_masks_as_in_validation(lab, tiny, options):
    """The perplexity of the final evaluation equals the one that the last validation logged."""
    measured = []
    for seed in (0, 1):
        command = [*tiny, *options, "trainer.max_steps=2", "trainer.val_check_interval=2", f"seed={seed}"]
        command += ["evaluation.max_examples=null", "evaluation.checkpoint=last", "evaluation.batch_tokens=40"]
        assert cli.main(["train", *command]) == 0
        record = newest_run(lab)
        metrics = json.loads((record / "summary.json").read_text())["metrics"]
        name = next(name for name in metrics if name.startswith("val/") and name.endswith("perplexity"))
        logged = [json.loads(line) for line in (record / "metrics.jsonl").read_text().splitlines()]
        (validated,) = (line["val/perplexity"] for line in logged if "val/perplexity" in line)
        assert metrics[name]["after"]["value"] == pytest.approx(validated, rel=1e-4)
        measured.append({name: value["before"]["value"] for name, value in metrics.items()})
    assert measured[0] == measured[1]


def drawn(seed, shuffle, ids, epochs=1):
    """The first random number of each example, by epoch."""
    found = []

    def transform(example, source):
        found[-1][example.id] = source.random()
        return example

    def collate(batch):
        return torch.zeros(len(batch))

    examples = [Example([1], [1], name) for name in ids]
    batches = None if shuffle else [np.arange(len(examples))[start : start + 2] for start in range(0, len(examples), 2)]
    loader = BatchLoader(examples, collate, batch_size=2, batches=batches, seed=seed, transform=transform)
    for _ in range(epochs):
        found.append({})
        list(loader)
    return found


def test_only_training_draws_by_seed_and_epoch():
    ids = [f"id{number}" for number in range(7)]
    fixed = {name: evaluation_source(Example([], [], name)).random() for name in ids}
    assert len(set(fixed.values())) == len(ids)
    for seed in (0, 1, 7):
        order = random.Random(seed).sample(ids, len(ids))
        assert drawn(seed, False, order, epochs=2) == [fixed, fixed]
    first, second = drawn(0, True, ids, epochs=2)
    assert not set(first.values()) & set(second.values())
    assert not set(first.values()) & set(drawn(1, True, ids)[0].values())

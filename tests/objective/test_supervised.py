"""The supervised loss against an independent float64 computation."""

import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from instruct_lab.batching import IGNORED, Batch
from instruct_lab.objective import Supervised


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=37, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
    )
    return LlamaForCausalLM(config).eval()


def ragged_batch():
    torch.manual_seed(1)
    lengths, longest = [9, 5, 12, 3], 12
    ids = torch.randint(0, 37, (4, longest))
    mask = torch.zeros(4, longest, dtype=torch.long)
    labels = torch.full((4, longest), IGNORED)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
        labels[row, length // 2 : length] = ids[row, length // 2 : length]
    return Batch(input_ids=ids, attention_mask=mask, labels=labels)


def independent(model, batch, smoothing=0.0):
    """From the formula, row by row and token by token, in float64, without padding."""
    exact = LlamaForCausalLM(model.config).double().eval()
    exact.load_state_dict(model.state_dict())
    sums, counts = [], []
    for ids, mask, labels in zip(batch.input_ids, batch.attention_mask, batch.labels, strict=True):
        length = int(mask.sum())
        logits = exact(input_ids=ids[None, :length]).logits[0]
        total, count = 0.0, 0
        for position in range(1, length):
            if labels[position] == IGNORED:
                continue
            row = logits[position - 1].tolist()
            log_z = math.log(sum(math.exp(v) for v in row))
            own = log_z - row[int(labels[position])]
            mean = sum(log_z - v for v in row) / len(row)
            total += (1 - smoothing) * own + smoothing * mean
            count += 1
        sums.append(total)
        counts.append(count)
    return sums, counts


def test_sums_and_counts_equal_the_formula(model):
    batch = ragged_batch()
    loss = Supervised().loss(model, batch)
    sums, counts = independent(model, batch)
    assert loss.counts.tolist() == counts
    assert loss.sums.tolist() == pytest.approx(sums, rel=1e-5)


def test_label_smoothing_follows_its_formula_in_training_only(model):
    batch = ragged_batch()
    smoothed = Supervised(label_smoothing=0.2)
    sums, _ = independent(model, batch, smoothing=0.2)
    assert smoothed.loss(model.train(), batch).sums.tolist() == pytest.approx(sums, rel=1e-5)
    plain, _ = independent(model, batch)
    assert smoothed.loss(model.eval(), batch).sums.tolist() == pytest.approx(plain, rel=1e-5)


def test_logits_are_computed_at_target_positions_only(model):
    batch = ragged_batch()
    seen = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    loss = Supervised().loss(model, batch)
    assert seen == [(int(loss.counts.sum()), 37)]


def test_a_first_token_is_never_a_target(model):
    batch = ragged_batch()
    labels = batch.labels.clone()
    labels[:, 0] = batch.input_ids[:, 0]
    with_first = Supervised().loss(model, Batch(batch.input_ids, batch.attention_mask, labels))
    assert with_first.counts.tolist() == Supervised().loss(model, batch).counts.tolist()

"""Losses of packed rows are those of padded rows, and training on them takes the same course."""

import copy
import dataclasses
import random

import pytest
import torch
from test_losses_in_double import adapted, bert, llama, rows
from transformers import GPT2Config, GPT2LMHeadModel

from instruct_lab.batching import IGNORED, Batch, Packing
from instruct_lab.model import Decoder, Random
from instruct_lab.objective import DPO, KTO, ORPO, Causal, Distillation, Masked, SimPO, Supervised
from instruct_lab.objective.log_probabilities import sequence_log_probabilities, token_scores
from instruct_lab.tuning import LoRA

PACKINGS = [Packing(), Packing(16, 4)]
STEPS = 50


def gpt2():
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=16, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    )
    return GPT2LMHeadModel(config)


def batch_of(seed=0, **fields):
    """Four texts of different lengths; fields are those of `Batch`."""
    source = random.Random(seed)
    lengths = [source.randint(2, 14) for _ in range(4)]
    ids, mask, labels = rows(lengths, [source.randint(1, length - 1) for length in lengths], seed)
    return Batch(ids, mask, labels, **fields)


def weighted(batch):
    return dataclasses.replace(
        batch, weights=torch.rand(batch.labels.shape, generator=torch.Generator().manual_seed(1))
    )


PAIRS = batch_of(3, is_paired=True, reference=torch.tensor([[-9.0, -7.0], [-5.0, -8.0]]))
LABELS = batch_of(4, desirable=torch.tensor([True, False, True, False]), owners=torch.tensor([0, 1, 2, 2]))
CASES = {
    "supervised": (Supervised(label_smoothing=0.1, z_loss=1e-3), batch_of()),
    "weights": (Supervised(), weighted(batch_of(1))),
    "causal": (Causal(), batch_of(2)),
    "dpo": (DPO(), PAIRS),
    "orpo": (ORPO(), PAIRS),
    "simpo": (SimPO(), PAIRS),
    "kto": (KTO(), LABELS),
}


def loss_and_gradients(objective, model, batch, teacher=None):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # it draws other numbers for other shapes
    loss = objective.loss(model.train(), batch, teacher)
    loss.sums.sum().backward()
    return loss, {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


def assert_equal_losses(objective, model, batch, teacher=None):
    first, gradients = loss_and_gradients(objective, copy.deepcopy(model), batch, teacher)
    for packing in PACKINGS:
        packed = dataclasses.replace(batch, packing=packing)
        second, others = loss_and_gradients(objective, copy.deepcopy(model), packed, teacher)
        torch.testing.assert_close(second.sums, first.sums, rtol=1e-5, atol=1e-5)
        assert torch.equal(second.counts, first.counts) or batch.weights is not None
        torch.testing.assert_close(second.values, first.values, rtol=1e-4, atol=1e-5, equal_nan=True)
        assert gradients.keys() == others.keys()
        for name, one in gradients.items():
            assert (one - others[name]).norm() <= 1e-4 * one.norm() + 1e-6, name


@pytest.mark.parametrize("case", CASES)
def test_packed_losses_and_gradients_are_those_of_padded_rows(case):
    objective, batch = CASES[case]
    model = adapted(LoRA(r=2), llama()) if case == "kto" else llama()
    assert_equal_losses(objective, model, batch)


def test_packed_losses_of_a_student_and_of_an_encoder_are_those_of_padded_rows():
    teacher = llama(seed=1)
    assert_equal_losses(Distillation(teacher=Decoder(weights=Random())), llama(), batch_of(5), teacher)
    assert_equal_losses(Masked(), bert(), batch_of(6))


def test_gradients_through_checkpointing_are_the_same():
    model = llama()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert_equal_losses(Supervised(), model, batch_of(7))


def test_scores_of_tokens_and_answers_are_those_of_padded_rows():
    model, batch = llama(), dataclasses.replace(batch_of(8), is_paired=True)
    packed = dataclasses.replace(batch, packing=Packing(16))
    with torch.no_grad():
        for one, other in zip(token_scores(model, batch), token_scores(model, packed), strict=True):
            assert one.losses == pytest.approx(other.losses, rel=1e-5)
            assert one.correct == other.correct
        for one, other in zip(
            sequence_log_probabilities(model, batch), sequence_log_probabilities(model, packed), strict=True
        ):
            torch.testing.assert_close(one, other)


def test_a_text_of_one_token_and_a_copy_without_labels_add_nothing():
    model, batch = llama(), batch_of(9)
    batch.attention_mask[1, 1:] = 0
    batch.labels[1] = IGNORED
    batch.labels[2] = IGNORED
    loss = Supervised().loss(model, dataclasses.replace(batch, packing=Packing()))
    assert loss.sums[1:3].tolist() == [0, 0]
    assert loss.counts[1:3].tolist() == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("build", [gpt2, lambda: llama().train()], ids=["gpt2", "llama"])
def test_training_takes_the_same_course(build, method):
    courses = []
    for packing in (None, *PACKINGS):
        torch.manual_seed(0)
        model = adapted(LoRA(r=4, dropout=0.0), build()) if method == "lora" else build()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
        losses = []
        for step in range(STEPS):
            batch = dataclasses.replace(batch_of(step), packing=packing)
            loss = Supervised().loss(model.train(), batch)
            value = loss.sums.sum() / loss.counts.sum()
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(value.detach()))
        courses.append(losses)
    assert courses[0][-1] != courses[0][0]
    for course in courses[1:]:
        assert course == pytest.approx(courses[0], rel=1e-5)

"""Losses and gradients from logits in chunks are those of all logits at once, and no more logits are in memory."""

import dataclasses
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_losses_in_double import VOCABULARY, adapted, bart, batch_for, bert, labelled_logits, llama, log_softmax, t5
from test_packed_losses import CASES
from test_shared_prefix import decoder, prompted

from instruct_lab.batching import Packing, Padded, prefixes
from instruct_lab.objective import Masked, Supervised, chunks
from instruct_lab.objective.log_probabilities import token_scores
from instruct_lab.tuning import LoRA


def in_chunks_of(patch, targets):
    patch.setattr(chunks, "MOST_LOGITS", targets * VOCABULARY)
    patch.setattr(chunks, "MOST_LOGITS_OF_TRAINED", targets * VOCABULARY)


def loss_and_gradients(objective, model, batch):
    model.zero_grad()
    loss = objective.loss(model, batch)
    (loss.sums * torch.arange(1, len(loss.sums) + 1)).sum().backward()  # each example has its own factor
    return loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def check_equal(objective, model, batch, patch, targets=2):
    """Compare with all logits at once; return the numbers of logits that the projection computed."""
    whole, expected = loss_and_gradients(objective, model, batch)
    sizes = []
    hook = model.get_output_embeddings().register_forward_hook(lambda m, given, output: sizes.append(len(output)))
    with pytest.MonkeyPatch.context() if patch is None else patch.context() as inner:
        in_chunks_of(inner, targets)
        loss, gradients = loss_and_gradients(objective, model, batch)
    hook.remove()
    torch.testing.assert_close(loss.sums, whole.sums, rtol=1e-6, atol=1e-6)
    assert torch.equal(loss.counts, whole.counts)
    assert gradients.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-6 * largest)
    return sizes


def lora(targets):
    model = adapted(LoRA(r=2, target_modules=targets), llama())
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


MODELS = {
    "all weights": llama,
    "a frozen projection": lambda: lora(["q_proj", "v_proj"]),
    "an adapter on the projection": lambda: lora(["q_proj", "lm_head"]),
    "only the projection": lambda: llama().requires_grad_(False),
}


@pytest.mark.parametrize(
    ("name", "case"),
    [(name, case) for name in MODELS for case in CASES if case != "kto" or "frozen" in name or "adapter" in name],
)
def test_chunks_change_neither_loss_nor_gradient(name, case, monkeypatch):
    objective, batch = CASES[case]
    model = MODELS[name]().train()
    if name == "only the projection":
        model.get_output_embeddings().requires_grad_(True)
    sizes = check_equal(objective, model, batch, monkeypatch)
    assert max(sizes) <= 2
    assert len(sizes) > 3


@pytest.mark.parametrize(("make", "objective"), [(t5, Supervised()), (bert, Masked())])
def test_other_families(make, objective, monkeypatch):
    model = make().eval()  # without dropout
    assert max(check_equal(objective, model, batch_for(model), monkeypatch)) <= 2


def test_packed_rows_and_shared_prefixes(monkeypatch):
    objective, batch = CASES["supervised"]
    model = adapted(LoRA(r=2), llama()).train()
    packed = dataclasses.replace(batch, packing=Packing())
    assert max(check_equal(objective, model, packed, monkeypatch)) <= 2
    monkeypatch.setattr(prefixes, "PASS_POSITIONS", 0)
    shared = Padded(share_prefix="auto").collate(prompted(0, 4, 5, 3, 6), 0)
    model = decoder(vocab_size=VOCABULARY + 13)
    assert shared.prefixes is not None
    sizes = check_equal(Supervised(), model, shared, monkeypatch, targets=3)
    assert shared.prefixes.is_used
    assert max(sizes) <= 3 * VOCABULARY // (VOCABULARY + 13)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("gemma2", {"final_logit_softcapping": 3.0, "head_dim": 8}),
        ("granite", {"logits_scaling": 4.0}),
        ("cohere", {"logit_scale": 0.5}),
    ],
)
def test_logits_that_the_model_processes_further_are_computed_at_once(name, settings, monkeypatch):
    """The settings are known for these; a class that is not known is found at its first batch."""
    model = decoder(name, vocab_size=VOCABULARY, **settings).eval()
    batch = batch_for(model)
    count = int((batch.labels != -100).sum())
    assert check_equal(Supervised(), model, batch, monkeypatch) == [count]
    monkeypatch.setattr(chunks, "SETTINGS_OF_PROCESSING", ())
    monkeypatch.setattr(chunks, "PROCESSING_CLASSES", set())
    monkeypatch.setattr("instruct_lab.objective.target_logits.PROCESSING_CLASSES", chunks.PROCESSING_CLASSES)
    assert check_equal(Supervised(), model, batch, monkeypatch) == [1, count]
    assert check_equal(Supervised(), model, batch, monkeypatch) == [count]


def test_a_second_forward_pass_draws_the_same_random_numbers(monkeypatch):
    """A resumed run, which finds the class at another batch, trains like an undisturbed one."""
    settings = {"final_logit_softcapping": 3.0, "head_dim": 8, "attention_dropout": 0.5}
    model = decoder("gemma2", vocab_size=VOCABULARY, **settings).train()
    batch = batch_for(model)
    monkeypatch.setattr(chunks, "SETTINGS_OF_PROCESSING", ())
    monkeypatch.setattr(chunks, "PROCESSING_CLASSES", set())
    monkeypatch.setattr("instruct_lab.objective.target_logits.PROCESSING_CLASSES", chunks.PROCESSING_CLASSES)
    in_chunks_of(monkeypatch, 1)
    results = []
    for is_known in (False, True):
        assert (type(model) in chunks.PROCESSING_CLASSES) == is_known
        torch.manual_seed(0)
        results.append((Supervised().loss(model, batch).sums.tolist(), torch.rand(1).item()))
    assert results[0] == results[1]


def test_a_bias_of_the_logits_is_added(monkeypatch):
    model = bart()
    model.final_logits_bias.normal_()
    for score in token_scores(model, batch_for(model)):
        in_chunks_of(monkeypatch, 1)
        assert score in token_scores(model, batch_for(model))


def test_scores_in_chunks_are_those_of_float64(monkeypatch):
    model = llama()
    batch = batch_for(model)
    in_chunks_of(monkeypatch, 3)
    for score, (logits, labels) in zip(token_scores(model, batch), labelled_logits(model, batch), strict=True):
        expected = [-log_softmax(one)[label] for one, label in zip(logits, labels, strict=True)]
        assert score.losses == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@settings(max_examples=25)
@given(targets=st.integers(1, 40), frozen=st.booleans(), smoothing=st.sampled_from([0.0, 0.3]))
def test_any_size_of_chunks_gives_the_same_losses(targets, frozen, smoothing):
    model = PROPERTY_MODELS[frozen].train()
    check_equal(Supervised(label_smoothing=smoothing, z_loss=1e-3), model, CASES["weights"][1], None, targets)


PROPERTY_MODELS = {True: lora(["q_proj"]), False: llama()}


class Kept:
    """A tensor that the backward pass needs."""

    def __init__(self, tensor):
        self.tensor = tensor


def test_no_logits_are_kept_and_a_frozen_projection_is_computed_once(monkeypatch):
    objective, batch = CASES["causal"]
    kept = weakref.WeakSet()

    def keep(tensor):
        one = Kept(tensor)
        kept.add(one)
        return one

    def count_logits(model):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one.tensor):
            loss = objective.loss(model.train(), batch)
        shapes = [tuple(one.tensor.shape) for one in kept]
        return loss, sum(shape[-1:] == (VOCABULARY,) and shape != (16, VOCABULARY) for shape in shapes)

    assert count_logits(lora(["q_proj"]))[1] > 0
    in_chunks_of(monkeypatch, 2)
    for model in (lora(["q_proj"]), llama()):
        loss, num_kept = count_logits(model)
        assert num_kept == 0
        calls = []
        projection = model.get_output_embeddings()
        projection.register_forward_hook(lambda m, given, output, calls=calls: calls.append(1))
        loss.sums.sum().backward()
        assert bool(calls) is projection.weight.requires_grad


def test_a_trained_projection_is_divided_only_above_a_higher_limit(monkeypatch):
    in_chunks_of(monkeypatch, 5)
    monkeypatch.setattr(chunks, "MOST_LOGITS_OF_TRAINED", 20 * VOCABULARY)
    trained, frozen = llama(), llama().requires_grad_(False)
    assert [chunks.chunk_size(trained, count) for count in (5, 6, 20, 21)] == [None, None, None, 5]
    assert [chunks.chunk_size(frozen, count) for count in (5, 6)] == [None, 5]
    with torch.no_grad():
        assert chunks.chunk_size(trained, 6) == 5


def test_float16_gradients_are_scaled_before_they_are_rounded(monkeypatch):
    """Gradients of the size 1e-8 are zero in float16 unless the loss is scaled first."""
    in_chunks_of(monkeypatch, 2)
    projection = torch.nn.Linear(4, VOCABULARY, bias=False).half().requires_grad_(False)
    hidden = torch.randn(5, 4).half().requires_grad_()
    evaluate = lambda logits, labels: logits.float().square().sum(dim=1) * 1e-9  # noqa: E731
    values = chunks.values_in_chunks(projection, hidden, torch.zeros(5, dtype=torch.long), evaluate, 2)
    (values.sum() * 2.0**16).backward()
    assert hidden.grad.abs().max() > 0

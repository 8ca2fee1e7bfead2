"""Layers below the lowest trained parameter run without a graph: they keep nothing, and are computed once."""

import copy

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from instruct_lab.model import LoadedModel
from instruct_lab.model.checkpointing import checkpoint_gradients
from instruct_lab.tuning import Freeze, HeadOnly, LoRA, PromptTuning

NUM_LAYERS = 4
SMALL = {"vocab_size": 37, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "pad_token_id": 0}


def llama(**more):
    torch.manual_seed(0)
    config = AutoConfig.for_model("llama", **{**SMALL, "num_hidden_layers": NUM_LAYERS, **more})
    return AutoModelForCausalLM.from_config(config)


def measure(method, base, how):
    """Train one step; return gradients by name, calls of each layer, and tensors that each layer keeps."""
    model = copy.deepcopy(base)
    checkpoint_gradients(model, how)
    model = method.apply(LoadedModel(model=model, tokenizer=None, family="decoder")).model.train()
    layers = (model.get_base_model() if hasattr(model, "get_base_model") else model).model.layers
    calls, kept, current = [0] * NUM_LAYERS, [0] * NUM_LAYERS, [None]

    def enter(index):
        def hook(module, arguments):
            current[0] = index

        return hook

    def leave(module, arguments, output):
        current[0] = None

    for index, layer in enumerate(layers):
        layer.register_forward_pre_hook(enter(index))
        layer.register_forward_hook(leave)
        layer.self_attn.register_forward_hook(lambda *_, i=index: calls.__setitem__(i, calls[i] + 1))

    def pack(tensor):
        if current[0] is not None:
            kept[current[0]] += 1
        return tensor

    ids = torch.arange(12).reshape(2, 6) + 3
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, calls, kept


TRAINED = {
    "last layer": (Freeze(last_layers=1), llama(), 3),
    "last layer, tied embeddings": (Freeze(last_layers=1), llama(tie_word_embeddings=True), 3),
    "head": (HeadOnly(), llama(), 4),
    "head, tied embeddings": (HeadOnly(), llama(tie_word_embeddings=True), 4),
    "a layer in the middle": (Freeze(pattern=r"layers\.2\..*q_proj"), llama(), 2),
    "adapters of the last layers": (LoRA(r=2, target_modules=r".*layers\.[23]\..*q_proj"), llama(), 2),
    "embeddings": (Freeze(embeddings=True), llama(), 0),
    "tied embeddings": (Freeze(embeddings=True), llama(tie_word_embeddings=True), 0),
    "first layer": (Freeze(first_layers=1), llama(), 0),
    "virtual tokens": (PromptTuning(num_virtual_tokens=2, init="random"), llama(), 0),
}


@pytest.mark.parametrize("name", TRAINED)
def test_frozen_layers_keep_nothing_and_are_computed_once(name):
    method, base, lowest = TRAINED[name]
    torch.manual_seed(1)
    expected, calls, kept = measure(method, base, "none")
    assert calls == [1] * NUM_LAYERS
    assert kept[:lowest] == [0] * lowest
    assert all(kept[lowest:])
    for how in ("full", "selective"):
        torch.manual_seed(1)
        gradients, calls, _ = measure(method, base, how)
        assert calls == [1] * lowest + [2] * (NUM_LAYERS - lowest)
        assert gradients.keys() == expected.keys()
        for parameter, gradient in expected.items():
            torch.testing.assert_close(gradients[parameter], gradient)


def test_gradients_are_those_of_a_model_whose_layers_are_all_trained():
    base = llama()
    expected, *_ = measure(Freeze(first_layers=NUM_LAYERS), base, "none")
    gradients, *_ = measure(Freeze(last_layers=2), base, "full")
    assert {name.split(".")[2] for name in gradients} == {"2", "3"}
    for name, gradient in gradients.items():
        assert torch.equal(gradient, expected[name])


def test_a_frozen_encoder_keeps_nothing():
    config = AutoConfig.for_model(
        "t5", vocab_size=37, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    model = AutoModelForSeq2SeqLM.from_config(config)
    checkpoint_gradients(model, "full")
    loaded = LoadedModel(model=model, tokenizer=None, family="encoder-decoder")
    model = Freeze(pattern=r"decoder\.block\.1").apply(loaded).model.train()
    found = []
    model.encoder.register_forward_hook(lambda module, given, output: found.append(output[0].requires_grad))
    ids = torch.arange(12).reshape(2, 6) + 3
    model(input_ids=ids, labels=ids).loss.backward()
    assert found == [False]

"""Which parameter gets which learning rate and weight decay, by the real names of real models."""

import re

import pytest
import torch
import transformers

from instruct_lab.errors import InstructLabError
from instruct_lab.optimizer import Adafactor, AdamW, Lion, Muon, QuantizedAdamW, ScheduleFreeAdamW
from instruct_lab.optimizer.groups import NO_DECAY, distances_from_top

SMALL = {"vocab_size": 32}
MODELS = {
    "llama": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=8, intermediate_size=8, num_hidden_layers=3, num_attention_heads=2, **SMALL
        )
    ),
    "qwen3": lambda: transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(
            hidden_size=8, intermediate_size=8, num_hidden_layers=3, num_attention_heads=2, head_dim=4, **SMALL
        )
    ),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=8, n_layer=3, n_head=2, n_positions=8, **SMALL)
    ),
    "t5": lambda: transformers.T5ForConditionalGeneration(
        transformers.T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=3, num_decoder_layers=2, num_heads=2, **SMALL)
    ),
    "bart": lambda: transformers.BartForConditionalGeneration(
        transformers.BartConfig(
            d_model=8,
            encoder_layers=3,
            decoder_layers=3,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=8,
            decoder_ffn_dim=8,
            max_position_embeddings=8,
            **SMALL,
        )
    ),
    "bert": lambda: transformers.BertForMaskedLM(
        transformers.BertConfig(
            hidden_size=8,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=8,
            max_position_embeddings=8,
            **SMALL,
        )
    ),
}


def build_model(name):
    with torch.device("meta"):
        return MODELS[name]()


def expected_undecayed(model):
    """By the modules' classes and the parameters' shapes, not by names."""
    tables = (torch.nn.Embedding,)
    norms = {type(module) for module in model.modules() if "norm" in type(module).__name__.lower()}
    assert norms
    for prefix, module in model.named_modules():
        for name, _ in module.named_parameters(prefix=prefix, recurse=False):
            if isinstance(module, (*tables, *norms)) or name.endswith(".bias"):
                yield name


@pytest.mark.parametrize("name", MODELS)
def test_exactly_norms_biases_and_embeddings_are_not_decayed(name):
    model = build_model(name)
    optimizer = AdamW(lr=0.1, weight_decay=0.5).build(model.named_parameters())
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    undecayed = {name for name, parameter in model.named_parameters() if decay[id(parameter)] == 0.0}
    trained = {name for name, _ in model.named_parameters()}
    assert undecayed == set(expected_undecayed(model)) & trained
    assert undecayed < trained


@pytest.mark.parametrize(
    "name", ["self_attn.q_norm.weight", "LayerNorm.weight", "h.0.ln_1.weight", "model.norm.weight"]
)
def test_spellings_of_norms(name):
    assert re.search(NO_DECAY, name, re.IGNORECASE)
    assert not re.search(NO_DECAY, "layers.0.mlp.aln_proj.weight", re.IGNORECASE)


def rates(optimizer, model):
    by_id = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return {name: by_id[id(p)] for name, p in model.named_parameters() if id(p) in by_id}


LAYERS = {
    "llama": {"model.layers.2.": 1, "model.layers.0.": 3, "model.embed_tokens.": 4, "model.norm.": 0, "lm_head.": 0},
    "gpt2": {"transformer.h.2.": 1, "transformer.h.0.": 3, "transformer.wte.": 4, "transformer.ln_f.": 0},
    "t5": {
        "encoder.block.2.": 1,
        "encoder.block.0.": 3,
        "decoder.block.1.": 1,
        "decoder.block.0.": 2,
        "shared.": 4,
        "decoder.final_layer_norm.": 0,
    },
    "bart": {"model.encoder.layers.0.": 3, "model.decoder.layers.2.": 1, "model.encoder.embed_positions.": 4},
    "bert": {"bert.encoder.layer.2.": 1, "bert.encoder.layer.0.": 3, "bert.embeddings.": 4, "cls.": 0},
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_decay_lowers_the_rate_from_the_output_down(name):
    model = build_model(name)
    found = rates(AdamW(lr=0.1, layer_decay=0.5).build(model.named_parameters()), model)
    for prefix, distance in LAYERS[name].items():
        matched = [rate for parameter, rate in found.items() if parameter.startswith(prefix)]
        assert matched, prefix
        assert matched == pytest.approx([0.1 * 0.5**distance] * len(matched)), prefix
    assert min(found.values()) == pytest.approx(0.1 * 0.5**4)


def test_layers_are_counted_where_only_the_top_ones_train_and_inside_adapters():
    names = [f"base_model.model.model.layers.{layer}.q_proj.lora_A.default.weight" for layer in range(3)]
    assert list(distances_from_top(names).values()) == [3, 2, 1]
    frozen = [(name, torch.nn.Parameter(torch.ones(2), requires_grad=name == names[0])) for name in names]
    (group,) = AdamW(lr=1.0, layer_decay=0.5).build(frozen).param_groups
    assert group["lr"] == 0.125


def test_layer_decay_without_layers_is_refused():
    with pytest.raises(InstructLabError, match="contains a layer number"):
        AdamW(lr=0.1, layer_decay=0.9).build([("w", torch.nn.Parameter(torch.ones(2)))])


def three():
    return [(name, torch.nn.Parameter(torch.ones(2, 2))) for name in ("a.q_proj", "a.v_proj", "b.q_proj")]


def test_the_first_pattern_that_matches_gives_the_factor():
    parameters = three()
    optimizer = AdamW(lr=0.1, lr_factors={"^b": 3.0, "Q_PROJ": 0.5}).build(parameters)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.05, 0.3])
    assert optimizer.param_groups[2]["params"] == [parameters[2][1]]


def test_the_tuning_methods_factor_is_multiplied_in():
    optimizer = AdamW(lr=0.1, lr_factors={"v_proj": 0.5}).build(three(), lambda name: 16.0 if "v_" in name else 1.0)
    assert sorted(group["lr"] for group in optimizer.param_groups) == pytest.approx([0.1, 0.8])


def test_the_first_group_is_one_whose_rate_is_the_peak_rate():
    optimizer = AdamW(lr=0.1, weight_decay=0.1, lr_factors={"^a": 4.0}).build(three())
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_a_pattern_that_matches_nothing_is_refused_with_the_nearest_names():
    with pytest.raises(InstructLabError, match=r"'q_prj' matches no trained parameter.*q_proj"):
        AdamW(lr=0.1, lr_factors={"q_prj": 0.5}).build(three())


def test_a_pattern_that_matches_only_frozen_parameters_is_refused():
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    with pytest.raises(InstructLabError, match="matches no trained parameter"):
        AdamW(lr=0.1, lr_factors={"head": 0.5}).build([*three(), ("head", frozen)])


def test_a_pattern_behind_a_wider_one_is_refused():
    with pytest.raises(InstructLabError, match="narrower"):
        AdamW(lr=0.1, lr_factors={"proj": 0.5, "q_proj": 0.1}).build(three())


def test_a_model_that_does_not_train_is_refused():
    with pytest.raises(InstructLabError, match="No parameter of the model requires gradients"):
        AdamW(lr=0.1).build([("w", torch.nn.Parameter(torch.ones(2), requires_grad=False))])


@pytest.mark.parametrize("fields", [{"no_decay": "("}, {"lr_factors": {"(": 0.5}}])
def test_a_wrong_regular_expression_is_refused(fields):
    with pytest.raises(ValueError, match="not a regular expression"):
        AdamW(lr=0.1, **fields)


@pytest.mark.parametrize(
    "kind", [AdamW, Adafactor, Lion, Muon, ScheduleFreeAdamW, QuantizedAdamW], ids=lambda kind: kind.__name__
)
def test_every_optimizer_takes_its_groups_from_the_same_place(kind):
    if kind.package is not None:
        pytest.importorskip(kind.package)
    parameters = [*three(), ("a.bias", torch.nn.Parameter(torch.ones(2)))]
    optimizer = kind(lr=0.1, weight_decay=0.2, no_decay="bias|^b", lr_factors={"v_": 0.5}).build(parameters)
    found = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    expected = [(0.1, 0.2), (0.05, 0.2), (0.1, 0.0), (0.1, 0.0)]
    assert [found[id(parameter)] for _, parameter in parameters] == expected


def test_a_missing_package_is_reported(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (problem,) = ScheduleFreeAdamW(lr=0.1).problems()
    assert "which is not installed" in problem.reason
    assert list(AdamW(lr=0.1).problems()) == []


@pytest.mark.parametrize("bits", [8, 32])
def test_paged_states_need_a_gpu(monkeypatch, bits):
    from instruct_lab.model import hardware

    monkeypatch.setattr(hardware, "has_gpu", lambda: False)
    (problem,) = [p for p in QuantizedAdamW(lr=0.1, bits=bits, paged=True).problems() if p.key == "paged"]
    assert "no GPU" in problem.reason
    assert not [p for p in QuantizedAdamW(lr=0.1, bits=bits).problems() if p.key == "paged"]
    monkeypatch.setattr(hardware, "has_gpu", lambda: True)
    assert not [p for p in QuantizedAdamW(lr=0.1, bits=bits, paged=True).problems() if p.key == "paged"]

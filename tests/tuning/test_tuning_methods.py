"""What trains, what a checkpoint holds, and that it gives the tuned model back."""

import json
import string

import pydantic
import pytest
import torch
from peft.utils.other import get_pattern_key

from instruct_lab.errors import InstructLabError
from instruct_lab.generation import Generation
from instruct_lab.model import Decoder, Random, Tokenizer
from instruct_lab.tuning import BOFT, FourierFT, Full, LoRA, count_parameters, trainable_parameters
from instruct_lab.tuning.peft_method import _keyed_by_name

SETTINGS = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.4,  # so that answers differ from one another
}
LINEAR = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
PROMPTS = [[72, 105, 33], [1, 2, 3, 4, 5, 6, 7], [200]]


@pytest.fixture
def base(tmp_path):
    """Loads the same tiny model each time."""

    def load(tied=True, tokenizer=None, dtype="float32", **settings):
        weights = Random(settings={**SETTINGS, "tie_word_embeddings": tied, **settings})
        chosen = Decoder(weights=weights, tokenizer=tokenizer or Tokenizer(), dtype=dtype)
        return chosen.load(chosen.load_tokenizer(tmp_path), tmp_path)

    return load


def train(loaded, token_ids=(9, 8, 7, 6, 5, 4), steps=3, lr=0.3):
    model = loaded.model
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=lr)
    ids = torch.tensor([list(token_ids)])
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    model.eval()
    return loaded


def logits(loaded, ids=(9, 8, 7, 259 - 1)):
    with torch.no_grad():
        return loaded.model.eval()(input_ids=torch.tensor([list(ids)])).logits


def answers(loaded):
    return Generation(max_new_tokens=12).generate_ids(loaded.model, PROMPTS, [258], 256)


# ---- full


def test_full_trains_every_parameter(base):
    loaded = base()
    model = loaded.model.requires_grad_(False)
    counts = count_parameters(Full().apply(loaded).model)
    assert counts.trained == counts.total == sum(p.numel() for p in model.parameters())
    assert counts.share == 1


@pytest.mark.parametrize("tied", [True, False])
def test_full_gives_the_trained_model_back(base, tmp_path, tied):
    trained = train(Full().apply(base(tied)), lr=0.01)
    Full().save(trained, tmp_path / "saved")
    untrained = base(tied)
    again = Full().merge(Full().load(base(tied), tmp_path / "saved"))
    assert not again.model.training
    assert torch.equal(logits(again), logits(trained))
    assert not torch.equal(logits(again), logits(untrained))
    assert again.model.config._attn_implementation == untrained.model.config._attn_implementation


def test_full_keeps_the_facts_about_the_loaded_model(base, tmp_path):
    tokens = Tokenizer(extra_tokens=["<new>"])
    model = base(tokenizer=tokens)
    Full().save(model, tmp_path / "saved")
    again = Full().load(base(tokenizer=tokens), tmp_path / "saved")
    assert again.added_token_ids == (259,)
    assert again.model.name_or_path == model.model.name_or_path


def test_full_refuses_the_weights_of_another_model(base, tmp_path):
    Full().save(base(), tmp_path / "saved")
    for other in (base(tokenizer=Tokenizer(extra_tokens=["<new>"])), base(num_hidden_layers=3), base(tied=False)):
        with pytest.raises(InstructLabError, match="do not fit"):
            Full().load(other, tmp_path / "saved")


def test_full_refuses_an_empty_and_a_damaged_folder(base, tmp_path):
    with pytest.raises(InstructLabError, match="no trained weights"):
        Full().load(base(), tmp_path)
    Full().save(base(), tmp_path / "saved")
    weights = tmp_path / "saved" / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(InstructLabError, match="cannot be read"):
        Full().load(base(), tmp_path / "saved")


# ---- LoRA: fields


@pytest.mark.parametrize(
    "fields",
    [
        {"r": 0},
        {"r": -4},
        {"r": 1.5},
        {"r": True},
        {"alpha": 0.0},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"bias": "some"},
        {"target_modules": []},
        {"target_modules": ""},
        {"target_modules": [""]},
        {"target_modules": "q_(proj"},
        {"exclude_modules": []},
        {"exclude_modules": "all-linear"},
        {"rank": 8},
    ],
)
def test_impossible_settings_are_refused(fields):
    with pytest.raises(pydantic.ValidationError):
        LoRA(**fields)


# ---- LoRA: what is adapted


def adapted(loaded):
    """Last parts of the names of the layers that have an adapter."""
    names = [name.split(".lora_A")[0] for name in trainable_parameters(loaded.model) if ".lora_A." in name]
    return {name.rpartition(".")[2] for name in names}


@pytest.mark.slow
def test_lora_adapts_every_linear_layer_but_the_output(base):
    model = LoRA(r=2).apply(base(tied=False))
    assert ", ".join(sorted(adapted(model))) == LINEAR
    assert all(".lora_A." in name or ".lora_B." in name for name in trainable_parameters(model.model))
    shapes = {"q": 64, "k": 64, "v": 64, "o": 64, "gate": 80, "up": 80, "down": 80}  # rows + columns
    assert count_parameters(model.model).trained == 2 * 2 * sum(shapes.values())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"target_modules": ["q_proj", "v_proj"]}, {"q_proj", "v_proj"}),
        ({"target_modules": r".*\.(up|down)_proj"}, {"up_proj", "down_proj"}),
        ({"exclude_modules": ["k_proj"]}, set(LINEAR.split(", ")) - {"k_proj"}),
        ({"exclude_modules": r".*mlp.*"}, {"q_proj", "k_proj", "v_proj", "o_proj"}),
    ],
)
def test_lora_adapts_the_modules_that_are_named(base, fields, expected):
    assert adapted(LoRA(r=2, **fields).apply(base())) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target_modules": ["q_proj", "w_proj"]}, "w_proj"),
        ({"target_modules": ["query"]}, LINEAR),
        ({"target_modules": "q_proj"}, r"tuning\.target_modules=\[q_proj\]"),
        ({"target_modules": ["qproj"]}, "did you mean q_proj"),
        ({"exclude_modules": ["lm_heed"]}, "exclude_modules"),
        ({"target_modules": ["input_layernorm"]}, LINEAR),
    ],
)
def test_name_that_matches_nothing_is_an_error_that_lists_the_linear_layers(base, fields, message):
    with pytest.raises(InstructLabError, match=message):
        LoRA(**fields).apply(base(tied=False))


@pytest.mark.parametrize(
    "method", [FourierFT(n_frequency=10**6), FourierFT(n_frequency=32 * 32 + 1), BOFT(block_size=7)], ids=repr
)
def test_a_setting_that_does_not_fit_the_model_is_to_be_corrected(base, method):
    with pytest.raises(InstructLabError) as caught:
        method.apply(base(tied=False))
    assert caught.value.where == f"tuning: {type(method).__name__}"
    assert caught.value.do.startswith("correct the setting")


@pytest.mark.parametrize("factors", [2, 3, 5])
def test_butterfly_factors_that_peft_would_silently_replace_are_refused(base, monkeypatch, factors):
    monkeypatch.setattr("instruct_lab.model.hardware.no_gpu", lambda: "there is no GPU here")
    (problem,) = BOFT(butterfly_factors=factors).problems()
    assert (problem.key, problem.kind) == ("butterfly_factors", "unavailable_here")
    monkeypatch.setattr("instruct_lab.model.hardware.no_gpu", lambda: None)
    assert not list(BOFT(butterfly_factors=factors).problems())
    monkeypatch.setattr("peft.tuners.boft.layer.get_fbd_cuda", lambda: None)  # its extension cannot be compiled
    with pytest.raises(InstructLabError, match=f"one butterfly factor instead of {factors}"):
        BOFT(butterfly_factors=factors).apply(base(tied=False))


@pytest.mark.parametrize(
    "values",
    [
        {"q_proj": 1, r".*\.1\.self_attn\..*": 2, "mlp.(up|down)_proj": 3},
        {r"layers\.(0|1)\.mlp\.up_proj": 1, "up_proj": 2, "layers.0.self_attn.[qk]_proj": 3},
        {"nothing(at_all)?": 1, "model.layers.1.mlp.gate_proj": 2, "(k|v)_proj|o_proj": 3},
    ],
)
def test_values_keyed_by_patterns_are_those_that_peft_would_find(base, values):
    names = [name for name, _ in base().model.named_modules()]
    keyed = _keyed_by_name(values, names, "here")
    assert all(set(key) <= set(string.ascii_letters + string.digits + "._") for key in keyed)
    found = {name: values.get(get_pattern_key(values, name)) for name in names}
    assert {name: keyed.get(get_pattern_key(keyed, name)) for name in names} == found
    assert len(set(found.values())) > 2


def test_lora_starts_from_the_base_model(base):
    plain = logits(base())
    assert torch.equal(logits(LoRA().apply(base())), plain)


@pytest.mark.parametrize(("init", "is_base"), [("zero", True), ("normal", False)])
def test_fourier_entries_start_from_zero_or_a_normal_distribution(base, init, is_base):
    adapted = FourierFT(n_frequency=20, init=init).apply(base())
    assert torch.equal(logits(adapted), logits(base())) == is_base
    assert not torch.allclose(logits(train(adapted)), logits(base()))


def test_lora_draws_only_from_the_callers_random_state(base):
    def weights(seed):
        torch.manual_seed(seed)
        return [
            parameter.detach().clone()
            for parameter in LoRA().apply(base()).model.parameters()
            if parameter.requires_grad
        ]

    first, same, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(("use_rslora", "scale"), [(False, 8 / 4), (True, 8 / 4**0.5)])
def test_lora_adds_the_scaled_product_and_nothing_else(base, use_rslora, scale):
    lora = LoRA(r=4, alpha=8.0, use_rslora=use_rslora, target_modules=["q_proj"])
    plain = base().model.model.layers[0].self_attn.q_proj.weight
    model = train(lora.apply(base()))
    layer = model.model.base_model.model.model.layers[0].self_attn.q_proj
    product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    merged = lora.merge(model).model.model.layers[0].self_attn.q_proj.weight
    torch.testing.assert_close(merged, plain + scale * product)


def test_training_moves_the_adapter_and_leaves_the_model(base):
    model = train(LoRA().apply(base()))
    frozen = dict(base().model.named_parameters())
    for name, parameter in model.model.named_parameters():
        if not parameter.requires_grad:
            plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
            assert torch.equal(parameter, frozen[plain]), name


@pytest.mark.parametrize("tokens", [[], ["<new>"]])
def test_adapter_is_float32_beside_a_bfloat16_model(base, tokens, tmp_path):
    tokenizer = Tokenizer(extra_tokens=tokens)
    lora = LoRA(r=2, bias="none")
    model = lora.apply(base(dtype="bfloat16", tokenizer=tokenizer))
    assert {p.dtype for p in model.model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in model.model.parameters() if not p.requires_grad} == {torch.bfloat16}
    train(model)
    lora.save(model, tmp_path / "saved")
    again = lora.load(base(dtype="bfloat16", tokenizer=tokenizer), tmp_path / "saved")
    assert torch.equal(logits(again), logits(model))


# ---- LoRA: kept, loaded, merged


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("tokens", [[], ["<a>", "<b>"]], ids=["plain", "new tokens"])
def test_adapter_and_merged_model_generate_as_the_trained_one(base, tmp_path, tied, tokens):
    tokenizer, lora = Tokenizer(extra_tokens=tokens), LoRA(r=4, dropout=0.1)
    torch.manual_seed(0)
    model = train(lora.apply(base(tied, tokenizer)), (9, 8, 7, 258, 3, 258 + len(tokens)))
    lora.save(model, tmp_path / "saved")
    again = lora.load(base(tied, tokenizer), tmp_path / "saved")
    assert torch.equal(logits(again), logits(model))
    expected = answers(model)
    assert answers(again) == expected
    assert expected != answers(base(tied, tokenizer))
    merged = lora.merge(again)
    assert type(merged.model) is type(base(tied, tokenizer).model)
    torch.testing.assert_close(logits(merged), logits(model), atol=1e-4, rtol=1e-4)
    assert answers(merged) == expected
    same = merged.model.get_output_embeddings().weight is merged.model.get_input_embeddings().weight
    assert same is tied


def test_folder_holds_only_the_adapter(base, tmp_path):
    from safetensors import safe_open

    lora = LoRA(r=2)
    lora.save(lora.apply(base()), tmp_path / "saved")
    with safe_open(tmp_path / "saved" / "adapter_model.safetensors", "pt") as file:
        assert all("lora_" in name for name in file.keys())  # noqa: SIM118
    assert not list((tmp_path / "saved").glob("model*"))
    assert json.loads((tmp_path / "saved" / "adapter_config.json").read_text())["r"] == 2


@pytest.mark.parametrize("tied", [True, False])
def test_rows_of_new_tokens_train_and_no_others(base, tied):
    tokenizer, lora = Tokenizer(extra_tokens=["<a>"]), LoRA(r=2)
    plain = base(tied, tokenizer)
    merged = lora.merge(train(lora.apply(base(tied, tokenizer)), (5, 259, 6, 259)))
    for get in ("get_input_embeddings", "get_output_embeddings"):
        before, after = getattr(plain.model, get)().weight, getattr(merged.model, get)().weight
        assert torch.equal(before[:259], after[:259])
        assert not torch.equal(before[259], after[259])


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_biases_that_train_are_kept_with_the_adapter(base, tmp_path, bias):
    lora = LoRA(r=2, bias=bias, target_modules=["q_proj"])
    model = train(lora.apply(base(attention_bias=True)))
    assert any(name.endswith("bias") for name in trainable_parameters(model.model))
    lora.save(model, tmp_path / "saved")
    again = lora.load(base(attention_bias=True), tmp_path / "saved")
    assert torch.equal(logits(again), logits(model))


def test_folder_without_an_adapter_and_the_adapter_of_another_model_are_errors(base, tmp_path):
    lora = LoRA(r=2)
    with pytest.raises(InstructLabError, match="no adapter"):
        lora.load(base(), tmp_path)
    lora.save(lora.apply(base()), tmp_path / "saved")
    with pytest.raises(InstructLabError, match="adapter"):
        lora.load(base(num_hidden_layers=1), tmp_path / "saved")
    with pytest.raises(InstructLabError, match="adapter"):
        lora.load(base(hidden_size=16), tmp_path / "saved")
    weights = tmp_path / "saved" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(InstructLabError, match="adapter"):
        lora.load(base(), tmp_path / "saved")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("settings", [{}, {"use_dora": True}])
def test_merging_leaves_the_frozen_weights(base, settings, dtype):
    lora = LoRA(r=4, **settings)
    model = train(lora.apply(base(dtype=dtype)))
    frozen = {name: value.data for name, value in model.model.named_parameters() if "lora" not in name}
    before = {name: value.clone() for name, value in frozen.items()}
    merged = lora.merge(model).model
    assert [name for name, value in before.items() if not value.equal(frozen[name])] == []
    original = base(dtype=dtype).model
    assert not merged.model.layers[0].mlp.up_proj.weight.equal(original.model.layers[0].mlp.up_proj.weight)


def test_adapter_with_numbers_that_are_not_finite_is_not_merged(base):
    lora = LoRA(r=2)
    model = lora.apply(base())
    with torch.no_grad():
        next(p for n, p in model.model.named_parameters() if "lora_B" in n).fill_(float("nan"))
    with pytest.raises(InstructLabError, match="cannot be merged"):
        lora.merge(model)

"""Rotary positions that are stretched: the positions that a model gets, and where there are none."""

import pydantic
import pytest
import torch

from instruct_lab.errors import InstructLabError
from instruct_lab.model import Decoder, Encoder, LocalFolder, Random, RopeScaling

LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16,
    "initializer_range": 0.3,
}


def loaded(cache, scaling=None, architecture="llama", kind=Decoder, **settings):
    base = LLAMA if architecture == "llama" else {}
    made = kind(weights=Random(architecture=architecture, settings={**base, **settings}), rope_scaling=scaling)
    return made.load(made.load_tokenizer(cache), cache).model


def logits(model, length, every=1):
    ids = torch.arange(length)[None] % 50
    with torch.no_grad():
        return model(input_ids=ids, position_ids=torch.arange(length)[None] * every).logits


def test_linear_puts_positions_closer_together_by_the_factor(tmp_path):
    scaled, plain = loaded(tmp_path, RopeScaling(factor=4.0)), loaded(tmp_path)
    torch.testing.assert_close(logits(scaled, 10, every=4), logits(plain, 10), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits(scaled, 10), logits(plain, 10), atol=1e-3)
    assert scaled.config.max_position_embeddings == 64


def test_dynamic_changes_nothing_up_to_the_length_of_pretraining(tmp_path):
    scaled, plain = loaded(tmp_path, RopeScaling(type="dynamic", factor=2.0)), loaded(tmp_path)
    assert torch.equal(logits(scaled, 16), logits(plain, 16))
    assert not torch.allclose(logits(scaled, 30), logits(plain, 30), atol=1e-3)


def test_yarn_leaves_high_frequencies_and_stretches_low_ones(tmp_path):
    settings = {"max_position_embeddings": 64}
    scaled = loaded(tmp_path, RopeScaling(type="yarn", factor=8.0), **settings).model.rotary_emb.inv_freq
    plain = loaded(tmp_path, **settings).model.rotary_emb.inv_freq
    ratio = (plain / scaled).tolist()
    assert ratio[0] == pytest.approx(1)
    assert ratio[-1] == pytest.approx(8)
    assert ratio == sorted(ratio)


def test_the_length_of_pretraining_can_be_named(tmp_path):
    model = loaded(tmp_path, RopeScaling(type="yarn", factor=2.0, original_max_position_embeddings=8))
    assert model.config.max_position_embeddings == 16
    assert model.config.rope_parameters["original_max_position_embeddings"] == 8


def test_where_layers_look_at_windows_only_those_that_see_all_are_stretched(tmp_path):
    settings = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = loaded(tmp_path, RopeScaling(factor=2.0), "modernbert", Encoder, **settings)
    rope = model.config.rope_parameters
    assert rope["full_attention"]["rope_type"] == "linear"
    assert rope["sliding_attention"]["rope_type"] == "default"


@pytest.mark.parametrize("kind", ["linear", "dynamic", "yarn"])
def test_a_saved_model_keeps_its_scaling_and_is_not_scaled_twice(kind, tmp_path):
    scaling = RopeScaling(type=kind, factor=2.0)
    model = loaded(tmp_path, scaling)
    model.save_pretrained(tmp_path / "saved")
    tokenizer = Decoder(weights=Random()).load_tokenizer(tmp_path)
    tokenizer.save_pretrained(tmp_path / "saved")
    for again in (None, scaling):
        made = Decoder(weights=LocalFolder(path=str(tmp_path / "saved")), rope_scaling=again)
        assert torch.equal(logits(made.load(tokenizer, tmp_path).model, 30), logits(model, 30))
    other = Decoder(weights=LocalFolder(path=str(tmp_path / "saved")), rope_scaling=RopeScaling(type=kind, factor=3.0))
    with pytest.raises(InstructLabError, match="already scaled"):
        other.load(tokenizer, tmp_path)


@pytest.mark.parametrize(
    ("architecture", "kind", "settings", "said"),
    [
        ("gpt2", Decoder, {"n_embd": 16, "n_layer": 1, "n_head": 2}, "no rotary positions"),
        ("bert", Encoder, {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}, "no rotary positions"),
        ("phi3", Decoder, {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}, "refuse this scaling"),
    ],
)
def test_models_that_cannot_be_scaled_are_refused(architecture, kind, settings, said, tmp_path):
    with pytest.raises(InstructLabError, match=said):
        loaded(tmp_path, RopeScaling(factor=2.0), architecture, kind, **settings)


@pytest.mark.parametrize("fields", [{"factor": 1.0}, {}, {"type": "longrope", "factor": 2.0}])
def test_settings_that_scale_nothing_are_refused(fields):
    with pytest.raises(pydantic.ValidationError):
        RopeScaling(**fields)

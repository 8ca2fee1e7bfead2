"""Frozen weights in 8 and 4 bits: what is quantised, what is not, and that adapters learn as without."""

import pydantic
import pytest
import torch

from instruct_lab.errors import InstructLabError
from instruct_lab.model import Decoder, Encoder, EncoderDecoder, Quantization, Random

pytestmark = pytest.mark.filterwarnings("ignore")
SIZE = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES = {"llama": SIZE, "bert": SIZE, "t5": {"d_model": 64, "d_kv": 32, "d_ff": 128, "num_layers": 2, "num_heads": 2}}
CLASSES = {"llama": Decoder, "bert": Encoder, "t5": EncoderDecoder}
IDS = torch.tensor([[5, 6, 7, 8, 9], [40, 41, 42, 43, 44]])
MASK = torch.ones_like(IDS)


def loaded(*arguments, **fields):
    return loaded_with_facts(*arguments, **fields).model


def loaded_with_facts(architecture, cache, quantization=None, head="language", **fields):
    weights = Random(architecture=architecture, settings=SIZES[architecture])
    made = CLASSES[architecture](weights=weights, quantization=quantization, **fields)
    return made.load(made.load_tokenizer(cache), cache, head)


def layers(model):
    import bitsandbytes as bnb

    return {n: m for n, m in model.named_modules() if isinstance(m, bnb.nn.Linear4bit | bnb.nn.Linear8bitLt)}


def as_read(model):
    """Float weights of the quantised layers."""
    from bitsandbytes import functional

    found = {}
    for name, layer in layers(model).items():
        weight = layer.weight
        if weight.dtype == torch.int8:
            found[name] = weight.data.float() * weight.SCB[:, None] / 127
        else:
            found[name] = functional.dequantize_4bit(weight.data, weight.quant_state).float()
    return found


@pytest.mark.parametrize("architecture", CLASSES)
@pytest.mark.parametrize(("quantization", "error"), [("8bit", 0.01), ("4bit", 0.12)])
def test_the_body_is_quantised_close_to_the_plain_weights(architecture, quantization, error, tmp_path):
    model, plain = loaded(architecture, tmp_path, quantization), loaded(architecture, tmp_path)
    read = as_read(model)
    output = [n for n, m in model.named_modules() if m is model.get_output_embeddings()]
    assert read
    assert not set(output) & set(read)
    for name, weight in read.items():
        expected = plain.get_submodule(name).weight
        assert (weight - expected).norm() / expected.norm() < error
    assert torch.equal(model.get_input_embeddings().weight, plain.get_input_embeddings().weight)


@pytest.mark.parametrize(("architecture", "new"), [("llama", ("score",)), ("bert", ("classifier", "pooler"))])
@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_what_is_new_is_not_quantised(architecture, new, quantization, tmp_path):
    found = loaded_with_facts(architecture, tmp_path, quantization, "score")
    assert found.new_modules == new
    for name, parameter in found.model.named_parameters():
        if any(f".{module}." in f".{name}" for module in new):
            assert parameter.is_floating_point(), name


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_adapters_get_the_gradients_of_the_weights_as_read_after_an_evaluation_too(quantization, tmp_path):
    import peft

    gradients = []
    model, plain = loaded("llama", tmp_path, quantization), loaded("llama", tmp_path)
    for name, weight in as_read(model).items():
        plain.get_submodule(name).weight.data = weight
    for one in (model, plain):
        torch.manual_seed(0)
        adapted = peft.get_peft_model(one, peft.LoraConfig(target_modules="all-linear", init_lora_weights=False))
        with torch.no_grad():
            adapted.eval()(input_ids=IDS)
        adapted.train()(input_ids=IDS).logits.square().mean().backward()
        gradients.append({n: p.grad for n, p in adapted.named_parameters() if p.requires_grad})
    for name, expected in gradients[1].items():
        found = gradients[0][name]
        assert found is not None, name
        assert (found - expected).norm() / expected.norm() < (1e-5 if quantization == "4bit" else 0.03)


@pytest.mark.slow
def test_every_setting_of_4_bits_has_its_effect(tmp_path):
    def weights(**settings):
        return as_read(loaded("llama", tmp_path, Quantization(**settings)))["model.layers.0.mlp.up_proj"]

    plain = weights()
    assert torch.equal(plain, as_read(loaded("llama", tmp_path, "4bit"))["model.layers.0.mlp.up_proj"])
    assert not torch.equal(plain, weights(levels="fp4"))
    assert not torch.equal(plain, weights(double=False))
    for dtype, wanted in ((None, torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        model = loaded("llama", tmp_path, Quantization(compute_dtype=dtype))
        assert {layer.compute_dtype for layer in layers(model).values()} == {wanted}
    kept = loaded("llama", tmp_path, Quantization(), dtype="bfloat16")
    assert {layer.compute_dtype for layer in layers(kept).values()} == {torch.bfloat16}


def test_layers_that_would_be_read_incorrectly_on_a_cpu_are_refused(tmp_path):
    settings = {**SIZE, "intermediate_size": 96}
    for quantization in ("8bit", "4bit"):
        made = Decoder(weights=Random(settings=settings), quantization=quantization)
        if quantization == "8bit" or torch.cuda.is_available():
            made.load(made.load_tokenizer(tmp_path), tmp_path)
        else:
            with pytest.raises(InstructLabError, match=r"not a multiple of 64 .*down_proj: 96"):
                made.load(made.load_tokenizer(tmp_path), tmp_path)


def test_a_model_says_that_its_weights_are_quantised():
    weights = Random()
    assert Decoder(weights=weights, quantization="4bit").is_quantized
    assert not Decoder(weights=weights).is_quantized


@pytest.mark.parametrize("fields", [{"bits": 8, "double": False}, {"bits": 8, "levels": "fp4"}, {"bits": 2}])
def test_settings_that_contradict_themselves_are_refused(fields):
    with pytest.raises(pydantic.ValidationError):
        Quantization(**fields)

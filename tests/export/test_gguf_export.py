"""A GGUF file holds the weights and the tokens of the model from which it was written."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chat_tokenizers import FAMILIES, TEXTS, byte_level, byte_level_of, unigram
from tokenizers import normalizers, pre_tokenizers

from instruct_lab.errors import InstructLabError
from instruct_lab.export.formats import WEIGHT_TYPES
from instruct_lab.export.gguf.architecture import check_config
from instruct_lab.export.gguf.vocabulary import NAMES, find_pre_tokenizer
from instruct_lab.export.gguf.writer import write_gguf
from instruct_lab.model import GGUF, LoadedModel
from instruct_lab.model.byte_tokenizer import byte_tokenizer
from instruct_lab.model.weights.gguf import read_model
from instruct_lab.model.weights.gguf_tokenizer import pre_tokenizer_named, read_tokenizer

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 2e-5,
}


def build(kind="llama", tokenizer=None, **settings):
    """A small model of an architecture with all its tensors drawn at random, biases and norms too."""
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = tokenizer or byte_level("chatml")
    own = {} if kind == "mistral" or kind == "llama" else {"head_dim": 16}
    config = AutoConfig.for_model(kind, **{**SIZES, "vocab_size": len(tokenizer) + 3, **own, **settings})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.05 + (parameter.dim() == 1))
    return LoadedModel(model=model, tokenizer=tokenizer, family="decoder")


def logits(model, length=40):
    ids = torch.arange(5, 5 + length)[None]
    with torch.inference_mode():
        return model(input_ids=ids).logits


ARCHITECTURES = [
    ("llama", {}),
    ("llama", {"tie_word_embeddings": True, "head_dim": 8}),
    ("llama", {"rope_theta": 500.0, "num_key_value_heads": 4}),
    ("mistral", {"sliding_window": None, "num_key_value_heads": 1}),
    ("qwen2", {"tie_word_embeddings": True}),
    ("qwen2", {"num_key_value_heads": 4}),
    ("qwen3", {"head_dim": 128, "tie_word_embeddings": False}),  # transformers reads no other size for Qwen3
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "settings"), ARCHITECTURES)
def test_a_float32_file_is_read_as_the_same_model_bit_for_bit(tmp_path, kind, settings):
    loaded, file = build(kind, **settings), tmp_path / "model.gguf"
    write_gguf(loaded, file, "f32", "a model", [2])
    read = read_model(file, "model")
    expected = loaded.model.state_dict()
    state = read.state_dict()
    assert set(state) == set(expected)
    assert [name for name in expected if not torch.equal(state[name], expected[name])] == []
    assert torch.equal(logits(read), logits(loaded.model))


def test_biases_of_queries_and_keys_are_ordered_like_their_weights(tmp_path):
    """transformers reads no biases of this architecture from a file, so the order is undone here."""
    import gguf

    loaded, file = build(attention_bias=True), tmp_path / "model.gguf"
    write_gguf(loaded, file, "f32", "a model", [2])
    tensors = {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(file).tensors}
    state = loaded.model.state_dict()
    for name, heads, ours in (("q", 4, "q_proj"), ("k", 2, "k_proj")):
        for kind in ("weight", "bias"):
            value = tensors[f"blk.1.attn_{name}.{kind}"]
            halves = value.reshape(heads, -1, 2, *value.shape[1:])  # [heads, size / 2, half, ...]
            undone = np.concatenate([halves[:, :, 0], halves[:, :, 1]], axis=1).reshape(value.shape)
            assert np.array_equal(undone, state[f"model.layers.1.self_attn.{ours}.{kind}"].numpy())
    for name in ("v", "output"):
        expected = state[f"model.layers.0.self_attn.{'v' if name == 'v' else 'o'}_proj.bias"].numpy()
        assert np.array_equal(tensors[f"blk.0.attn_{name}.bias"], expected)


@pytest.mark.slow
@pytest.mark.parametrize("weight_type", WEIGHT_TYPES)
@pytest.mark.parametrize("width", [64, 48])
def test_each_type_of_weights_is_read_within_its_precision(tmp_path, weight_type, width):
    """The expected error of a type with b bits in blocks of 32 is about the largest value of a block / 2^b."""
    loaded, file = build(hidden_size=width, num_attention_heads=2), tmp_path / "model.gguf"
    write_gguf(loaded, file, weight_type, "a model", [2])
    bits = {"f32": 24, "f16": 11, "bf16": 8, "q8_0": 7, "q5_1": 5, "q5_0": 4, "q4_1": 4, "q4_0": 3}[weight_type]
    read = read_model(file, "model").state_dict()
    errors = {}
    for name, value in loaded.model.state_dict().items():
        error = (read[name] - value).abs().max() / value.abs().max()
        errors[name] = float(error)
        is_vector = value.dim() < 2
        is_whole = width % 32 and not name.endswith("down_proj.weight")
        kept = 24 if is_vector else bits
        if not is_vector and weight_type.startswith("q") and is_whole:
            kept = 11  # blocks of 32 do not fit, so f16 is written
        elif not is_vector and weight_type[:2] in ("q4", "q5") and ("embed" in name or "lm_head" in name):
            kept = 7
        assert error <= 2.0**-kept, name
    if weight_type != "f32":
        assert max(errors.values()) > 2.0**-20
    if weight_type in ("q4_0", "q4_1") and width == 64:
        assert errors["model.layers.0.mlp.gate_proj.weight"] > 2.0**-7


def test_scaled_positions_of_llama3_divide_the_frequencies_as_transformers_does(tmp_path):
    import gguf
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    loaded, file = build(rope_parameters=rope, hidden_size=128), tmp_path / "model.gguf"
    write_gguf(loaded, file, "f16", "a model", [2])
    tensors = {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(file).tensors}
    expected, _ = ROPE_INIT_FUNCTIONS["llama3"](loaded.model.config, torch.device("cpu"))
    size = 32
    plain = 1.0 / (10000.0 ** (np.arange(0, size, 2) / size))
    factors = tensors["rope_freqs.weight"]
    np.testing.assert_allclose(plain / factors, expected.numpy(), rtol=1e-5)
    assert factors.max() == 8
    assert factors.min() == 1


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "positions.*linear"),
        (
            "qwen2",
            {
                "rope_parameters": {
                    "rope_type": "llama3",
                    "rope_theta": 1e4,
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 64,
                }
            },
            "positions.*rope_freqs",
        ),
        ("llama", {"attention_bias": True}, r"biases \(blk\.0\.attn_k"),
        ("llama", {"mlp_bias": True}, r"biases \(blk\.0\.ffn_down"),
        ("qwen3", {"head_dim": 128, "attention_bias": True}, r"biases \(blk\.0\.attn_k"),
    ],
)
def test_a_file_with_parts_that_transformers_leaves_out_is_refused(tmp_path, kind, settings, expected):
    """Read by transformers, each of these files is another model, without a word."""
    file = tmp_path / "model.gguf"
    write_gguf(build(kind, **settings), file, "f32", "a model", [2])
    with pytest.raises(InstructLabError, match=expected):
        read_model(file, "a model")
    (problem,) = GGUF(path=str(file)).problems()
    assert "model=path:DIR" in problem.reason


def test_the_metadata_are_those_of_the_config(tmp_path):
    import gguf

    rope = {"rope_type": "linear", "factor": 4.0, "rope_theta": 321.0}
    loaded, file = build(rope_parameters=rope), tmp_path / "model.gguf"
    write_gguf(loaded, file, "q8_0", "my model", [2, 0])
    fields = {name: field.contents() for name, field in gguf.GGUFReader(file).fields.items()}
    expected = {
        "general.architecture": "llama",
        "general.name": "my model",
        "general.file_type": 7,
        "llama.block_count": 2,
        "llama.context_length": 128,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 96,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.rope.freq_base": 321.0,
        "llama.rope.scaling.type": "linear",
        "llama.rope.scaling.factor": 4.0,
        "llama.rope.dimension_count": 16,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.eot_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": loaded.tokenizer.chat_template,
    }
    assert {name: fields[name] for name in expected} == expected
    assert fields["tokenizer.ggml.tokens"][-3:] == [f"[PAD{len(loaded.tokenizer) + i}]" for i in range(3)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"hidden_act": "gelu"}, "gelu"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}}, "yarn"),
        ({"kind": "mistral", "sliding_window": 64}, "window of 64"),
        ({"kind": "gpt2"}, "gpt2"),
        ({"kind": "gemma2"}, "gemma2"),
    ],
)
def test_what_llama_cpp_would_compute_differently_is_refused(settings, expected):
    from transformers import AutoConfig

    settings = dict(settings)
    config = AutoConfig.for_model(settings.pop("kind", "llama"), **settings)
    with pytest.raises(InstructLabError, match=expected) as caught:
        check_config(config)
    assert "convert_hf_to_gguf.py" in str(caught.value)


def test_values_that_float16_cannot_hold_are_refused(tmp_path):
    loaded = build()
    with torch.no_grad():
        loaded.model.model.layers[1].mlp.up_proj.weight[3, 4] = 7e4
    with pytest.raises(InstructLabError, match=r"blk\.1\.ffn_up\.weight"):
        write_gguf(loaded, tmp_path / "model.gguf", "f16", "a model", [2])
    write_gguf(loaded, tmp_path / "wide.gguf", "bf16", "a model", [2])


# ---- the vocabulary


@pytest.mark.parametrize("name", NAMES)
def test_each_pre_tokenizer_is_found_by_its_splits(name):
    tokenizer = byte_level_of(FAMILIES["chatml"])
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizer_named(name)
    assert find_pre_tokenizer(tokenizer) == name


@pytest.fixture(scope="module")
def read_again(tmp_path_factory):
    """Pairs of a tokenizer and the tokenizer that is read from its file."""
    pairs = []
    for name in ("chatml", "llama3"):
        tokenizer, file = byte_level(name), tmp_path_factory.mktemp("vocabulary") / "model.gguf"
        write_gguf(build(tokenizer=tokenizer), file, "f16", "a model", [tokenizer.eos_token_id])
        pairs.append((tokenizer, read_tokenizer(file, "model")))
    return pairs


@settings(max_examples=100)
@given(text=st.text(max_size=40))
def test_any_text_is_encoded_alike_after_reading(read_again, text):
    for tokenizer, read in read_again:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert read(text, add_special_tokens=False)["input_ids"] == ids
        assert read.decode(ids) == tokenizer.decode(ids)


def test_special_tokens_and_the_chat_template_are_read_again(tmp_path):
    tokenizer = byte_level_of(FAMILIES["chatml"])
    tokenizer.add_tokens(["<think>"])
    tokenizer.add_tokens(["<|tool|>"], special_tokens=True)
    write_gguf(build(tokenizer=tokenizer), tmp_path / "m.gguf", "f16", "m", [tokenizer.eos_token_id])
    read = read_tokenizer(tmp_path / "m.gguf", "m")
    chat = [{"role": "user", "content": "<think> x <|tool|>"}]
    rendered = [one.apply_chat_template(chat, add_generation_prompt=True)["input_ids"] for one in (tokenizer, read)]
    assert rendered[0] == rendered[1]
    ids = tokenizer.convert_tokens_to_ids(["<think>", "<|tool|>"])
    assert read.decode(ids, skip_special_tokens=True) == "<think>"
    assert read.eos_token == tokenizer.eos_token


def with_pre_tokenizer(pre_tokenizer):
    tokenizer = byte_level_of(FAMILIES["chatml"])
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizer
    return tokenizer


def lower_case():
    tokenizer = byte_level_of(FAMILIES["chatml"])
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (byte_tokenizer, "no merges"),
        (lambda: unigram("always"), "not byte-level BPE"),
        (lower_case, "Lowercase"),
        (lambda: with_pre_tokenizer(pre_tokenizers.ByteLevel(add_prefix_space=True)), "like none of"),
        (
            lambda: with_pre_tokenizer(
                pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False)])
            ),
            "like none of",
        ),
    ],
    ids=["bytes", "unigram", "lower-case", "prefix-space", "numbers-apart"],
)
def test_a_tokenizer_that_the_file_cannot_hold_is_refused(tmp_path, make, expected):
    with pytest.raises(InstructLabError, match=expected):
        write_gguf(build(tokenizer=make()), tmp_path / "m.gguf", "f16", "m", [2])


def test_the_texts_of_the_tests_are_split_differently_by_the_pre_tokenizers():
    """Otherwise the tests above could not fail."""
    splits = {name: str([pre_tokenizer_named(name).pre_tokenize_str(text) for text in TEXTS]) for name in NAMES}
    assert len(set(splits.values())) >= len(NAMES) - 1

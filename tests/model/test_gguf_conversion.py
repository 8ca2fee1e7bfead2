"""A GGUF file becomes a plain folder once, whole or not at all, with the same weights and tokens."""

import errno
import json
import logging
import shutil
import struct
import tracemalloc

import numpy as np
import pytest
import torch

from instruct_lab import memory
from instruct_lab.errors import InstructLabError
from instruct_lab.model import GGUF, Decoder
from instruct_lab.model.weights import gguf
from instruct_lab.model.weights.gguf_header import read_header


def loaded(file, cache):
    made = Decoder(weights=GGUF(path=str(file)))
    tokenizer = made.load_tokenizer(cache)
    return tokenizer, made.load(tokenizer, cache).model


def rotary_order(value, heads):
    """GGUF interleaves the halves of every head's rotary dimensions; Hugging Face keeps them apart."""
    return value.reshape(heads, value.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(value.shape)


def test_weights_are_the_dequantised_ones_bit_for_bit(write_gguf, tmp_path):
    file, kept = write_gguf()
    _, model = loaded(file, tmp_path / "cache")
    state = model.state_dict()
    expected = {"model.embed_tokens.weight": kept["token_embd.weight"], "model.norm.weight": kept["output_norm.weight"]}
    expected |= {
        "model.layers.1.self_attn.q_proj.weight": rotary_order(kept["blk.1.attn_q.weight"], 4),
        "model.layers.1.self_attn.k_proj.weight": rotary_order(kept["blk.1.attn_k.weight"], 2),
        "model.layers.0.self_attn.v_proj.weight": kept["blk.0.attn_v.weight"],
        "model.layers.0.self_attn.o_proj.weight": kept["blk.0.attn_output.weight"],
        "model.layers.1.mlp.down_proj.weight": kept["blk.1.ffn_down.weight"],
        "model.layers.1.mlp.gate_proj.weight": kept["blk.1.ffn_gate.weight"],
        "model.layers.0.input_layernorm.weight": kept["blk.0.attn_norm.weight"],
    }
    for name, value in expected.items():
        assert np.array_equal(state[name].numpy(), value), name
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_second_load_reads_the_folder_and_gives_the_same(write_gguf, tmp_path, monkeypatch):
    file, _ = write_gguf()
    tokenizer, model = loaded(file, tmp_path)
    monkeypatch.setattr(gguf, "read_model", lambda *_: pytest.fail("converted again"))
    monkeypatch.setattr(gguf, "read_tokenizer", lambda *_: pytest.fail("converted again"))
    again, same = loaded(file, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert again.chat_template == tokenizer.chat_template
    assert (again.eos_token_id, again.pad_token_id, again.bos_token_id) == (2, 2, 1)


def test_model_is_plain_and_can_be_saved(write_gguf, tmp_path):
    from transformers import AutoModelForCausalLM

    file, _ = write_gguf()
    _, model = loaded(file, tmp_path)
    assert not hasattr(model.config, "quantization_config")
    model.save_pretrained(tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert torch.equal(again.model.layers[0].mlp.up_proj.weight, model.model.layers[0].mlp.up_proj.weight)


@pytest.mark.parametrize(("pre", "tokens"), [("smollm", ["1", "2", "ab"]), ("gpt-2", ["12", "ab"])])
def test_digits_are_split_where_the_file_says_so(write_gguf, tmp_path, pre, tokens):
    file, _ = write_gguf(pre)
    made = Decoder(weights=GGUF(path=str(file)))
    for _ in range(2):  # converted, then from the cache
        assert made.load_tokenizer(tmp_path).tokenize("12ab") == tokens


def test_unknown_pre_tokenizer_is_reported(write_gguf, tmp_path, caplog):
    file, _ = write_gguf("somebodys-own")
    with caplog.at_level(logging.WARNING):
        Decoder(weights=GGUF(path=str(file))).load_tokenizer(tmp_path)
    assert "somebodys-own" in caplog.text


def test_half_written_folder_is_made_again(write_gguf, tmp_path):
    file, _ = write_gguf()
    _, model = loaded(file, tmp_path)
    (weights,) = tmp_path.rglob("model.safetensors")
    whole = weights.read_bytes()
    weights.unlink()  # the loaded model still reads from the old one
    weights.write_bytes(whole[: len(whole) // 2])
    _, again = loaded(file, tmp_path)
    assert weights.read_bytes() == whole
    assert torch.equal(again.model.norm.weight, model.model.norm.weight)


def test_folder_without_its_marker_is_made_again(write_gguf, tmp_path, monkeypatch):
    file, _ = write_gguf()
    loaded(file, tmp_path)
    (marker,) = [path for path in tmp_path.rglob("complete.json") if path.parent.name == "weights"]
    assert set(json.loads(marker.read_text())["bytes"]) >= {"model.safetensors", "config.json"}
    marker.unlink()
    calls = []
    read = gguf.read_model
    monkeypatch.setattr(gguf, "read_model", lambda *a: (calls.append(1), read(*a))[1])
    loaded(file, tmp_path)
    assert calls == [1]
    assert marker.is_file()


def test_full_disk_loads_without_the_cache_and_keeps_nothing_half_written(write_gguf, tmp_path, monkeypatch, caplog):
    from transformers import PreTrainedModel

    file, kept = write_gguf()

    def full(self, path, **_):
        (path / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    with caplog.at_level(logging.WARNING):
        _, model = loaded(file, tmp_path / "cache")
    assert "No space left" in caplog.text
    assert np.array_equal(model.model.embed_tokens.weight.detach().numpy(), kept["token_embd.weight"])
    assert not list((tmp_path / "cache").rglob("model.safetensors"))


def test_a_warning_is_logged_if_the_cache_cannot_be_made_and_the_model_loads(write_gguf, tmp_path, caplog):
    file, _ = write_gguf()
    (tmp_path / "cache").write_text("a file where a folder should be")
    with caplog.at_level(logging.WARNING):
        _, model = loaded(file, tmp_path / "cache")
    assert "cannot be kept" in caplog.text
    assert model.config.num_hidden_layers == 2


def test_damaged_file_is_an_error_and_leaves_no_folder(write_gguf, tmp_path):
    file, _ = write_gguf()
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(InstructLabError, match="cannot be read as a GGUF model"):
        loaded(file, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("model.safetensors"))


def test_cache_is_keyed_by_content_not_by_name(write_gguf, tmp_path):
    file, _ = write_gguf("smollm")
    other, _ = write_gguf("gpt-2")
    cache = tmp_path / "cache"
    Decoder(weights=GGUF(path=str(file))).load_tokenizer(cache)
    shutil.copy(other, file)
    assert Decoder(weights=GGUF(path=str(file))).load_tokenizer(cache).tokenize("12") == ["12"]


def test_loading_moves_no_random_state(write_gguf, tmp_path):
    file, _ = write_gguf()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    loaded(file, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_type_in_memory_is_the_one_asked_for(write_gguf, tmp_path, dtype):
    file, kept = write_gguf()
    made = Decoder(weights=GGUF(path=str(file)), dtype=dtype)
    model = made.load(made.load_tokenizer(tmp_path), tmp_path).model
    expected = torch.from_numpy(kept["blk.0.ffn_up.weight"]).to(getattr(torch, dtype))
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, expected)


def test_inputs_name_the_file_by_its_content(write_gguf, tmp_path):
    import hashlib

    file, _ = write_gguf()
    (found,) = Decoder(weights=GGUF(path=str(file))).inputs(tmp_path)
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found.bytes == file.stat().st_size


# ---- headers of strangers


def written_header(file, *, tensors=(), entries=b"", num_entries=0, num_tensors=None):
    """Write a GGUF file that has only a header, with the shapes of some tensors."""
    text = b"GGUF" + struct.pack("<IQQ", 3, len(tensors) if num_tensors is None else num_tensors, num_entries) + entries
    for index, shape in enumerate(tensors):
        name = f"t{index}.weight".encode()
        text += struct.pack(f"<Q{len(name)}sI{len(shape)}QIQ", len(name), name, len(shape), *shape, 0, 0)
    file.write_bytes(text)
    return file


KEY = struct.pack("<Q1s", 1, b"k")
ARRAY_OF_ARRAYS = KEY + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 9, 1) * 100_000
CLAIMS = {
    "a text of 2^62 bytes": {"num_entries": 1, "entries": struct.pack("<Q", 2**62)},
    "arrays nested 100,000 deep": {"num_entries": 1, "entries": ARRAY_OF_ARRAYS},
    "an array of 2^63 numbers": {"num_entries": 1, "entries": KEY + struct.pack("<IIQ", 9, 10, 2**63)},
    "an array of 2^63 texts": {"num_entries": 1, "entries": KEY + struct.pack("<IIQ", 9, 8, 2**63)},
    "2^63 entries": {"num_entries": 2**63},
    "2^63 tensors": {"num_tensors": 2**63},
    "4 billion dimensions": {"num_tensors": 1, "entries": struct.pack("<Q1sI", 1, b"t", 2**32 - 1)},
    "an unknown type": {"num_entries": 1, "entries": KEY + struct.pack("<I", 77)},
}


@pytest.mark.parametrize("claims", CLAIMS.values(), ids=CLAIMS)
def test_a_header_that_claims_more_than_the_file_holds_is_not_read(tmp_path, claims):
    file = written_header(tmp_path / "m.gguf", **claims)
    tracemalloc.start()
    assert read_header(file) is None
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    with pytest.raises(InstructLabError, match="cannot be read as a GGUF model"):
        loaded(file, tmp_path / "cache")


def test_the_numbers_of_the_header_are_those_of_the_file(write_gguf):
    file, kept = write_gguf()
    assert read_header(file).tensors == {name: value.size for name, value in kept.items()}


@pytest.mark.parametrize("shapes", [[(2**40,)], [(2**20, 2**20)], [(2**31,)] * 600])
def test_a_file_whose_tensors_do_not_fit_is_refused_by_check(tmp_path, shapes):
    file = written_header(tmp_path / "m.gguf", tensors=shapes)
    (found,) = Decoder(weights=GGUF(path=str(file))).problems()
    assert found.key == "weights"
    assert "GiB are free" in found.reason


@pytest.mark.parametrize(
    ("key", "value"), [("block_count", 10**9), ("feed_forward_length", 2**31), ("embedding_length", 2**31)]
)
def test_a_file_whose_metadata_claim_a_larger_model_is_refused_before_it_is_built(write_gguf, tmp_path, key, value):
    file, _ = write_gguf()
    content = file.read_bytes()
    entry = f"llama.{key}".encode() + struct.pack("<I", 4)
    position = content.index(entry) + len(entry)
    file.write_bytes(content[:position] + struct.pack("<I", value) + content[position + 4 :])
    made = Decoder(weights=GGUF(path=str(file)))
    with pytest.raises(InstructLabError, match=r"GiB are free|more than 100,000 parameters"):
        made.load(made.load_tokenizer(tmp_path), tmp_path)


def test_the_conversion_needs_the_memory_of_two_models(write_gguf, tmp_path, monkeypatch):
    file, kept = write_gguf()
    buffers = gguf.read_model(file, "tiny").buffers()
    needed = 8 * sum(value.size for value in kept.values())
    needed += sum(buffer.numel() * buffer.element_size() for buffer in buffers)
    monkeypatch.setattr(memory, "free_memory", lambda: needed - 1)
    with pytest.raises(InstructLabError, match="GiB are free"):
        gguf.read_model(file, "tiny")
    monkeypatch.setattr(memory, "free_memory", lambda: needed)
    gguf.read_model(file, "tiny")

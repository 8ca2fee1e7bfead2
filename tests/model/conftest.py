"""Tiny models: random ones, saved folders, a GGUF file with quantised tensors."""

import pytest

from instruct_lab.model import Decoder, Random, Tokenizer

SETTINGS = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def decoder(tied=True, **fields):
    return Decoder(weights=Random(settings={**SETTINGS, "tie_word_embeddings": tied}), **fields)


@pytest.fixture
def tiny(tmp_path):
    """Loads a tiny model: gives (tokenizer, model)."""

    def load(tied=True, tokenizer=None, **fields):
        made = decoder(tied, tokenizer=tokenizer or Tokenizer(), **fields)
        loaded = made.load_tokenizer(tmp_path)
        return loaded, made.load(loaded, tmp_path).model

    return load


@pytest.fixture
def folder(tiny, tmp_path):
    """A model folder as `save_pretrained` writes it."""
    tokenizer, model = tiny()
    path = tmp_path / "saved"
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def write_gguf(tmp_path):
    """Writes a tiny llama as GGUF, its matrices in 4 bits; returns the file and the float32 tensors in it."""
    return lambda pre="smollm": _write_gguf(tmp_path / f"tiny-{pre}.gguf", pre)


def _write_gguf(file, pre):
    import gguf
    import numpy as np
    from gguf import quants
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, "12", "ab"]
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_name("tiny")
    writer.add_block_count(2)
    writer.add_context_length(256)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["1 2", "a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}")
    random, kept = np.random.default_rng(0), {}

    def add(name, shape, kind):
        value = random.normal(size=shape).astype(np.float32)
        if kind is None:
            writer.add_tensor(name, value)
        else:
            packed = quants.quantize(value, kind)
            writer.add_tensor(name, packed, raw_dtype=kind)
            value = quants.dequantize(packed, kind)
        kept[name] = value

    four_bits = gguf.GGMLQuantizationType.Q4_1
    add("token_embd.weight", (len(tokens), 32), gguf.GGMLQuantizationType.Q8_0)
    for layer in range(2):
        for name, rows, columns in (
            ("attn_q", 32, 32),
            ("attn_k", 16, 32),
            ("attn_v", 16, 32),
            ("attn_output", 32, 32),
            ("ffn_gate", 64, 32),
            ("ffn_up", 64, 32),
            ("ffn_down", 32, 64),
        ):
            add(f"blk.{layer}.{name}.weight", (rows, columns), four_bits)
        for name in ("attn_norm", "ffn_norm"):
            add(f"blk.{layer}.{name}.weight", (32,), None)
    add("output_norm.weight", (32,), None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file, kept

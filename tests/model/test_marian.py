"""Marian: two SentencePiece models over one vocabulary."""

import io
import json
import subprocess
import sys

import pytest
import torch

from instruct_lab.model import EncoderDecoder, LocalFolder

STEMS = [a + b for a in ("ba", "ko", "tir", "men", "sul") for b in ("lo", "den", "ra", "nit", "fum", "gap")]


def pieces(words, file):
    """Trains a SentencePiece model; gives its pieces."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([f"{one} {two}" for one in words for two in words]),
        model_writer=model,
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    file.write_bytes(model.getvalue())
    made = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [made.id_to_piece(number) for number in range(3, made.get_piece_size())]


@pytest.fixture
def folder(tmp_path):
    from transformers import MarianConfig, MarianMTModel

    path = tmp_path / "marian"
    path.mkdir()
    known = pieces(STEMS, path / "source.spm") + pieces([word[::-1] for word in STEMS], path / "target.spm")
    vocabulary = ["</s>", "<unk>", *dict.fromkeys(known), "<pad>"]
    last = len(vocabulary) - 1
    (path / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(vocabulary)}))
    names = {"source_lang": "en", "target_lang": "fr", "tokenizer_class": "MarianTokenizer"}
    (path / "tokenizer_config.json").write_text(json.dumps(names))
    size = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    tokens = {"pad_token_id": last, "decoder_start_token_id": last, "eos_token_id": 0, "forced_eos_token_id": 0}
    feed = {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 64}
    model = MarianMTModel(MarianConfig(vocab_size=last + 1, d_model=16, **size, **tokens, **feed))
    model.generation_config.bad_words_ids = [[last]]
    model.save_pretrained(path)
    return path


def test_source_and_target_are_cut_each_by_its_own_model_and_a_step_trains(folder, tmp_path):
    made = EncoderDecoder(weights=LocalFolder(path=str(folder)))
    tokenizer = made.load_tokenizer(tmp_path)
    model = made.load(tokenizer, tmp_path).model
    source, target = tokenizer("balo kora"), tokenizer(text_target="olab arok")
    assert tokenizer.unk_token_id not in source["input_ids"] + target["input_ids"]
    assert tokenizer.unk_token_id in tokenizer("olab zzz")["input_ids"]
    assert source["input_ids"][-1] == target["input_ids"][-1] == tokenizer.eos_token_id
    assert tokenizer.decode(target["input_ids"], skip_special_tokens=True) == "olab arok"
    ids, labels = torch.tensor([source["input_ids"]]), torch.tensor([target["input_ids"]])
    before = model(input_ids=ids, labels=labels).loss
    before.backward()
    torch.optim.AdamW(model.parameters(), lr=1e-2).step()
    assert model(input_ids=ids, labels=labels).loss < before
    own = model.generation_config
    assert (own.decoder_start_token_id, own.bad_words_ids) == (tokenizer.pad_token_id, [[tokenizer.pad_token_id]])


@pytest.mark.slow
def test_without_sentencepiece_it_is_refused_by_the_package_s_name(folder, tmp_path):
    code = (
        "import sys, pathlib; sys.modules['sentencepiece'] = None\n"  # as where it is not installed
        "from instruct_lab.errors import InstructLabError\n"
        "from instruct_lab.model import EncoderDecoder, LocalFolder\n"
        "try:\n"
        f"    made = EncoderDecoder(weights=LocalFolder(path={str(folder)!r}))\n"
        f"    made.load_tokenizer(pathlib.Path({str(tmp_path)!r}))\n"
        "except InstructLabError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "sentencepiece" in done.stdout.lower()
    assert "pip install 'instruct-lab[marian]'" in done.stdout

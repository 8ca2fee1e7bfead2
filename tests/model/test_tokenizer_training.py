"""A tokenizer that is trained on the run's data: the same everywhere, and exact."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_lab.errors import InstructLabError
from instruct_lab.model import Decoder, Encoder, EncoderDecoder, LocalFolder, Random, TrainedTokenizer
from instruct_lab.model.byte_tokenizer import byte_tokenizer, special_tokens_of

STEMS = [a + b for a in ("ba", "ko", "tir", "men", "sul") for b in ("lo", "den", "ra", "nit", "fum", "gap")]
TEXTS = [f"{one} {two}, été {index}!\n" for index, (one, two) in enumerate(zip(STEMS, STEMS[::-1], strict=True))] * 4
KINDS = {"decoder": Decoder, "encoder": Encoder, "encoder-decoder": EncoderDecoder}


def trained(cache, family="decoder", texts=TEXTS, **fields):
    made = TrainedTokenizer(**{"vocab_size": 420, **fields})
    return made.load(Random(), cache, False, family, lambda: iter(texts))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return {(family, a): trained(cache, family, algorithm=a) for family in KINDS for a in ("bpe", "unigram")}


@settings(max_examples=60)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
@pytest.mark.parametrize("family", KINDS)
def test_every_text_comes_back_to_the_letter(family, algorithm, kept, text):
    tokenizer = kept[family, algorithm]
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_two_trainings_give_one_tokenizer_to_the_bit(algorithm, tmp_path):
    found = [trained(tmp_path / str(one), algorithm=algorithm).backend_tokenizer.to_str() for one in range(4)]
    assert len(set(found)) == 1


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
@pytest.mark.parametrize("family", KINDS)
def test_special_tokens_are_those_of_the_family_and_never_pieces_of_text(family, algorithm, kept):
    tokenizer, own = kept[family, algorithm], byte_tokenizer(family)
    for name, token in own.special_tokens_map.items():
        assert tokenizer.special_tokens_map[name] == token
    assert tokenizer.chat_template == own.chat_template
    special = special_tokens_of(family)
    assert [tokenizer.convert_tokens_to_ids(token) for token in special] == list(range(len(special)))
    text = "".join(special)
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == list(range(len(special)))
    plain = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert not set(plain) & set(range(len(special)))
    assert (
        len(tokenizer("x")["input_ids"]) - len(tokenizer("x", add_special_tokens=False)["input_ids"])
        == len(own("x")["input_ids"]) - 1
    )


def test_half_a_surrogate_pair_in_the_data_does_not_stop_the_training(tmp_path):
    assert len(trained(tmp_path, texts=[*TEXTS, "broken \ud83d here"])) > 300


def test_what_was_kept_is_read_back_as_it_was_trained(tmp_path):
    first = trained(tmp_path, "encoder")
    (folder,) = (path for path in (tmp_path / "tokenizers").iterdir() if path.is_dir())
    asked = []
    made = TrainedTokenizer(vocab_size=420)
    again = made.load(Random(), tmp_path, False, "encoder", lambda: asked.append(1) or iter(TEXTS))
    assert asked == [1], "read once, for its checksum"
    assert again.backend_tokenizer.to_str() == first.backend_tokenizer.to_str()
    (folder / "tokenizer.json").write_text("{")
    again = trained(tmp_path, "encoder")
    assert again.backend_tokenizer.to_str() == first.backend_tokenizer.to_str(), "a damaged one is made again"
    assert json.loads((folder / "tokenizer.json").read_text())


@pytest.mark.parametrize("family", KINDS)
def test_a_model_from_scratch_takes_the_trained_vocabulary(family, tmp_path):
    architecture, size = {
        "decoder": ("llama", {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}),
        "encoder": ("bert", {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}),
        "encoder-decoder": ("t5", {"d_model": 16, "d_kv": 8, "num_layers": 1, "num_heads": 2}),
    }[family]
    weights = Random(architecture=architecture, settings=size)
    made = KINDS[family](weights=weights, tokenizer=TrainedTokenizer(vocab_size=420, extra_tokens=["<tag>"]))
    tokenizer = made.load_tokenizer(tmp_path, lambda: iter(TEXTS))
    loaded = made.load(tokenizer, tmp_path)
    assert loaded.model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert loaded.added_token_ids == (len(tokenizer) - 1,)


@pytest.mark.parametrize(("family", "least"), [("decoder", 259), ("encoder", 261), ("encoder-decoder", 359)])
def test_a_vocabulary_too_small_for_the_bytes_is_refused(family, least, tmp_path):
    weights = Random(architecture="llama")
    made = KINDS[family](weights=weights, tokenizer=TrainedTokenizer(vocab_size=300))
    if least <= 300:
        made.load_tokenizer(tmp_path, lambda: iter(TEXTS))
    else:
        with pytest.raises(InstructLabError, match=rf"are {least} pieces"):
            made.load_tokenizer(tmp_path, lambda: iter(TEXTS))


def test_weights_that_know_another_vocabulary_are_refused_before_any_text_is_read(tmp_path):
    made = Decoder(weights=LocalFolder(path=str(tmp_path)), tokenizer=TrainedTokenizer())
    with pytest.raises(InstructLabError, match="does not fit weights"):
        made.load_tokenizer(tmp_path, lambda: pytest.fail("read"))


def test_no_data_and_empty_data_have_different_messages(tmp_path):
    made = Decoder(weights=Random(), tokenizer=TrainedTokenizer())
    with pytest.raises(InstructLabError, match="there is none here"):
        made.load_tokenizer(tmp_path)
    with pytest.raises(InstructLabError, match="no text"):
        made.load_tokenizer(tmp_path, lambda: iter(["", ""]))


def test_a_disk_that_refuses_is_one_error(tmp_path):
    (tmp_path / "tokenizers").write_text("in the way")
    with pytest.raises(InstructLabError, match="cannot be kept"):
        trained(tmp_path)

"""Pad tokens, new tokens and the rows of the embeddings that they need."""

import pydantic
import pytest
import torch

from instruct_lab.errors import InstructLabError
from instruct_lab.model import Tokenizer
from instruct_lab.model.byte_tokenizer import byte_tokenizer


def without_pad(*tokens, unk=None, eos="<|im_end|>"):
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(list(tokens), special_tokens=True)
    tokenizer.pad_token, tokenizer.unk_token, tokenizer.eos_token = None, unk, eos
    return tokenizer


def test_own_pad_token_stays_even_where_it_ends_a_turn():
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    assert Tokenizer().prepare(tokenizer).pad_token == "<|im_end|>"


@pytest.mark.parametrize(
    ("tokenizer", "pad"),
    [
        (without_pad("<|finetune_right_pad_id|>"), "<|finetune_right_pad_id|>"),
        (without_pad("<unk>", "<pad>", unk="<unk>"), "<pad>"),
        (without_pad("<unk>", unk="<unk>"), "<unk>"),
        (without_pad(), "<|im_end|>"),
    ],
    ids=["reserved", "reserved before unknown", "unknown", "end of sequence"],
)
def test_missing_pad_token_is_found_without_growing_the_vocabulary(tokenizer, pad):
    size = len(tokenizer)
    prepared = Tokenizer().prepare(tokenizer)
    assert prepared.pad_token == pad
    assert len(prepared) == size
    assert prepared.added_token_ids == []


def test_tokenizer_with_nothing_to_pad_with_is_an_error():
    with pytest.raises(InstructLabError, match="pad"):
        Tokenizer().prepare(without_pad(eos=None))


def test_named_pad_token_is_taken_or_added():
    known = Tokenizer(pad_token="<|im_start|>").prepare(byte_tokenizer())
    assert (known.pad_token, known.added_token_ids) == ("<|im_start|>", [])
    new = Tokenizer(pad_token="<|pad|>").prepare(byte_tokenizer())
    assert (new.pad_token_id, new.added_token_ids) == (259, [259])


def test_new_tokens_are_one_token_each_and_control_tokens_are_special():
    settings = Tokenizer(extra_tokens=["naive", "<a>"], extra_special_tokens=["<|tool|>"])
    tokenizer = settings.prepare(byte_tokenizer())
    assert tokenizer("naive<a><|tool|>")["input_ids"] == [259, 260, 261]
    assert tokenizer.decode([259, 260, 261], skip_special_tokens=True) == "naive<a>"
    assert tokenizer.added_token_ids == [259, 260, 261]


def test_new_token_that_would_not_come_back_is_an_error():
    with pytest.raises(InstructLabError, match="naïve"):
        Tokenizer(extra_tokens=["naïve"]).prepare(byte_tokenizer())


def test_token_that_is_known_is_not_new():
    assert Tokenizer(extra_special_tokens=["<|im_start|>"]).prepare(byte_tokenizer()).added_token_ids == []


@pytest.mark.parametrize(
    "fields",
    [{"extra_tokens": ["a"], "extra_special_tokens": ["a"]}, {"pad_token": ""}, {"revision": "main"}],
)
def test_settings_that_contradict_themselves_are_refused(fields):
    with pytest.raises(pydantic.ValidationError):
        Tokenizer(**fields)


def test_source_that_is_no_folder_is_a_problem(tmp_path):
    (problem,) = Tokenizer(source=str(tmp_path / "nowhere")).problems()
    assert problem.key == "source"
    assert not list(Tokenizer(source="owner/name").problems())


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_stand_at_the_mean_of_the_old_ones_and_old_rows_stay(tiny, tied):
    _, plain = tiny(tied)
    tokenizer, model = tiny(tied, Tokenizer(extra_tokens=["<a>", "<b>"]))
    for grown, old in (
        (model.get_input_embeddings(), plain.get_input_embeddings()),
        (model.get_output_embeddings(), plain.get_output_embeddings()),
    ):
        assert grown.weight.shape[0] == 261 == model.config.vocab_size
        assert torch.equal(grown.weight[:259], old.weight)
        for row in (259, 260):
            torch.testing.assert_close(grown.weight[row], old.weight.mean(dim=0))
    same = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert same is tied
    ids = torch.tensor([tokenizer("x<a><b>")["input_ids"]])
    assert model(input_ids=ids).logits.shape[-1] == 261


def test_new_token_takes_the_mean_where_the_weights_keep_rows_in_reserve(tmp_path):
    from instruct_lab.model import Decoder, Random

    settings = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 300}
    made = Decoder(weights=Random(settings=settings), tokenizer=Tokenizer(extra_tokens=["<a>"]))
    loaded = made.load(made.load_tokenizer(tmp_path), tmp_path)
    model = loaded.model
    rows = model.get_input_embeddings().weight
    assert rows.shape[0] == 300
    assert loaded.added_token_ids == (259,)
    torch.testing.assert_close(rows[259], rows[:259].mean(dim=0))
    assert not torch.allclose(rows[260], rows[:259].mean(dim=0))


def test_growing_draws_no_random_number(tiny):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    tiny(False, Tokenizer(extra_tokens=["<a>"]))
    assert torch.equal(torch.get_rng_state(), before)


def test_embeddings_stay_as_they_are_without_new_tokens(tiny):
    _, model = tiny()
    assert model.get_input_embeddings().weight.shape[0] == 259


def test_grown_model_saves_and_loads(tiny, tmp_path):
    from transformers import AutoModelForCausalLM

    _, model = tiny(False, Tokenizer(extra_tokens=["<a>"]))
    model.save_pretrained(tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)

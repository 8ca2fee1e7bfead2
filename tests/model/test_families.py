"""The three families: their heads, their tokenizers, and the facts about a loaded model."""

import copy

import pytest
import torch
from pydantic import ValidationError

from instruct_lab.errors import InstructLabError
from instruct_lab.experiment.matrix import component_of
from instruct_lab.model import GGUF, Encoder, EncoderDecoder, Random, Tokenizer, TrainedTokenizer
from instruct_lab.model.family import family_of
from instruct_lab.model.score import score

FAMILIES = {
    "tiny_random": "decoder",
    "tiny_encoder_decoder": "encoder-decoder",
    "tiny_bart": "encoder-decoder",
    "tiny_encoder": "encoder",
}
WORDS = [a + b for a in ("ba", "ko", "tir", "men", "sul") for b in ("lo", "den", "ra", "nit", "fum", "gap")]
MANY = [f"{first} {second}" for first in WORDS for second in WORDS]
TEXTS = ["the cat sat on the mat", "the dog sat on the cat", "été à 中文 \U0001f600", "a\tb\n\nc  d"] * 5


def loaded(option, cache, head="language"):
    made = component_of("model", option)
    tokenizer = made.load_tokenizer(cache)
    return made.load(tokenizer, cache, head).model, tokenizer


@pytest.mark.parametrize("option", FAMILIES)
def test_a_loaded_model_comes_with_the_facts_that_others_need(option, tmp_path):
    made = component_of("model", option)
    tokenizer = made.load_tokenizer(tmp_path)
    found = made.load(tokenizer, tmp_path)
    assert found.family == FAMILIES[option] == made.family == family_of(found.model)
    assert found.tokenizer is tokenizer
    assert (found.new_modules, found.added_token_ids) == ((), ())
    assert found.model.get_input_embeddings().weight.shape[0] >= len(tokenizer)
    assert not found.model.training


@pytest.mark.parametrize("option", FAMILIES)
def test_text_comes_back_to_the_letter_between_the_family_s_own_tokens(option, tmp_path):
    _, tokenizer = loaded(option, tmp_path)
    around = {"decoder": ("", ""), "encoder-decoder": ("", "</s>"), "encoder": ("[CLS]", "[SEP]")}[FAMILIES[option]]
    for text in TEXTS[:4]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == around[0] + text + around[1]


@pytest.mark.parametrize("option", ["tiny_random", "tiny_encoder"])
def test_a_score_is_one_number_for_a_text_and_does_not_depend_on_padding(option, tmp_path):
    model, tokenizer = loaded(option, tmp_path, "score")
    ids = [tokenizer(text)["input_ids"] for text in ("short", "a longer text")]
    width = max(map(len, ids))
    padded = torch.tensor([[*row, *[tokenizer.pad_token_id] * (width - len(row))] for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
    with torch.no_grad():
        together = score(model, padded, mask)
        one_by_one = torch.cat(
            [score(model, torch.tensor([row]), torch.ones(1, len(row), dtype=torch.long)) for row in ids]
        )
    assert together.shape == (2,)
    torch.testing.assert_close(together, one_by_one, rtol=1e-4, atol=1e-6)
    again, _ = loaded(option, tmp_path, "score")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)), "a new head too"


def test_a_decoder_s_score_stands_at_the_last_token_though_it_is_the_pad_token(tmp_path):
    model, tokenizer = loaded("tiny_random", tmp_path, "score")
    ids = torch.tensor([[5, 6, tokenizer.pad_token_id]])
    with torch.no_grad():
        hidden = model.model(input_ids=ids).last_hidden_state[0, -1]
        expected = model.score(hidden)
    torch.testing.assert_close(score(model, ids, torch.ones_like(ids)), expected)


def test_an_encoder_decoder_gives_no_score(tmp_path):
    with pytest.raises(InstructLabError, match="no score"):
        loaded("tiny_encoder_decoder", tmp_path, "score")


def test_a_gguf_file_is_a_decoder_s():
    problems = [p.reason for p in Encoder(weights=GGUF(path="missing.gguf")).problems()]
    assert any("holds a decoder" in reason for reason in problems)


def test_gradient_checkpointing_changes_no_gradient(tmp_path):
    gradients = []
    for on in (False, True):
        made = component_of("model", "tiny_random")
        made = type(made)(weights=made.weights, gradient_checkpointing=on)
        model = made.load(made.load_tokenizer(tmp_path), tmp_path).model.train()
        assert model.is_gradient_checkpointing is on
        model(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


# ---- a tokenizer trained on the run's data


def trained(cache, family="decoder", texts=TEXTS, **settings):
    made = TrainedTokenizer(**{"vocab_size": 400, **settings})
    return made.load(Random(), cache, False, family, lambda: iter(texts))


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_a_trained_tokenizer_writes_every_text_back(algorithm, tmp_path):
    tokenizer = trained(tmp_path, algorithm=algorithm, texts=[*TEXTS, *MANY])
    for text in (*TEXTS, "never seen: ÿ \u200d ok"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
    pieces = tokenizer(MANY[7], add_special_tokens=False)["input_ids"]
    assert len(pieces) < len(MANY[7]), "it learned pieces"


def test_the_same_texts_and_settings_give_the_same_vocabulary(tmp_path):
    first, second = trained(tmp_path / "a"), trained(tmp_path / "b")
    assert first.get_vocab() == second.get_vocab()
    kept = list((tmp_path / "a" / "tokenizers").glob("*/tokenizer.json"))
    assert len(kept) == 1
    before = kept[0].stat().st_mtime_ns
    trained(tmp_path / "a")
    assert kept[0].stat().st_mtime_ns == before, "from the cache"
    trained(tmp_path / "a", texts=[*TEXTS, "more"])
    assert len(list((tmp_path / "a" / "tokenizers").glob("*/tokenizer.json"))) == 2


def test_every_setting_has_its_effect(tmp_path):
    assert (
        len(trained(tmp_path, texts=MANY, vocab_size=300)) <= 300 < len(trained(tmp_path, texts=MANY, vocab_size=320))
    )
    rare = trained(tmp_path, texts=MANY, vocab_size=900, min_frequency=100)
    assert len(rare) < len(trained(tmp_path, texts=MANY, vocab_size=900, min_frequency=1))
    assert trained(tmp_path, family="encoder").mask_token == "[MASK]"
    assert trained(tmp_path, family="encoder-decoder").convert_tokens_to_ids("<extra_id_99>") is not None
    assert trained(tmp_path, extra_tokens=["<tag>"]).convert_ids_to_tokens(
        trained(tmp_path, extra_tokens=["<tag>"])("<tag>")["input_ids"]
    ) == ["<tag>"]
    with pytest.raises(ValidationError):
        TrainedTokenizer(source="other")


def test_a_trained_tokenizer_is_refused_for_weights_that_know_another(tmp_path):
    with pytest.raises(InstructLabError, match="does not fit weights"):
        TrainedTokenizer().load(GGUF(path="x.gguf"), tmp_path, False, "decoder", lambda: TEXTS)
    with pytest.raises(InstructLabError, match="no text"):
        trained(tmp_path, texts=[])


@pytest.mark.parametrize("kind", [Encoder, EncoderDecoder])
def test_text_that_spells_a_special_token_can_be_kept_apart(kind, tmp_path):
    architecture = {Encoder: "bert", EncoderDecoder: "t5"}[kind]
    made = kind(weights=Random(architecture=architecture), tokenizer=Tokenizer())
    tokenizer = copy.deepcopy(made.load_tokenizer(tmp_path))
    assert tokenizer.pad_token_id is not None

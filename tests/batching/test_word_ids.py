"""Ids word by word are the tokenizer's own."""

import pydoc_data.topics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from instruct_lab.batching import text_ids
from instruct_lab.batching.text_ids import TextIds
from instruct_lab.batching.word_ids import CUTS, PLAIN, known_cut, word_ids

DIGITS = pre_tokenizers.Digits(individual_digits=True)
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
QWEN = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)
CUTTING = {"smollm": pre_tokenizers.Sequence([DIGITS, GPT2]), "gpt2": GPT2}
TEXTS = list(pydoc_data.topics.topics.values())


def train(pre_tokenizer, normalizer=None):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=1200, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([*TEXTS[:20], "l'été à Noël — « déjà »"], trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in ("<|end|>", "<|end|>>", "<s>")])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


@pytest.fixture(scope="module", params=[*CUTTING])
def tokenizer(request):
    return train(CUTTING[request.param])


def encode(tokenizer, texts):
    return [ids.ids for ids in tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def test_the_cut_is_found(tokenizer) -> None:
    assert word_ids(tokenizer) is not None


@pytest.mark.parametrize(
    "tokenizer",
    [
        pytest.param(lambda: train(QWEN), id="another cut"),
        pytest.param(lambda: train(pre_tokenizers.ByteLevel(add_prefix_space=True)), id="a space before a text"),
        pytest.param(lambda: train(GPT2, normalizers.NFC()), id="a normalizer"),
        pytest.param(lambda: train(pre_tokenizers.Metaspace()), id="no bytes"),
    ],
)
def test_another_cut_is_not_taken_for_a_known_one(tokenizer) -> None:
    assert word_ids(tokenizer()) is None


def test_words_are_not_used_with_a_token_that_takes_in_white_space() -> None:
    tokenizer = train(GPT2)
    assert known_cut(tokenizer.backend_tokenizer) is CUTS[1]
    tokenizer.add_tokens([AddedToken("<mask>", lstrip=True)])
    assert known_cut(tokenizer.backend_tokenizer) is None
    assert word_ids(tokenizer) is None


PLAIN_TEXT = st.text(st.sampled_from("aAstdlve1 '\n\t\r’—é²_-."), min_size=1, max_size=20)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
TOKENS = st.sampled_from(["<|end|>", "<|end|>>", "<s>", "don't", "we'll", " 12", "  ", "\r\n", "x" * 60])
PARTS = st.lists(PLAIN_TEXT | TOKENS, min_size=1, max_size=6) | st.lists(PLAIN_TEXT | TOKENS | ANY_TEXT, max_size=6)


@pytest.mark.slow
@given(st.lists(PARTS.map("".join), max_size=30))
@settings(max_examples=150)
def test_ids_are_the_tokenizer_s_own_whatever_the_texts(tokenizer, texts) -> None:
    by_words = word_ids(tokenizer)(texts, lambda left: encode(tokenizer, left))
    assert by_words == encode(tokenizer, texts)


@pytest.mark.slow
def test_ids_of_long_texts_are_the_tokenizer_s_own_and_few_are_encoded_whole(tokenizer, monkeypatch) -> None:
    monkeypatch.setattr(text_ids, "MANY_TEXTS", 1)
    whole = encode(tokenizer, TEXTS)
    assert TextIds(tokenizer).ids_of(TEXTS) == whole
    left = []
    assert word_ids(tokenizer)(TEXTS, lambda texts: left.extend(texts) or encode(tokenizer, texts)) == whole
    assert all(not PLAIN.fullmatch(text) or max(map(len, text.split())) > 35 for text in left)


def test_a_token_that_is_added_later_is_one_token() -> None:
    tokenizer = train(GPT2)
    before = word_ids(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    after = word_ids(tokenizer)
    assert before is not None
    assert after is not None
    whole = tokenizer("a <pad> b", add_special_tokens=False)["input_ids"]
    encode = lambda texts: [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]  # noqa: E731
    assert after(["a <pad> b"], encode) == [whole]
    assert tokenizer.pad_token_id in whole

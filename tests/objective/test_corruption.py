"""What masked and denoising objectives do to a text: the original follows from inputs and labels."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from instruct_lab.batching import IGNORED, Example
from instruct_lab.errors import InstructLabError
from instruct_lab.model.byte_tokenizer import byte_tokenizer
from instruct_lab.objective import Masked, SpanCorruption, TextInfilling

BERT, T5, GPT = (byte_tokenizer(family) for family in ("encoder", "encoder-decoder", "decoder"))
texts = st.text(alphabet="abcd efg.", min_size=1, max_size=60)
seeds = st.integers(0, 1000)


def masked_example(text):
    ids = BERT(text)["input_ids"]
    return Example(ids, [IGNORED, *ids[1:-1], IGNORED], "x")


def whole(text):
    ids = T5(text)["input_ids"]
    return Example(ids, list(ids), "x")


@settings(max_examples=60)
@given(texts, seeds, st.booleans())
def test_masked_labels_are_the_text_and_everything_else_is_as_it_was(text, seed, whole_words):
    example = masked_example(text)
    found = Masked(whole_words=whole_words).corrupt(example, BERT, random.Random(seed))
    assert len(found.input_ids) == len(found.labels) == len(example.input_ids)
    chosen = [position for position, label in enumerate(found.labels) if label != IGNORED]
    assert chosen, "at least one"
    assert not {0, len(example.input_ids) - 1} & set(chosen), "never a special token"
    for position, (before, after) in enumerate(zip(example.input_ids, found.input_ids, strict=True)):
        if position in chosen:
            assert found.labels[position] == before
        else:
            assert after == before
    assert found == Masked(whole_words=whole_words).corrupt(example, BERT, random.Random(seed))


def test_the_shares_are_those_that_were_asked_for():
    text = "the quick brown fox jumps over it " * 60
    example, source = masked_example(text), random.Random(0)
    chosen = masked = changed = 0
    for _ in range(20):
        found = Masked(probability=0.2, mask_share=0.5, random_share=0.3).corrupt(example, BERT, source)
        positions = [position for position, label in enumerate(found.labels) if label != IGNORED]
        chosen += len(positions)
        masked += sum(found.input_ids[position] == BERT.mask_token_id for position in positions)
        changed += sum(found.input_ids[p] not in (BERT.mask_token_id, example.input_ids[p]) for p in positions)
    assert chosen == 20 * round(0.2 * (len(example.input_ids) - 2))
    assert masked / chosen == pytest.approx(0.5, abs=0.03)
    assert changed / chosen == pytest.approx(0.3, abs=0.03)


def test_whole_words_are_chosen_whole():
    text = "alpha beta gamma delta epsilon"
    example = masked_example(text)
    found = Masked(probability=0.2, mask_share=1.0, random_share=0.0, whole_words=True).corrupt(
        example, BERT, random.Random(3)
    )
    positions = [position - 1 for position, label in enumerate(found.labels) if label != IGNORED]
    words = [match for match in text.split(" ") if text.index(match) in positions or text.index(match) - 1 in positions]
    covered = {i for word in words for i in range(text.index(word), text.index(word) + len(word))}
    assert covered == {position for position in positions if text[position] != " "}


@settings(max_examples=60)
@given(texts, seeds)
def test_the_text_is_what_is_read_with_the_spans_put_back(text, seed):
    example = whole(text)
    found = SpanCorruption().corrupt(example, T5, random.Random(seed))
    if len(example.input_ids) < 3:
        assert found == example
        return
    sentinels = {T5.convert_tokens_to_ids(f"<extra_id_{n}>"): n for n in range(100)}
    spans, current = {}, None
    assert found.labels[-1] == found.input_ids[-1] == T5.eos_token_id
    for token in found.labels[:-1]:
        if token in sentinels:
            current = token
            spans[current] = []
        else:
            spans[current].append(token)
    assert [sentinels[token] for token in spans] == list(range(len(spans))), "in order"
    assert spans[list(spans)[-1]] == [], "a last one closes"
    restored = []
    for token in found.input_ids:
        restored += spans[token] if token in sentinels else [token]
    assert restored == example.input_ids


def test_density_and_length_of_spans():
    example = whole("the quick brown fox jumps over the lazy dog " * 10)
    for density, length in ((0.15, 3.0), (0.5, 10.0)):
        found = SpanCorruption(noise_density=density, mean_span_length=length).corrupt(example, T5, random.Random(1))
        total, read = len(example.input_ids) - 1, len(found.input_ids) - 1
        spans = len(found.labels) - 1 - round(density * total) - 1
        assert read == total - round(density * total) + spans
        assert spans == pytest.approx(round(density * total) / length, abs=1)


@settings(max_examples=60)
@given(texts, seeds, st.booleans())
def test_infilling_predicts_the_whole_text(text, seed, permute):
    example = whole(text)
    found = TextInfilling(permute_sentences=permute).corrupt(example, T5, random.Random(seed))
    assert found.labels == example.input_ids
    assert T5.mask_token_id in found.input_ids
    if not permute:
        rest = iter(example.input_ids)
        kept = [token for token in found.input_ids if token != T5.mask_token_id]
        assert all(token in rest for token in kept), "the input keeps the order of the text"


def test_sentences_are_permuted_only_when_asked():
    example = whole("one a. two b. three c. four d. five e. six f.")

    def orders(permute):
        read = [
            TextInfilling(mask_ratio=0.02, permute_sentences=permute).corrupt(example, T5, random.Random(s))
            for s in range(8)
        ]
        return {T5.decode(found.input_ids).lstrip(" <mask>")[:1] for found in read}

    assert len(orders(True)) > len(orders(False))


def test_longer_spans_are_masked_by_fewer_tokens():
    example = whole("the quick brown fox " * 20)
    short = TextInfilling(mean_span_length=1.0).corrupt(example, T5, random.Random(0))
    long = TextInfilling(mean_span_length=8.0).corrupt(example, T5, random.Random(0))
    assert long.input_ids.count(T5.mask_token_id) < short.input_ids.count(T5.mask_token_id)


def test_a_tokenizer_without_the_tokens_is_refused():
    for objective in (Masked(), SpanCorruption(), TextInfilling()):
        with pytest.raises(InstructLabError, match="tokenizer has no"):
            objective.check_tokenizer(GPT)
    with pytest.raises(ValidationError):
        Masked(mask_share=0.8, random_share=0.3)


def test_a_word_does_not_reach_across_what_is_not_predicted():
    tokenizer = byte_tokenizer("encoder")
    ids = tokenizer("abcd", add_special_tokens=False)["input_ids"]
    assert Masked(whole_words=True)._words(ids, [0, 1, 2, 3], tokenizer) == [[0, 1, 2, 3]]
    assert Masked(whole_words=True)._words(ids, [0, 1, 3], tokenizer) == [[0, 1], [3]]


def test_the_vocabulary_is_read_once_and_again_when_it_has_grown(monkeypatch):
    tokenizer = byte_tokenizer("encoder-decoder")
    read, whole_vocabulary = [], tokenizer.get_vocab
    monkeypatch.setattr(tokenizer, "get_vocab", lambda: read.append(1) or whole_vocabulary())
    example = whole("the quick brown fox jumps over the lazy dog")
    for _ in range(5):
        SpanCorruption().corrupt(example, tokenizer, random.Random(0))
    assert len(read) == 1
    tokenizer.add_tokens(["new"])
    SpanCorruption().corrupt(example, tokenizer, random.Random(0))
    assert len(read) == 2

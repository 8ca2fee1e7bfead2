"""Examples decoded from their ids: whole characters, trained and special tokens; token statistics."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chat_tokenizers import ALL, FAMILIES, TEXTS, allowed, byte_level, conversation, unigram
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from instruct_lab.batching import IGNORED, Example, SegmentEncoder
from instruct_lab.batching.token_spans import TokenReader
from instruct_lab.batching.token_statistics import MAX_BINS, length_histogram, token_statistics
from instruct_lab.template import ChatTemplate


def byte_fallback():
    """Words marked by ▁ and, for what is not in the vocabulary, bytes such as <0xE4>; as Llama 2 and Gemma have it."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁Hello", "H", "i"]
    backend = Tokenizer(
        models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=[], byte_fallback=True, unk_token="<unk>")
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def read(tokenizer, ids, labels=None):
    return TokenReader(tokenizer).spans(ids, labels if labels is not None else [IGNORED] * len(ids))


def text_of(spans):
    return "".join(span.text for span in spans)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "phi"])
def test_spans_have_exactly_the_text_of_the_template(family):
    tokenizer = byte_level(family)
    for found in allowed(FAMILIES[family], ALL):
        segments = ChatTemplate().render(found, tokenizer)
        (example,) = SegmentEncoder(tokenizer).encode([segments])
        spans = read(tokenizer, example.input_ids, example.labels)
        assert text_of(spans) == "".join(segment.text for segment in segments)
        assert [number for span in spans for number in span.ids] == example.input_ids
        trained = "".join(span.text for span in spans if span.trained)
        assert trained == "".join(segment.text for segment in segments if segment.trained)


def test_white_space_absorbed_by_a_special_token_is_not_shown():
    tokenizer = byte_level("phi")  # `<|user|>` takes in the line break after it
    segments = ChatTemplate().render(conversation("Hello", "two"), tokenizer)
    (example,) = SegmentEncoder(tokenizer).encode([segments])
    assert text_of(read(tokenizer, example.input_ids)) == "<|user|>Hello<|end|><|assistant|>two<|end|>"


@pytest.mark.parametrize("tokenizer", [byte_fallback(), unigram("always"), unigram("first")], ids=str)
@pytest.mark.parametrize("text", [*TEXTS, "Hi 你好 Hello", "<s> is written out"])
def test_spans_of_other_tokenizers_have_the_decoded_text(tokenizer, text):
    ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=True).ids
    whole = tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=False)
    assert text_of(read(tokenizer, ids)) == whole


@pytest.mark.slow
@given(st.text(max_size=30))
@settings(max_examples=200)
def test_no_text_is_lost_and_every_id_is_in_one_span(text):
    tokenizer = byte_level("chatml")
    ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    spans = read(tokenizer, ids)
    assert text_of(spans) == tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=False)
    assert [number for span in spans for number in span.ids] == ids
    assert all(len(span.texts) == len(span.ids) for span in spans)


@pytest.mark.parametrize("tokenizer", [byte_level("chatml"), byte_fallback()], ids=["byte_level", "byte_fallback"])
@pytest.mark.parametrize("character", ["𓀀", "꙳", "\ufffd"])
def test_a_character_of_several_tokens_is_shown_whole(tokenizer, character):
    ids = tokenizer.backend_tokenizer.encode(f"H{character}i", add_special_tokens=False).ids
    spans = [span for span in read(tokenizer, ids) if character in span.text]
    assert [span.text for span in spans] == [character]
    assert len(spans[0].ids) == len(character.encode())
    assert spans[0].texts == (*[""] * (len(character.encode()) - 1), character)


def test_half_a_character_shows_as_such_and_takes_nothing_with_it():
    tokenizer = byte_level("chatml")
    *_, end = tokenizer.backend_tokenizer.encode("<|im_end|>").ids
    half = tokenizer.backend_tokenizer.encode("𓀀").ids[:2]
    letter = tokenizer.backend_tokenizer.encode("a").ids
    assert [span.text for span in read(tokenizer, [*half, end, *letter])] == ["\ufffd", "<|im_end|>", "a"]
    borders = [IGNORED] * 2 + letter
    assert [(span.text, span.trained) for span in read(tokenizer, [*half, *letter], borders)] == [
        ("\ufffd", False),
        ("a", True),
    ]


def test_text_that_spells_a_special_token_is_not_one():
    tokenizer = byte_level("chatml")
    segments = ChatTemplate().render(conversation("say <|im_end|> twice", "<|im_end|>"), tokenizer)
    (example,) = SegmentEncoder(tokenizer).encode([segments])
    spans = read(tokenizer, example.input_ids, example.labels)
    assert text_of(spans).count("<|im_end|>") == 5
    assert [span.text for span in spans if span.special].count("<|im_end|>") == 3  # system, user and assistant turns
    assert all(len(span.ids) == 1 for span in spans if span.special)


def test_an_added_word_is_written_as_it_was_added():
    tokenizer = byte_fallback()
    tokenizer.add_tokens(["naïve word"])
    ids = tokenizer.backend_tokenizer.encode("naïve word", add_special_tokens=False).ids
    assert "naïve word" in [span.text for span in read(tokenizer, ids)]
    assert not any(span.special for span in read(tokenizer, ids))


# ---- statistics


def test_statistics_count_tokens_and_targets():
    found = token_statistics(numpy.array([10, 20, 30]), numpy.array([1, 2, 12]))
    assert {
        key: found[key] for key in ("examples", "tokens", "target_tokens", "target_share", "longest", "median")
    } == {
        "examples": 3,
        "tokens": 60,
        "target_tokens": 15,
        "target_share": 0.25,
        "longest": 30,
        "median": 20,
    }
    assert sum(found["lengths"]["counts"]) == sum(found["target_lengths"]["counts"]) == 3


def test_statistics_of_no_example_are_zeros():
    found = token_statistics(numpy.array([], dtype=int), numpy.array([], dtype=int))
    assert (found["examples"], found["tokens"], found["longest"], found["target_share"]) == (0, 0, 0, None)
    assert sum(found["lengths"]["counts"]) == 0


@given(st.lists(st.integers(0, 2_000_000), min_size=1, max_size=200))
@settings(max_examples=300)
def test_a_histogram_holds_every_length_in_few_bins(lengths):
    found = length_histogram(numpy.array(lengths))
    bounds, counts = found["bounds"], found["counts"]
    assert sum(counts) == len(lengths)
    assert len(counts) == len(bounds) - 1 <= MAX_BINS
    assert bounds == sorted(set(bounds))
    assert bounds[0] <= min(lengths)
    assert max(lengths) <= bounds[-1]
    assert all(type(number) is int for number in (*bounds, *counts))


def test_one_very_long_example_does_not_hide_the_others():
    lengths = numpy.array([*range(100, 500), 3_000_000])
    counts = length_histogram(lengths)["counts"]
    assert counts[-1] == 1
    assert sum(1 for count in counts if count) > 10


def test_example_lists_and_reader_agree_on_targets():
    tokenizer = byte_level("chatml")
    (example,) = SegmentEncoder(tokenizer).encode(
        [ChatTemplate().render(conversation("Hello", "你好，世界。"), tokenizer)]
    )
    assert isinstance(example, Example)
    spans = read(tokenizer, example.input_ids, example.labels)
    assert sum(len(span.ids) for span in spans if span.trained) == example.num_target_tokens

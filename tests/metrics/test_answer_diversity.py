"""Distinct-n, self-BLEU and lengths: measures of all answers together."""

import math
import random

import numpy as np
import pytest
from sacrebleu.metrics import BLEU as SacrebleuBLEU

from instruct_lab.metrics import (
    AnswerLength,
    DistinctN,
    SelfBLEU,
    corpus_rows,
    example_scores,
    paired_difference,
    summarize,
)

WORDS = "the cat sat on a mat and ran away from every dog that was there . , !".split()


def drawn(seed, size, vocabulary=WORDS, longest=9):
    draw = random.Random(seed)
    return [" ".join(draw.choices(vocabulary, k=draw.randint(0, longest))) for _ in range(size)]


def rows_of(metric, answers):
    return corpus_rows(metric, answers, [["a reference"]] * len(answers))


def value(metric, answers):
    return summarize(metric, rows_of(metric, answers), resamples=5).value


def distinct(answers, n, per_words=False):
    """By the definition of Li et al., over words in small letters without marks."""
    words = [[w for w in answer.lower().split() if w.isalpha()] for answer in answers]
    ngrams = [tuple(of[i : i + n]) for of in words for i in range(len(of) - n + 1)]
    return 100 * len(set(ngrams)) / (sum(map(len, words)) if per_words else len(ngrams))


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_distinct_n_is_that_of_its_definition(n, seed):
    answers = drawn(seed, 30)
    assert value(DistinctN(n=n), answers) == pytest.approx(distinct(answers, n), abs=1e-9)
    assert value(DistinctN(n=n, per="words"), answers) == pytest.approx(distinct(answers, n, True), abs=1e-9)


def test_distinct_n_counts_over_all_answers_and_not_within_each():
    assert value(DistinctN(), ["a cat", "a cat", "a cat"]) == pytest.approx(100 / 3)
    rows = rows_of(DistinctN(), ["a cat", "a a a", ""])
    assert example_scores(DistinctN(), rows)[:2] == pytest.approx([100, 100 / 3])  # each by itself
    assert math.isnan(example_scores(DistinctN(), rows)[2])
    assert math.isnan(value(DistinctN(n=4), ["a cat", ""]))
    assert value(DistinctN(), ["我喜欢我"]) == pytest.approx(75)  # Chinese by characters


def test_an_answers_part_is_what_no_other_has_and_an_equal_share_of_the_rest():
    assert DistinctN().shares(["x x y", "y z", ""]) == [
        pytest.approx(part) for part in ([1 + 1 / 3, 3, 2], [1 + 1 / 3, 2, 2], [1 / 3, 0, 0])
    ]


@pytest.mark.slow
def test_the_interval_of_distinct_n_covers_the_value_of_other_samples_of_answers():
    draw = np.random.default_rng(0)
    weights = 1 / np.arange(1, 2001)
    weights /= weights.sum()

    def answers():
        return [" ".join(f"w{w}" for w in draw.choice(2000, size=draw.integers(3, 12), p=weights)) for _ in range(60)]

    metric = DistinctN(n=2)
    expected = np.mean([value(metric, answers()) for _ in range(60)])
    found = [summarize(metric, rows_of(metric, answers()), seed=seed, resamples=200) for seed in range(40)]
    assert all(one.low < one.value < one.high for one in found)
    assert sum(one.low <= expected <= one.high for one in found) >= 34


def reference_self_bleu(answers, **settings):
    """Each answer against the list of all others, by sacrebleu itself."""
    scorer = SacrebleuBLEU(effective_order=True, **settings)
    return [
        scorer.sentence_score(answer, answers[:index] + answers[index + 1 :]).score
        for index, answer in enumerate(answers)
    ]


@pytest.mark.parametrize("settings", [{}, {"max_ngram_order": 2, "lowercase": True}, {"tokenize": "char"}])
@pytest.mark.parametrize("seed", range(4))
def test_self_bleu_is_sacrebleu_against_all_other_answers(settings, seed):
    answers = [*drawn(seed, 14), "", "The cat the CAT", "the cat the cat the cat"]
    expected = reference_self_bleu(answers, **settings)
    metric = SelfBLEU(**settings)
    assert example_scores(metric, rows_of(metric, answers)) == pytest.approx(expected, abs=1e-9)
    assert value(metric, answers) == pytest.approx(sum(expected) / len(expected), abs=1e-9)


def test_self_bleu_of_chinese_is_sacrebleus():
    answers = ["我喜欢自然语言处理", "我喜欢语言模型", "你好世界", "我们喜欢自然语言"]
    assert example_scores(SelfBLEU(tokenize="zh"), rows_of(SelfBLEU(), answers)) == pytest.approx(
        reference_self_bleu(answers, tokenize="zh"), abs=1e-9
    )


def test_self_bleu_of_one_answer_is_not_a_number_and_of_equal_ones_is_100():
    assert math.isnan(value(SelfBLEU(), ["the cat sat"]))
    assert value(SelfBLEU(), ["the cat sat on a mat"] * 3) == pytest.approx(100)


def test_resampling_examples_does_not_take_repeated_draws_for_repeated_answers():
    answers = [f"answer{i} has its own word{i} here{i} and there{i}" for i in range(30)]
    for metric in (DistinctN(n=2), SelfBLEU()):
        found = summarize(metric, rows_of(metric, answers), resamples=300)
        assert found.low - 1e-9 <= found.value <= found.high + 1e-9
        assert found.high - found.low < 3


def test_a_paired_difference_compares_two_whole_sets():
    plain, varied = ["yes it is", "no it is not"] * 10, drawn(0, 20, [f"w{i}" for i in range(400)])
    for metric, sign in ((DistinctN(), 1), (SelfBLEU(), -1)):
        found = paired_difference(metric, rows_of(metric, plain), rows_of(metric, varied))
        assert found.value == pytest.approx(value(metric, varied) - value(metric, plain))
        assert found.low <= found.value <= found.high
        assert sign * found.low > 0
        assert sign * found.high > 0
        same = paired_difference(metric, rows_of(metric, plain), rows_of(metric, plain))
        assert (same.value, same.low, same.high) == (0, 0, 0)


def test_a_row_is_the_answer_so_that_any_part_of_a_set_can_be_measured():
    rows = rows_of(DistinctN(), ["a 😀 cat", "a cat", "a dog"])
    assert rows[0] == "a 😀 cat"
    assert summarize(DistinctN(), rows[1:], resamples=2).value == pytest.approx(75)


@pytest.mark.parametrize("metric", [DistinctN(), SelfBLEU()])
def test_rows_of_earlier_records_are_code_points(metric):
    answers = ["a 😀 cat", "a cat", " ", "a dog"]
    earlier = [[float(ord(character)) for character in answer] for answer in answers]
    assert summarize(metric, earlier, resamples=20) == summarize(metric, answers, resamples=20)
    assert "|empty:1" in summarize(metric, earlier, resamples=2).signature


def test_length_is_a_mean_or_a_ratio_to_the_closest_reference():
    answers, references = ["one two three", "", "我喜欢"], [["one two", "1 2 3 4 5 6"], ["a b"], ["我 们"]]
    mean, ratio = AnswerLength(), AnswerLength(relative=True)
    assert summarize(mean, corpus_rows(mean, answers, references)).value == pytest.approx(6 / 3)
    assert summarize(ratio, corpus_rows(ratio, answers, references)).value == pytest.approx(6 / 6)
    assert math.isnan(ratio.value(ratio.statistics("a", ("",))))
    assert mean.signature() != ratio.signature()

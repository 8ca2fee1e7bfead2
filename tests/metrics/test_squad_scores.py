"""SQuAD F1 and exact match against the functions of SQuAD 2.0's evaluation script, written out here."""

import collections
import random
import re
import string

import pytest

from instruct_lab.metrics import SquadExactMatch, SquadF1, corpus_rows, example_scores, paired_difference, summarize


def normalize_answer(text):
    text = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.compile(r"\b(a|an|the)\b", re.UNICODE).sub(" ", text).split())


def get_tokens(text):
    return normalize_answer(text).split() if text else []


def compute_exact(gold, predicted):
    return int(normalize_answer(gold) == normalize_answer(predicted))


def compute_f1(gold, predicted):
    gold_tokens, predicted_tokens = get_tokens(gold), get_tokens(predicted)
    same = sum((collections.Counter(gold_tokens) & collections.Counter(predicted_tokens)).values())
    if len(gold_tokens) == 0 or len(predicted_tokens) == 0:
        return int(gold_tokens == predicted_tokens)
    if same == 0:
        return 0
    precision, recall = 1.0 * same / len(predicted_tokens), 1.0 * same / len(gold_tokens)
    return (2 * precision * recall) / (precision + recall)


def script(answers, references):
    """The script's scores of each example, and its two totals."""
    exact, f1 = [], []
    for answer, golds in zip(answers, references, strict=True):
        golds = [gold for gold in golds if normalize_answer(gold)] or [""]
        exact.append(max(compute_exact(gold, answer) for gold in golds))
        f1.append(max(compute_f1(gold, answer) for gold in golds))
    return exact, f1, 100.0 * sum(exact) / len(exact), 100.0 * sum(f1) / len(f1)


def drawn_cases():
    draw = random.Random(0)
    words = "the a an cat Cat sat, on (mat) U.S. it's 12.5 élève 我喜欢 语言 。 « où » - the".split()
    for _ in range(80):
        references = [" ".join(draw.choices(words, k=draw.randint(0, 6))) for _ in range(draw.randint(1, 4))]
        kept = [word for word in draw.choice(references).split() if draw.random() < 0.7]
        yield " ".join([*kept, *draw.choices(words, k=draw.randint(0, 2))]), references


CASES = [
    ("", [""]),
    ("", ["Paris"]),
    ("Paris", [""]),
    ("the", [""]),  # nothing is left of it, so it says that there is no answer
    ("", ["the", "Paris"]),  # a reference of which nothing is left takes no part
    ("", ["the", "."]),
    ("the cat sat", ["A cat, sat!", "dog"]),
    ("cat cat cat", ["cat dog"]),
    ("  two\nlines ", ["two lines"]),
    ("a-the cat", ["athe cat"]),  # marks go before articles do
    ("th.e cat", ["cat"]),
    ("我喜欢语言", ["我喜欢模型", "我喜欢语言"]),
    *drawn_cases(),
]
ANSWERS, REFERENCES = [answer for answer, _ in CASES], [references for _, references in CASES]


@pytest.mark.parametrize(("metric", "which"), [(SquadExactMatch(), 0), (SquadF1(), 1)])
def test_scores_are_those_of_the_script_for_the_corpus_and_for_each_example(metric, which):
    expected = script(ANSWERS, REFERENCES)
    rows = corpus_rows(metric, ANSWERS, REFERENCES)
    assert summarize(metric, rows, resamples=5).value == pytest.approx(expected[2 + which], abs=1e-9)
    assert example_scores(metric, rows) == pytest.approx([100 * score for score in expected[which]], abs=1e-9)
    assert 5 < expected[2 + which] < 95  # the cases distinguish them


def test_the_signature_names_the_script_and_every_setting():
    assert SquadF1().signature() == "f1|squad-v2.0|tok:squad|refs:best"
    assert SquadExactMatch(tokenize="unicode", no_answer="无").signature() == (
        "exact|squad-v2.0|tok:unicode|refs:best|no_answer:无"
    )


def score(metric, answer, *references):
    return metric.value(metric.statistics(answer, references))


def test_chinese_counts_by_characters_and_without_its_punctuation_where_asked():
    assert score(SquadF1(), "我喜欢语言。", "我喜欢模型") == 0  # one word, and another one
    assert score(SquadF1(tokenize="unicode"), "我喜欢语言。", "我喜欢模型") == pytest.approx(60)
    assert score(SquadExactMatch(), "我喜欢语言。", "我喜欢语言") == 0
    assert score(SquadExactMatch(tokenize="unicode"), "我喜欢语言。", "我喜欢语言") == 100
    assert score(SquadF1(tokenize="unicode"), "The «U.S.» cat", "us cat") == 100


def test_the_text_for_no_answer_counts_as_an_empty_answer():
    metric = SquadF1(no_answer="unanswerable")
    assert score(metric, "unanswerable", "unanswerable") == 100
    assert score(metric, " unanswerable\n", "") == 100
    assert score(metric, "unanswerable", "Paris") == 0
    assert score(metric, "Paris", "unanswerable") == 0
    assert score(SquadF1(), "unanswerable", "") == 0


def test_a_paired_difference_is_that_of_the_two_values():
    one, other = (corpus_rows(SquadF1(), texts, REFERENCES) for texts in (ANSWERS, ["the cat"] * len(CASES)))
    found = paired_difference(SquadF1(), other, one)
    assert found.value == pytest.approx(summarize(SquadF1(), one).value - summarize(SquadF1(), other).value)
    assert found.low < found.value < found.high

"""Verdicts, the statistics of judges, and both win rates, against independent computations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import optimize, stats

from instruct_lab.metrics import JudgeServer, LengthControlledWinRate, WinRate, example_scores, summarize
from instruct_lab.metrics.judges import Question, question_text, read_verdict
from instruct_lab.metrics.judges.gold import read_gold, wilson
from instruct_lab.metrics.judges.votes import Votes, binomial_p, fisher_p
from instruct_lab.metrics.win_rate import PRIOR

SERVER = JudgeServer(url="http://127.0.0.1:1/v1", model="stub")
texts = st.text("ab ", max_size=8)
choices = st.sampled_from("ABC")


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("[[A]]", "A"),
        ("First [[A]] seemed better, but finally: [[b]]", "B"),
        ("[[ tie ]]", "C"),
        ("<think>[[A]]?</think>\n\n**[[C]]**", "C"),
        (" B. ", "B"),
        ("(A)", "A"),
        ("A is better", None),
        ("[A]", "A"),
        ("[[D]]", None),
        ("", None),
    ],
)
def test_the_verdict_is_the_last_one_in_double_brackets(reply, verdict):
    assert read_verdict(reply) == verdict


def test_a_question_holds_the_conversation_the_rubric_and_the_reference():
    question = Question("user: 1 + 1?", "2", "3", reference="two")
    for explains in (True, False):
        text = question_text(question, "Be exact.", explains)
        assert all(part in text for part in ("user: 1 + 1?", "Be exact.", "[Answer A]\n2\n", "[Answer B]\n3\n", "two"))
        assert ("Explain" in text) == explains
    assert "[Answer A]\n3\n" in question_text(question.swapped(), "", True)
    assert "Correct answer" not in question_text(Question("p", "a", "b"), "", True)


@given(texts, texts, choices, choices)
def test_the_statistics_of_a_pair_are_mirrored_if_the_systems_are_exchanged(own, other, one, swapped):
    votes, mirrored = Votes.of(own, other, (one, swapped)), Votes.of(other, own, (swapped, one))
    assert votes.score == 1 - mirrored.score
    assert (votes.own, votes.other, votes.first) == (mirrored.other, mirrored.own, mirrored.first)
    assert votes.difference == -mirrored.difference
    wins = {("A", "B"): 1.0, ("B", "A"): 0.0}
    assert votes.score == (0.5 if own == other else wins.get((one, swapped), 0.5))


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 60), st.integers(1, 60))
def test_probabilities_equal_those_of_scipy(first, second, first_count, second_count):
    first, second = min(first, first_count), min(second, second_count)
    assert binomial_p(first, first_count) == pytest.approx(stats.binomtest(first, first_count).pvalue)
    table = [[first, first_count - first], [second, second_count - second]]
    assert fisher_p(first, first_count, second, second_count) == pytest.approx(stats.fisher_exact(table).pvalue)
    found = stats.binomtest(first, first_count).proportion_ci(method="wilson")
    assert wilson(first / first_count, first_count) == pytest.approx((found.low, found.high), abs=1e-6)


def population(seed, count, advantage, per_length, longer):
    """Rows of pairs whose verdicts follow the logistic regression, with answers that are longer on average."""
    generator = np.random.default_rng(seed)
    difference = generator.normal(longer, 100, count).round()
    probability = 1 / (1 + np.exp(-advantage - per_length * np.tanh(difference / difference.std())))
    score = (generator.random(count) < probability).astype(float)
    score[generator.random(count) < 0.1] = 0.5
    return [
        Votes(one, 1, 1, 2 * (one == 1), 2 * (one == 0), 1, chars, 0).row
        for one, chars in zip(score.tolist(), difference.tolist(), strict=True)
    ]


def fitted(rows):
    """The controlled win rate, by an optimizer of scipy."""
    votes = np.array(rows)
    score, length = votes[:, 0], np.tanh(votes[:, 6] / votes[:, 6].std())

    def loss(point):
        logit = point[0] + point[1] * length
        return (np.logaddexp(0, logit) - score * logit).sum() + PRIOR / 2 * (point**2).sum()

    return 100 / (1 + np.exp(-optimize.minimize(loss, np.zeros(2), tol=1e-12).x[0]))


@pytest.mark.parametrize("seed", range(3))
def test_the_controlled_win_rate_is_that_of_an_independent_fit_and_removes_the_length(seed):
    rows = population(seed, 400, 0.0, 2.0, longer=100)
    plain = summarize(WinRate(judge=SERVER), rows, resamples=100)
    controlled = summarize(LengthControlledWinRate(), rows, resamples=500)
    assert controlled.value == pytest.approx(fitted(rows), abs=1e-4)
    assert plain.low > 60
    assert controlled.low < 50 < controlled.high
    generator = np.random.default_rng(seed)
    refitted = [fitted([rows[index] for index in generator.integers(400, size=400)]) for _ in range(60)]
    assert controlled.high - controlled.low == pytest.approx(3.92 * np.std(refitted), rel=0.35)
    mirrored = [[1 - row[0], *row[1:3], row[4], row[3], row[5], -row[6], 0.0] for row in rows]
    assert summarize(LengthControlledWinRate(), mirrored, resamples=10).value == pytest.approx(100 - controlled.value)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(-50, 50), st.booleans()), min_size=1, max_size=30)
)
def test_the_controlled_win_rate_is_a_share_for_any_verdicts(pairs):
    rows = [Votes(score * known, float(known), 1, 0, 0, 0, float(chars), 0).row for score, chars, known in pairs]
    value = summarize(LengthControlledWinRate(), rows, resamples=20)
    judged = [score for score, _, known in pairs if known]
    assert np.isnan(value.value) if not judged else 0 < value.value < 100
    scores = [one for one in example_scores(LengthControlledWinRate(), rows) if not np.isnan(one)]
    assert scores == [100 * score for score in judged]
    if judged and all(score == judged[0] for score in judged):
        assert (value.value > 50) - (value.value < 50) == (judged[0] > 0.5) - (judged[0] < 0.5)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("localhost:80", "expected the address of a server"),
        ("ftp://host/v1", "expected the address"),
        ("http://", "expected the address"),
        ("http://user:pass@host/v1", "must hold no name, password"),
        ("https://host/v1?key=1", "must hold no name, password"),
        ("https://host:99999/v1", "is not an address"),
        ("https://host/v1/chat/completions", "without /chat/completions"),
    ],
)
def test_a_wrong_address_is_refused(url, reason):
    with pytest.raises(ValidationError, match=reason):
        JudgeServer(url=url, model="m")


@pytest.mark.parametrize(
    ("url", "is_outside"),
    [
        ("http://127.0.0.1:8000/v1", False),
        ("http://127.9.9.9/v1", False),
        ("http://localhost/v1", False),
        ("http://[::1]:1/v1", False),
        ("http://0.0.0.0:1/v1", True),
        ("http://localhost.example.org/v1", True),
        ("http://127.0.0.1.example.org/v1", True),
        ("https://api.example.org/v1", True),
    ],
)
def test_only_a_server_on_another_machine_needs_permission(url, is_outside):
    assert bool(list(JudgeServer(url=url, model="m").permissions_needed())) == is_outside


def test_a_missing_key_is_reported_and_settings_without_effect_are_refused(monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    (problem,) = JudgeServer(url="http://127.0.0.1/v1", model="m", key_variable="NO_SUCH_KEY").problems()
    assert "NO_SUCH_KEY" in problem.reason
    for wrong in ({"against": "latest"}, {"against": " "}, {"against": "reference", "shows_reference": True}):
        with pytest.raises(ValidationError):
            WinRate(judge=SERVER, **wrong)
    with pytest.raises(ValidationError, match="temperature"):
        JudgeServer(url="http://127.0.0.1/v1", model="m", parameters={"temperature": 1})


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "line 2.*not JSON|not JSON.*line 2"),
        ("[]", "no JSON object"),
        ('{"prompt": "p", "first": "a", "second": "b"}', "no text 'preferred'"),
        ('{"prompt": "p", "first": "a", "second": "b", "preferred": "A"}', "the verdict 'A'"),
    ],
)
def test_a_wrong_line_of_a_gold_set_is_named(line, what, tmp_path):
    path = tmp_path / "gold.jsonl"
    path.write_text(f'{{"prompt": "p", "first": "a", "second": "b", "preferred": "tie"}}\n{line}\n')
    with pytest.raises(Exception, match=what):
        read_gold(path)
    (problem,) = WinRate(judge=SERVER, gold=str(path)).problems()
    assert "line 2" in problem.reason
    (problem,) = WinRate(judge=SERVER, gold=str(tmp_path / "none.jsonl")).problems()
    assert "cannot be read" in problem.reason

"""Judges of known bias over a loopback server: each comes out as what it is."""

import math
import random
from types import SimpleNamespace

import pytest
from support import judge_server as stubs

from instruct_lab.data import Conversation, Message
from instruct_lab.evaluation.examples import EvaluatedExamples
from instruct_lab.evaluation.judging import Judging
from instruct_lab.evaluation.measure import metric_values
from instruct_lab.evaluation.notes import value_notes
from instruct_lab.generation import Generation, Prediction
from instruct_lab.metrics import JudgeServer, LengthControlledWinRate, WinRate
from instruct_lab.records.measurement import Measurement
from instruct_lab.records.verdicts import write_verdicts

PAIRS = 96


def pairs(seed=0, count=PAIRS, good=0.7, usual=0.5):
    """Answers of the tuned and of the untuned model: a share is right, and lengths do not depend on that."""
    generator = random.Random(seed)

    def answer(index, share):
        words = "word " * generator.randint(1, 30)
        return f"{index} {words}{'right' if generator.random() < share else 'wrong'}"

    return [(answer(index, good), answer(index, usual)) for index in range(count)]


def judged(metric, answers, tmp_path, split="test"):
    """The values of the win rates of some pairs, with their notes and the lines of the record."""
    conversations = [
        Conversation((Message("user", f"Question {index}?"), Message("assistant", "right")), id=str(index))
        for index in range(len(answers))
    ]
    systems = {
        name: Measurement(
            [Prediction(str(index), split, "", pair[side], ("right",)) for index, pair in enumerate(answers)],
            sources=[""] * len(answers),
        )
        for side, name in ((1, "before"), (0, "after"))
    }
    metrics = {"win_rate": metric, "controlled": LengthControlledWinRate()}
    setup = SimpleNamespace(metrics=metrics, generation=Generation(), selected_by=None)
    examples = {split: EvaluatedExamples(split, conversations, [], conversations)}
    found = Judging(setup, tmp_path / "runs", tmp_path / "cache", "cpu").add_verdicts({split: systems}, examples)
    values, notes = {}, {}
    for system, measurement in found.results[split].items():
        for name, value in metric_values(metrics, measurement).items():
            values[system, name] = value
            notes[system, name] = " | ".join(value_notes(setup, split, system, name, measurement))
    return SimpleNamespace(values=values, notes=notes, lines=found.verdicts, results=found.results)


def ask(decide, tmp_path, answers=None, **settings):
    with stubs.judge_server(decide) as server:
        metric = WinRate(judge=JudgeServer(url=server.url, model="stub", retries=0), **settings)
        found = judged(metric, answers or pairs(), tmp_path)
        found.requests = server.requests
    found.rate, found.controlled = (found.values["after", name] for name in ("win_rate", "controlled"))
    found.note = found.notes["after", "win_rate"]
    return found


@pytest.mark.parametrize(("decide", "position"), [(stubs.first, "first"), (stubs.second, "second")])
def test_a_judge_that_prefers_a_position_decides_nothing_and_is_named_as_biased(decide, position, tmp_path):
    found = ask(decide, tmp_path)
    assert (found.rate.value, found.rate.low, found.rate.high) == (50, 50, 50)
    assert found.controlled.value == pytest.approx(50)
    assert f"position bias: the judge prefers the {position} answer" in found.note
    assert f"contradicted itself in {PAIRS} of {PAIRS} pairs" in found.note
    assert "length bias" not in found.note


def test_a_perfect_judge_finds_the_share_of_right_answers_and_has_no_bias(tmp_path):
    answers = pairs()
    found = ask(stubs.perfect, tmp_path, answers)
    right = [("right" in own) - ("right" in other) for own, other in answers]
    assert found.rate.value == pytest.approx(50 + 50 * sum(right) / PAIRS)
    assert found.rate.low < found.rate.value < found.rate.high
    assert abs(found.controlled.value - found.rate.value) < 3
    assert "bias" not in found.note
    assert "unreliable" not in found.note
    assert f"contradicted itself in 0 of {PAIRS} pairs" in found.note


def test_a_judge_that_prefers_length_is_named_and_is_corrected_by_the_controlled_win_rate(tmp_path):
    answers = [(f"{own}{' more' * 12}" if index % 5 else own, other) for index, (own, other) in enumerate(pairs())]
    found = ask(stubs.longest, tmp_path, answers)
    longer = [(len(own) > len(other)) + (len(own) == len(other)) / 2 for own, other in answers]
    assert found.rate.value == pytest.approx(100 * sum(longer) / PAIRS)
    assert found.rate.value > 60
    assert abs(found.controlled.value - 50) < 7
    assert "length bias: the longer answer wins, whichever system wrote it" in found.note
    assert "position bias" not in found.note


def test_a_judge_that_decides_at_random_is_named_as_unreliable(tmp_path):
    found = ask(stubs.random, tmp_path, pairs(seed=1))
    assert found.rate.low < 50 < found.rate.high
    assert "unreliable: the verdicts in the two orders agree no more than random ones" in found.note
    assert "length bias" not in found.note


def test_replies_without_a_verdict_are_counted_and_the_others_are_used(tmp_path):
    def sometimes(question, a, b):
        return stubs.nonsense(question, a, b) if "Question 1" in question else stubs.perfect(question, a, b)

    found = ask(sometimes, tmp_path)
    unread = sum(str(index).startswith("1") for index in range(PAIRS))
    assert (
        f"{unread} of {PAIRS} pairs were not judged, and are left out ({unread}: the reply holds no verdict)"
        in found.note
    )
    assert f"|unjudged:{unread}" in found.rate.signature
    assert sum(line.score is None for line in found.lines) == unread
    assert not math.isnan(found.rate.value)
    nothing = ask(stubs.nonsense, tmp_path)
    assert math.isnan(nothing.rate.value)
    assert f"{PAIRS} of {PAIRS} pairs were not judged" in nothing.note


@pytest.mark.parametrize(
    ("reply", "has_verdict"),
    [
        ("[[A]] would be said of answer A, but", False),
        ("The form is [[A]] or [[B]]. As to answer B: [", False),
        ("", False),
        ("Answer A is right. [[A]]", True),
        ("**[[A]]**.\n", True),
    ],
)
def test_a_reply_that_was_cut_before_its_verdict_has_none(reply, has_verdict, tmp_path):
    note = ask(lambda question, a, b: reply + stubs.CUT, tmp_path, pairs(count=20)).note
    assert ("the reply reached the limit of tokens before its verdict: set a larger max_tokens" in note) != has_verdict


def test_an_unreachable_server_ends_no_evaluation_and_is_not_asked_for_ever(tmp_path):
    with stubs.judge_server(stubs.first) as server:
        closed = server.url
    judge = JudgeServer(url=closed, model="stub", retries=0, workers=1)
    found = judged(WinRate(judge=judge), pairs(), tmp_path)
    assert math.isnan(found.values["after", "win_rate"].value)
    note = found.notes["after", "win_rate"]
    assert "the server cannot be reached" in note
    assert "not asked, since 5 requests in a row failed" in note


@pytest.mark.parametrize(("status", "requests"), [(401, 1), (404, 1), (307, 1), (400, 5)])
def test_a_server_that_refuses_is_reported_and_is_asked_no_more(status, requests, tmp_path):
    with stubs.judge_server(stubs.first) as other:
        headers = {"Location": f"{other.url}/chat/completions"}
        with stubs.judge_server(stubs.first, status, headers) as server:
            judge = JudgeServer(url=server.url, model="stub", workers=1)
            found = judged(WinRate(judge=judge), pairs(count=20), tmp_path)
            assert len(server.requests) == requests
        assert not other.requests
    assert f"the server answered {status}" in found.notes["after", "win_rate"]


def test_a_busy_server_is_asked_again(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr("instruct_lab.metrics.judges.server.time.sleep", waits.append)
    with stubs.judge_server(stubs.first, 503, {"Retry-After": "7"}) as server:
        judge = JudgeServer(url=server.url, model="stub", workers=1, retries=2)
        judged(WinRate(judge=judge), pairs(count=1), tmp_path)
        assert len(server.requests) == 2 * 3
    assert waits == [7] * 4


def test_each_pair_is_asked_once_in_both_orders_and_equal_answers_are_ties(tmp_path):
    answers = [*pairs(count=10), ("same", "same"), ("", "")]
    found = ask(stubs.perfect, tmp_path, answers)
    assert len(found.requests) == 20
    assert [line.score for line in found.lines[10:]] == [0.5, 0.5]
    assert all(not line.replies and not line.question for line in found.lines[10:])
    assert [reply.first for reply in found.lines[0].replies] == ["answer", "opponent"]
    assert answers[0][0] in found.lines[0].question
    with stubs.judge_server(stubs.perfect) as server:
        judge = JudgeServer(url=server.url, model="stub", timeout_s=5, workers=2)
        kept = judge.key(tmp_path)
        other = JudgeServer(url=server.url, model="other")
        assert kept != other.key(tmp_path)
        assert kept == JudgeServer(url=server.url, model="stub").key(tmp_path)
        for _ in range(2):
            again = judged(WinRate(judge=judge), answers, tmp_path)
        assert len(server.requests) == 20
    assert again.values["after", "win_rate"].value == found.rate.value


@pytest.mark.slow
def test_both_systems_are_judged_against_references_and_other_systems_are_not(tmp_path):
    found = ask(stubs.perfect, tmp_path, against="reference")
    for system, side in (("before", 1), ("after", 0)):
        right = sum("right" in pair[side] for pair in pairs())
        assert found.values[system, "win_rate"].value == pytest.approx(50 * right / PAIRS)
    based = ask(stubs.perfect, tmp_path)
    assert ("before", "win_rate") not in based.values


def test_a_run_without_the_example_and_a_run_that_does_not_exist_are_counted(tmp_path):
    found = ask(stubs.perfect, tmp_path, against="missing-run")
    assert math.isnan(found.rate.value)
    assert f"{PAIRS} of {PAIRS} pairs were not judged" in found.note
    assert "There are no runs yet" in found.note
    empty = ask(stubs.perfect, tmp_path, [("", "other"), ("own", "")], against="missing-run")
    assert "2 of 2 pairs were not judged" in empty.note
    assert [line.score for line in empty.lines] == [None] * 4
    for lines in (empty.lines, []):  # measured again without a judge
        write_verdicts(tmp_path, lines)
        assert (tmp_path / "verdicts.jsonl").exists() == bool(lines)


def test_the_signature_names_settings_that_change_verdicts_but_not_the_port():
    def signature(port=1, **settings):
        return WinRate(judge=JudgeServer(url=f"http://127.0.0.1:{port}/v1", model="stub", **settings)).signature()

    assert signature() == signature(port=2) == signature(workers=7, timeout_s=3)
    others = [signature(temperature=0.7), signature(parameters={"seed": 3}), signature(max_tokens=None)]
    assert len({signature(), *others}) == 4


@pytest.mark.slow
def test_a_gold_set_measures_the_judge(tmp_path):
    gold = tmp_path / "gold.jsonl"
    lines = [
        {"prompt": "p", "first": f"{index} right", "second": "wrong", "preferred": "first" if index < 15 else "second"}
        for index in range(20)
    ]
    gold.write_text("".join(f"{stubs.json.dumps(line)}\n" for line in lines))
    assert (
        "agrees with the gold set on 75.0 % [53.1, 88.8] of 20 pairs"
        in ask(stubs.perfect, tmp_path, gold=str(gold)).note
    )
    assert "agrees with the gold set on 0.0 %" in ask(stubs.first, tmp_path, gold=str(gold)).note


def test_the_key_is_sent_and_never_written(tmp_path, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "verysecret-12345")

    def leaking(question, a, b):
        return "verysecret-12345 [[A]]"

    with stubs.judge_server(leaking) as server:
        judge = JudgeServer(url=server.url, model="stub", key_variable="JUDGE_KEY", parameters={"seed": 3})
        judged(WinRate(judge=judge), pairs(count=3), tmp_path)
        path, headers, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer verysecret-12345"
    assert (body["seed"], body["temperature"], body["model"]) == (3, 0.0, "stub")
    (kept,) = (tmp_path / "cache" / "judgements").iterdir()
    assert "verysecret" not in kept.read_text()
    assert "[[A]]" in kept.read_text()

"""Runs whose answers are judged: by a stub of a server on loopback, and by a model on this machine."""

import json
import math

import pytest
import yaml
from support import judge_server as stubs
from support.lab import TINY, write_lab
from support.records import newest_run

from instruct_lab import cli
from instruct_lab.records import RunRecord
from instruct_lab.records.evaluations import EvaluationFiles

pytestmark = pytest.mark.slow
SHORT = ["trainer.max_steps=2", "optimizer.lr=0.05", "tokenizer=train", "model.tokenizer.vocab_size=400"]
SPLIT = ["evaluation.splits=[test]", "evaluation.max_examples=8"]


def verdicts(folder):
    return [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A folder with two runs that a judge of known bias has judged; the command runs there."""
    folder = tmp_path_factory.mktemp("judged")
    write_lab(folder)
    with pytest.MonkeyPatch.context() as patch, stubs.judge_server(stubs.longest) as server:
        patch.chdir(folder)
        patch.setenv("INSTRUCT_LAB_CACHE", str(folder / "cache"))
        patch.setenv("OTHER_NAME", "abcdef-987654")
        server.words = [
            f"metrics.win_rate.judge.url={server.url}",
            "metrics.win_rate.judge.model=stub",
            "metrics.win_rate.judge.key_variable=OTHER_NAME",
        ]
        server.records = []
        for rank in (2, 4):
            command = ["train", *TINY, *SHORT, *SPLIT, "metrics=[text,judge]", *server.words, f"tuning.r={rank}"]
            assert cli.main(command) == 0
            server.records.append(RunRecord.open(newest_run(folder)))
        server.folder = folder
        yield server


def test_the_win_rate_is_in_the_results_with_the_verdicts_in_the_record(judged, capsys):
    for record in judged.records:
        value = record.summary.value("test/win_rate")
        lines = verdicts(record.path)
        assert len(lines) == value.count == len(record.read_predictions())
        scores = [line["score"] for line in lines]
        longer = [
            (len(one["answer"]) > len(one["opponent"])) - (len(one["answer"]) < len(one["opponent"])) for one in lines
        ]
        assert scores == [0.5 + one / 2 for one in longer]
        assert value.value == pytest.approx(100 * sum(scores) / len(scores))
        predicted = {line.id: line for line in record.read_predictions()}
        assert all(predicted[line["id"]].prediction == line["answer"] for line in lines)
        assert all(predicted[line["id"]].prediction_before == line["opponent"] for line in lines)
        assert {name: line.scores["win_rate"] for name, line in predicted.items()} == {
            line["id"]: 100 * line["score"] for line in lines
        }
        assert "test/length_controlled_win_rate" in record.summary.metrics
        everything = b"".join(file.read_bytes() for file in record.path.rglob("*") if file.is_file())
        assert b"abcdef-987654" not in everything
    assert {headers["Authorization"] for _, headers, _ in judged.requests} == {"Bearer abcdef-987654"}


def test_two_judged_runs_are_compared_by_their_win_rates(judged, capsys):
    paths = [str(record.path) for record in judged.records]
    assert cli.main(["compare", *paths, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    values = [record.summary.value("test/win_rate").value for record in judged.records]
    (difference,) = found["differences"]["test/win_rate"]
    assert abs(difference["value"]) == pytest.approx(abs(values[1] - values[0]))


def test_a_run_is_judged_again_against_another_run_without_asking_twice(judged):
    one, other = judged.records
    command = ["evaluate", str(one.path), "metrics=judge", *judged.words, f"metrics.win_rate.against={other.id}"]
    asked = len(judged.requests)
    assert cli.main([*command, "--name", "duel"]) == 0
    files = EvaluationFiles(one, "duel")
    lines = verdicts(files.folder)
    opponents = {line.id: line.prediction for line in other.read_predictions()}
    assert [line["opponent"] for line in lines if line["system"] == "after"] == [
        opponents[line["id"]] for line in lines if line["system"] == "after"
    ]
    assert files.summary.value("test/win_rate").count == len(opponents)
    assert len(judged.requests) > asked
    asked = len(judged.requests)
    assert cli.main([*command, "--name", "duel", "--replace"]) == 0
    assert len(judged.requests) == asked
    assert cli.main(["evaluate", str(one.path), "metrics=judge", *judged.words, "metrics.win_rate.against=nobody"]) == 2


def test_a_server_elsewhere_needs_consent_that_a_file_cannot_give(judged, capsys):
    study = judged.folder / "experiments"
    study.mkdir(exist_ok=True)
    judge = {"url": "http://judge.example.org/v1", "model": "m"}
    content = yaml.safe_dump({"metrics": {"win_rate": {"judge": judge}}})
    (study / "sent.yaml").write_text(f"# sent: judged elsewhere\n{content}")
    command = ["check", *TINY, "metrics=judge", "experiments=sent"]
    capsys.readouterr()
    assert cli.main(command) == 2
    text = capsys.readouterr()
    assert "--allow judge-server" in text.out + text.err
    assert cli.main([*command, "--allow", "judge-server"]) == 0
    assert cli.main([*command, "metrics.win_rate.judge.url=http://judge.example.org/v1"]) == 0
    assert cli.main([*command, "metrics.win_rate.judge.url=http://127.0.0.1:1/v1"]) == 0
    assert cli.main([*command, "--allow", "judge-server", "evaluation.before=false"]) == 2


def test_an_unreachable_judge_and_a_local_model_end_no_run(judged, capsys):
    with stubs.judge_server(stubs.first) as server:
        closed = server.url
    local = [
        "model@metrics.win_rate.judge.model=tiny_random",
        "metrics.win_rate.against=reference",
        "~metrics.length_controlled_win_rate",
    ]
    judge = f"{{_target_: instruct_lab.metrics.JudgeServer, url: '{closed}', model: m, retries: 0}}"
    unreachable = [f"+metrics.other={{_target_: instruct_lab.metrics.WinRate, judge: {judge}}}"]
    assert cli.main(["train", *TINY, *SHORT, *SPLIT, "metrics=judge_local", *local, *unreachable]) == 0
    record = RunRecord.open(newest_run(judged.folder))
    assert math.isnan(record.summary.value("test/other").value)
    assert "the server cannot be reached" in " ".join(record.summary.value("test/other").notes)
    assert record.manifest.status == "finished"
    for system in ("before", "after"):
        value = record.summary.value("test/win_rate", system)
        assert 0 <= value.value <= 100
    replies = [reply for line in verdicts(record.path) if line["metric"] == "win_rate" for reply in line["replies"]]
    assert replies
    for reply in replies:
        shares = dict(part.split() for part in reply["text"].partition("probabilities: ")[2].rstrip(")").split(", "))
        assert sum(map(float, shares.values())) == pytest.approx(1, abs=1e-3)
        assert reply["verdict"] == max(shares, key=lambda name: float(shares[name]))

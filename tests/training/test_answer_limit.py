"""The maximum length of answers comes from the training answers, and every later command uses the same."""

import json

import pytest
import yaml
from support.exhaustive import exhaustive
from support.lab import TINY, new_lab

from instruct_lab import cli
from instruct_lab.experiment.check import check
from instruct_lab.training.workspace import Workspace

FROM_ANSWERS = ["generation.max_new_tokens=null", "trainer.max_steps=2"]


def limit_of(record):
    return yaml.safe_load((record / "config.yaml").read_text(encoding="utf-8"))["generation"]["max_new_tokens"]


def manifest_of(record):
    return json.loads((record / "manifest.json").read_text(encoding="utf-8"))


def write_rows(lab, *answers):
    rows = [json.dumps({"instruction": f"Say number {n}", "output": answer}) for n, answer in enumerate(answers)]
    (lab / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")


def rounded_length(tiny, answer):
    """The tokens of an answer and its end, rounded up to a multiple of 8."""
    ids = Workspace(check(tiny).or_refuse().experiment).tokenizer(answer, add_special_tokens=False)["input_ids"]
    return -(-(len(ids) + 1) // 8) * 8


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer", ["yes", exhaustive("twelve"), exhaustive("a sentence of the usual length"), "word " * 40 + "end"]
)
def test_a_run_takes_records_and_prints_the_length_of_its_training_answers(lab, tiny, train, capsys, answer):
    write_rows(lab, *[answer] * 40)
    record = train(*FROM_ANSWERS, "evaluation.splits=[]", "preprocessing=none", "evaluation.during_examples=0")
    limit = rounded_length(tiny, answer)
    assert limit_of(record) == limit
    origin = manifest_of(record)["derived"]["generation.max_new_tokens"]
    assert origin.startswith("99% of the training answers have at most")
    assert f"answers: up to {limit} new tokens ({origin})" in capsys.readouterr().err


@pytest.mark.slow
def test_reproducing_resuming_generating_and_exporting_use_the_recorded_length(lab, train, capsys, monkeypatch):
    first = train(*FROM_ANSWERS)
    limit = limit_of(first)
    predictions = [json.loads(line) for line in (first / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert cli.main(["export", str(first), str(lab / "exported")]) == 0
    exported = json.loads((lab / "exported" / "generation_config.json").read_text(encoding="utf-8"))
    assert exported["max_new_tokens"] == limit
    capsys.readouterr()
    assert cli.main(["generate", str(first), predictions[0]["prompt"]]) == 0
    assert capsys.readouterr().out.strip() == predictions[0]["prediction"].strip()
    assert cli.main(["reproduce", str(first)]) == 0
    (second,) = {path.parent for path in lab.glob("runs/*/*/summary.json")} - {first}
    assert limit_of(second) == limit
    assert manifest_of(second)["config_hash"] == manifest_of(first)["config_hash"]
    manifest = manifest_of(second) | {"status": "interrupted"}
    (second / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert cli.main(["resume", str(second)]) == 0
    assert limit_of(second) == limit
    metrics = [json.loads((one / "summary.json").read_text(encoding="utf-8"))["metrics"] for one in (first, second)]
    assert metrics[0] == metrics[1]


@pytest.mark.slow
def test_runs_of_a_sweep_over_the_same_data_have_one_length(lab, tiny):
    assert cli.main(["train", "-m", *tiny, FROM_ANSWERS[0], "tuning.r=2,4"]) == 0
    records = [path.parent for path in lab.glob("runs/*/*/summary.json")]
    assert len(records) == 2
    assert len({limit_of(record) for record in records}) == 1
    assert all("99%" in manifest_of(record)["derived"]["generation.max_new_tokens"] for record in records)


# ---- decoding settings of `generate`


@pytest.fixture(scope="module")
def trained_lab(tmp_path_factory):
    """A folder with one run."""
    with new_lab(tmp_path_factory.mktemp("trained")) as folder:
        short = ("trainer.max_steps=1", "evaluation.splits=[]", "evaluation.during_examples=0")
        assert cli.main(["train", *TINY, *short]) == 0
    return folder


@pytest.fixture
def trained(trained_lab, monkeypatch):
    """The command runs in the folder of the run."""
    monkeypatch.chdir(trained_lab)
    monkeypatch.setenv("INSTRUCT_LAB_CACHE", str(trained_lab / "cache"))


@pytest.mark.slow
def test_generate_takes_decoding_settings(trained, capsys):
    def answer(*options):
        assert cli.main(["generate", "latest", "Say something", *options]) == 0
        return capsys.readouterr().out

    capsys.readouterr()
    greedy = answer()
    assert len(answer("--max-new-tokens", "1")) < len(greedy) < len(answer("--max-new-tokens", "30"))
    assert answer("--temperature", "0") == greedy
    assert answer("--top-p", "1e-9") == greedy
    hot = [answer("--temperature", "2", "--seed", seed) for seed in ("1", "1", "2")]
    assert hot[0] == hot[1] != hot[2]
    assert answer("--temperature", "2", "--top-p", "0.9", "--seed", "1") != greedy


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--max-new-tokens", "0"], "--max-new-tokens 0"),
        (["--temperature", "-1"], "--temperature -1.0"),
        (["--temperature", "nan"], "--temperature nan"),
        (["--top-p", "1.5"], "--top-p 1.5"),
        (["--top-p", "0.5", "--temperature", "0"], "--top-p 0.5"),
        (["--seed", "1"], "--seed 1"),
        (["--seed", "-4", "--temperature", "1"], "--seed -4"),
        (["--max-new-tokens", "1000000"], "max_new_tokens"),
    ],
)
def test_generate_refuses_bad_decoding_settings_in_one_paragraph(trained, capsys, options, named):
    capsys.readouterr()
    assert cli.main(["generate", "latest", "Say something", *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert named in printed.err
    assert len(printed.err.strip().splitlines()) == 1


def test_the_help_lists_the_decoding_settings(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["generate", "--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert all(option in printed for option in ("--max-new-tokens N", "--temperature T", "--top-p P", "--seed N"))

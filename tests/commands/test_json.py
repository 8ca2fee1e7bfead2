"""`--json`: standard output is the results of a command, and nothing else; errors are objects too."""

import json

import pytest
from support.lab import TINY

from instruct_lab import cli
from instruct_lab.records.locate import list_runs

PARSERS = cli._parser().parse_args(["cache", "list"]).parsers
WITHOUT_JSON = {
    "chat": "a conversation with a person; `generate --json` answers a program",
    "dashboard": "serves a page until it is stopped",
    "schema": "its output is JSON",
    "completion": "its output is a script for a shell",
}
"""The commands without `--json`, with the reason."""


def run_json(capsys, *arguments, code=0):
    capsys.readouterr()
    assert cli.main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", PARSERS)
def test_every_command_has_json_or_a_reason(name):
    has_option = "--json" in {text for action in PARSERS[name]._actions for text in action.option_strings}
    assert has_option != (name in WITHOUT_JSON)


@pytest.mark.slow
def test_a_run_is_trained_used_reproduced_and_made_longer(lab, capsys):
    trained = run_json(capsys, "train", "experiments=dry_run", *TINY, "lr_scheduler=constant", "trainer.max_steps=2")
    (listed,) = list_runs(lab / "runs")
    assert trained == {**listed.to_json(), "warnings": trained["warnings"], "summary": trained["summary"]}
    assert trained["summary"] == json.loads((listed.path / "summary.json").read_text(encoding="utf-8"))
    assert trained["metrics"]["test/chrf"] == trained["summary"]["metrics"]["test/chrf"]["after"]["value"]

    answers = run_json(capsys, "generate", "latest", "Turn around number 1", "Turn around number 2")
    assert [one["prompt"] for one in answers] == ["Turn around number 1", "Turn around number 2"]
    assert cli.main(["generate", "latest", "Turn around number 1", "Turn around number 2"]) == 0
    assert capsys.readouterr().out == "".join(f"{one['answer']}\n" for one in answers)

    exported = run_json(capsys, "export", "latest", "model")
    assert (exported["run"], exported["path"], exported["format"]) == (str(listed.path), "model", "hf")
    assert (lab / "model" / "config.json").is_file()

    made = run_json(capsys, "report", "dry_run", "--output", "report.md")
    assert made["path"] == "report.md"
    assert (lab / "report.md").read_text(encoding="utf-8") == made["markdown"] + "\n"

    again = run_json(capsys, "reproduce", trained["id"])
    assert again["reproduction"]["identical"] is True
    assert again["id"] != trained["id"]
    assert again["metrics"] == trained["metrics"]

    longer = run_json(capsys, "resume", trained["id"], "trainer.max_steps=3")
    assert (longer["id"], longer["status"]) == (trained["id"], "finished")


@pytest.mark.slow
def test_a_sweep_is_one_object_and_watched(lab, capsys):
    metric = "sweep.metric=val/perplexity"
    swept = run_json(capsys, "train", *TINY, "trainer.max_steps=1", metric, "-m", "tuning.r=2,4")
    assert swept["status"] == "finished"
    assert [run["id"] for run in swept["runs"]] == [one.id for one in list_runs(lab / "runs")]
    assert swept["metrics"] == ["val/perplexity"]
    assert run_json(capsys, "watch", "latest") == swept
    assert run_json(capsys, "resume", swept["id"])["runs"] == swept["runs"]


def test_a_refused_config_is_an_object_with_its_problems(lab, capsys):
    error = run_json(capsys, "train", *TINY, "tuning.rank=4", "optimizer.lr=-1", code=2)["error"]
    assert error["type"] == "ConfigError"
    assert {problem["key"] for problem in error["problems"]} == {"tuning.rank", "optimizer.lr"}


@pytest.mark.parametrize(
    "arguments", [["generate", "no-such-run", "a"], ["export", "no-such-run", "a"], ["watch", "no-such-sweep"]]
)
def test_an_error_is_an_object_with_what_to_do(arguments, lab, capsys):
    assert cli.main([*arguments, "--json"]) == 2
    output = capsys.readouterr()
    error = json.loads(output.out)["error"]
    assert error["what"]
    assert error["do"]
    assert error["what"].rstrip(".") in output.err, "people read it on standard error"


def test_an_error_hides_secrets(lab, capsys, monkeypatch):
    monkeypatch.setenv("PLANTED_API_KEY", "planted-value-4711")
    assert cli.main(["generate", "planted-value-4711", "a", "--json"]) == 2
    output = capsys.readouterr()
    assert "4711" not in output.out + output.err
    assert json.loads(output.out)


@pytest.mark.slow
def test_a_new_lab_and_permissions(tmp_path, monkeypatch, capsys, few_schemas):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    made = run_json(capsys, "init", str(tmp_path / "mine"))
    files = {path for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    assert {str(path) for path in files} == set(made["files"])
    assert made["code_allowed"] is True
    assert run_json(capsys, "allow", "remote-code")["allow"] == ["remote-code"]
    allowed = run_json(capsys, "allow")
    assert allowed["labs"] == [str(tmp_path / "mine")]

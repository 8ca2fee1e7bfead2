"""`push` uploads what `export` writes to a private repository; a server on this machine stands for the hub."""

import json

import pytest
from support.lab import TINY, new_lab
from support.upload_hub import TOKEN, upload_hub

from instruct_lab import cli


@pytest.fixture
def hub(monkeypatch):
    with upload_hub(monkeypatch) as found:
        yield found


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with one run; the command runs there."""
    with new_lab(tmp_path_factory.mktemp("push")) as folder:
        assert cli.main(["train", *TINY, "trainer.max_steps=1", "evaluation.before=false"]) == 0
        yield folder


def leftovers(folder):
    return [path for path in folder.rglob("*") if "push" in path.name]


@pytest.mark.slow
def test_the_files_of_the_export_arrive_with_card_and_results(run, hub, capsys):
    assert cli.main(["push", "latest", "team/model"]) == 0
    captured = capsys.readouterr()
    assert f"{hub.url}/team/model" in captured.out
    assert hub.private is True
    assert {f"Bearer {TOKEN}"} == {authorization for _, _, authorization in hub.requests if authorization}
    assert cli.main(["export", "latest", str(run / "exported")]) == 0
    exported = {path.name: path.read_bytes() for path in (run / "exported").iterdir()}
    assert {name: hub.files[name] for name in exported} == exported
    results = json.loads(hub.files["results.json"])
    (record,) = (run / "runs").glob("*/2*")
    assert results["metrics"] == json.loads((record / "summary.json").read_text())["metrics"]
    assert results["run"] == record.name
    assert TOKEN not in captured.out + captured.err
    assert not any(TOKEN.encode() in content for content in hub.files.values())
    assert leftovers(run) == []


@pytest.mark.slow
def test_a_dry_run_lists_the_files_and_requests_nothing(run, hub, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert cli.main(["push", "latest", "team/model", "--dry-run"]) == 0
    captured = capsys.readouterr()
    for name in ("README.md", "model.safetensors", "results.json", "tokenizer.json"):
        assert name in captured.out
    assert "private" in captured.err
    assert cli.main(["push", "latest", "team/model", "--dry-run", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["url"], result["public"]) == (None, False)
    assert result["files"]["model.safetensors"] > 1000
    assert hub.requests == []
    assert leftovers(run) == []


@pytest.mark.slow
def test_a_public_repository_is_only_used_when_asked_for(run, hub, capsys):
    hub.private = False
    assert cli.main(["push", "latest", "team/model"]) == 1
    assert "--public" in capsys.readouterr().err
    assert hub.files == {}
    assert cli.main(["push", "latest", "team/model", "--public"]) == 0
    assert "README.md" in hub.files
    assert leftovers(run) == []


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_refusal_of_the_hub_is_one_paragraph(run, hub, capsys, status):
    hub.status = status
    assert cli.main(["push", "latest", "team/model"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "cannot be pushed to team/model" in error
    assert TOKEN not in error
    assert leftovers(run) == []


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached_is_one_paragraph(run, hub, capsys, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert cli.main(["push", "latest", "team/model"]) == 1
    assert "cannot be pushed to team/model" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_an_adapter_whose_base_model_nobody_has_is_refused(run, hub, capsys):
    assert cli.main(["push", "latest", "team/model", "--format", "adapter"]) == 2
    assert "no repository" in capsys.readouterr().err
    assert hub.requests == []
    assert leftovers(run) == []


@pytest.mark.parametrize("name", ["model", "a/b/c", "team/..", "te am/model", "team/", "-team/-model"])
def test_a_name_that_is_no_repository_is_refused(capsys, name):
    assert cli.main(["push", "latest", "--", name] if name.startswith("-") else ["push", "latest", name]) == 2
    assert "ORG/NAME" in capsys.readouterr().err


def test_without_a_token_the_message_names_what_to_type(hub, capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert cli.main(["push", "latest", "team/model"]) == 2
    error = capsys.readouterr().err
    assert "hf auth login" in error
    assert hub.requests == []


def test_requests_that_are_switched_off_are_named(capsys, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert cli.main(["push", "latest", "team/model"]) == 2
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err

"""Ten secrets in the environment, in overrides and in interpolations are in no byte that a command writes or prints."""

import json
import os
import subprocess

import pytest
from support.command_server import command, real_command

STEP = "preprocessing.steps.redact.extra"
ENVIRONMENT = {
    "HF_TOKEN": "hf_" + "aB3" * 12,
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+canary",
    "PLAIN": "canary7-a81fd",
    "ODD": "ca\"n'ary{9}",
    "DATABASE": "postgres://me:urlpw31x@host/db",
    "WORDS": "justplainwords",
}
"""The first three are only there; the last four are read by the config."""
TYPED = {
    "API_KEY": "sk-Canary5678901234567890",
    "PASSWORD": "purplemonkey",
    "AUTH_TOKEN": "tok9abcd1234",
    "ADDRESS": "zebra44pw",
}
READ = ("PLAIN", "ODD", "DATABASE", "WORDS")


@pytest.fixture
def run(lab):
    """Run commands in processes of their own; check their exit codes and their output."""
    home = lab / "home"
    home.mkdir()
    environment = {**os.environ, **ENVIRONMENT, "HOME": str(home)}
    environment.pop("WANDB_SERVICE", None)  # a service that another test has started writes with that test's umask

    def run(*arguments, code=0, **variables):
        started = real_command if arguments[0] == "train" and code == 0 else command
        given = {**environment, **variables}
        done = subprocess.run(started(*arguments), cwd=lab, env=given, capture_output=True)
        assert done.returncode == code, done.stderr.decode()
        assert not found_in(done.stdout + done.stderr)
        return done.stdout.decode() + done.stderr.decode()

    return run


def found_in(content):
    """The planted secrets that a content holds, in any spelling."""
    planted = {**ENVIRONMENT, **TYPED, "DATABASE": "urlpw31x"}
    spelled = {name: {value, json.dumps(value)[1:-1], repr(value)[1:-1]} for name, value in planted.items()}
    return [name for name, texts in spelled.items() if any(text.encode() in content for text in texts)]


def overrides():
    read = [f"{STEP}.{name}=${{oc.env:{name}}}" for name in READ]
    typed = [f"{STEP}.{name}={value}" for name, value in TYPED.items() if name != "ADDRESS"]
    typed += [f"{STEP}.ADDRESS=https://me:{TYPED['ADDRESS']}@host/x", f"{STEP}.SHELL={ENVIRONMENT['HF_TOKEN']}"]
    return [*read, *typed, "preprocessing/step=[redact]", "tracker=[wandb,csv,tensorboard]", "trainer.max_steps=3"]


@pytest.mark.slow
def test_planted_secrets_are_nowhere(run, lab, tiny):
    config = [one for one in tiny if not one.startswith("tracker=")] + overrides()
    assert "${oc.env:PLAIN}" in run("show", *config)
    run("train", *config)
    run("train", *config, "optimizer.lr=1e30", "trainer.gradient_clip_val=null", code=1)
    refused = run("train", *config, "name=${oc.env:HF_TOKEN}", code=2)
    assert "name: names a folder or is sent to a server" in refused
    assert "HF_TOKEN" in refused
    finished, failed = sorted((lab / "runs").glob("*/2*"))
    missing = run("reproduce", str(finished), code=2)
    variable = f"INSTRUCT_LAB_SECRET_{STEP.replace('.', '_').upper()}_PASSWORD"
    assert f"{variable} (the value of {STEP}.PASSWORD)" in missing
    assert len(missing.splitlines()) == 2  # the stage, and one paragraph
    again = {f"INSTRUCT_LAB_SECRET_{STEP.replace('.', '_').upper()}_{name}": value for name, value in TYPED.items()}
    assert "bit-identical" in run("reproduce", str(finished), **again)
    changed = run("reproduce", str(finished), code=2, **{**again, variable: "anothermonkey"})
    assert f"{STEP}.PASSWORD" in changed
    run("export", str(finished), "exported", **again)
    reproduced = max((lab / "runs").glob("*/2*"), key=lambda path: path.name)
    run("compare", str(finished), str(reproduced), "--html", "page.html")
    run("runs", "--json")
    files = [path for path in lab.rglob("*") if path.is_file()]
    assert len(files) > 40
    assert {str(path): found for path in files if (found := found_in(path.read_bytes()))} == {}
    assert json.loads((failed / "manifest.json").read_bytes())["status"] == "failed"
    ours = [path for name in ("runs", "cache", "exported") for path in (lab / name).rglob("*")]
    assert not [path for path in ours if path.stat().st_mode & 0o077 and not path.is_symlink()]

"""Completion of commands, groups, options and keys, also through the scripts in real shells."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from instruct_lab import cli
from instruct_lab.config.options import GROUPS, options
from instruct_lab.editors import listing as listings
from instruct_lab.editors.completion import complete
from instruct_lab.editors.listing import make_listing, read_listing
from instruct_lab.experiment.check import check

PARSERS = cli._parser().parse_args(["cache", "list"]).parsers


@pytest.fixture(scope="module")
def listing():
    return make_listing()


def words(line, listing):
    return complete(line, PARSERS, lambda: listing)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("instruct-lab tr", ["train"]),
        ("instruct-lab train tuning=lo", ["tuning=lora", "tuning=lora_plus"]),
        ("instruct-lab train -m tuning=full,lora_", ["tuning=full,lora_plus"]),
        ("instruct-lab train metrics=[tex", ["metrics=[text"]),
        ("instruct-lab train +tuning=lora_", ["+tuning=lora_plus"]),
        ("instruct-lab train tuning=vera tuning.init", ["tuning.initial_scale="]),
        ("instruct-lab train tuning.use_dora=", ["tuning.use_dora=true", "tuning.use_dora=false"]),
        ("instruct-lab train batching.special_tokens_in_text=p", ["batching.special_tokens_in_text=parse"]),
        ("instruct-lab train model.weig", ["model.weights."]),
        ("instruct-lab train trainer.max_e", ["trainer.max_epochs="]),
        ("instruct-lab train evaluation.max", ["evaluation.max_examples="]),
        ("instruct-lab train see", ["seed="]),
        ("instruct-lab check --mat", ["--matrix"]),
        ("instruct-lab inspect --split v", ["validation"]),
        ("instruct-lab list tun", ["tuning"]),
        ("instruct-lab list tuning rs", ["rslora"]),
        ("instruct-lab cache cl", ["clear"]),
        ("instruct-lab cache --cache elsewhere cl", ["clear"]),
        ("instruct-lab list --allow pickle tun", ["tuning"]),
        ("instruct-lab schema --write out tuning rs", ["rslora"]),
        ("instruct-lab train nothing_like_this.", []),
        ("instruct-lab nothing_like_this ", []),
        ("instruct-lab train 'open", []),
    ],
)
def test_a_line_is_completed(line, expected, listing):
    assert words(line, listing) == expected


def test_an_empty_line_gives_every_command_and_every_option_of_each_group_is_offered(listing):
    assert words("instruct-lab ", listing) == list(PARSERS)
    for group in GROUPS:
        expected = [f"{group}={option.name}" for option in options(group)]
        assert words(f"instruct-lab train {group}=", listing) == expected


@pytest.mark.slow
def test_every_offered_key_exists(listing):
    """Setting a key of the wrong name is an unknown key; of the right name, at most a wrong value."""
    offered = [word for group in ("tuning", "model", "data", "trainer") for word in words(f"x train {group}.", listing)]
    keys = [word.rstrip("=") for word in offered if word.endswith("=")]
    assert len(keys) > 40
    found = check([f"{key}=null" for key in keys if key != "trainer.logger"])
    assert [str(problem) for problem in found.problems if problem.kind == "unknown_key"] == []


def test_runs_are_offered_newest_first(tmp_path, monkeypatch, listing):
    monkeypatch.chdir(tmp_path)
    for run in ("20260101-000000-aaaaaa", "20260102-000000-bbbbbb"):
        (tmp_path / "runs" / "mine" / run).mkdir(parents=True)
    expected = ["latest", "20260102-000000-bbbbbb", "20260101-000000-aaaaaa"]
    for line in ("resume ", "evaluate ", "watch ", "compare latest ", "chat latest "):
        assert words(f"instruct-lab {line}", listing) == expected
    assert words("instruct-lab export 20260101", listing) == ["20260101-000000-aaaaaa"]


def test_files_are_offered_after_path(tmp_path, monkeypatch, listing):
    monkeypatch.chdir(tmp_path)
    for name in ("rows/a.jsonl", "rows/b.csv", "rows/.hidden", "rest.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("", encoding="utf-8")
    assert words("x train data=path:r", listing) == ["data=path:rest.jsonl", "data=path:rows/"]
    assert words("x train data=path:rows/", listing) == ["data=path:rows/a.jsonl", "data=path:rows/b.csv"]
    assert words("x train data=path:rows/.h", listing) == ["data=path:rows/.hidden"]
    assert words(f"x train model=path:{tmp_path}/ro", listing) == [f"model=path:{tmp_path}/rows/"]
    assert words("x train data=path:nowhere/", listing) == []


def test_the_list_is_kept_until_an_option_changes(lab, monkeypatch):
    first = read_listing()
    assert "mine" in first["groups"]["data"]

    def fail():
        raise AssertionError("the list is made again")

    monkeypatch.setattr(listings, "make_listing", fail)
    assert read_listing() == json.loads(json.dumps(first))
    (lab / "conf" / "data" / "more.yaml").write_text("# more: nothing\n{}\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="made again"):
        read_listing()


def test_a_list_that_cannot_be_kept_is_made_each_time(lab, monkeypatch):
    (lab / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("INSTRUCT_LAB_CACHE", str(lab / "file"))
    assert "mine" in read_listing()["groups"]["data"]


def test_a_broken_option_file_leaves_the_others(lab):
    (lab / "conf" / "tuning").mkdir()
    (lab / "conf" / "tuning" / "broken.yaml").write_text("r: [1", encoding="utf-8")
    made = make_listing()
    assert made["keys"]["tuning"]["broken"] == {}
    assert "tuning.r" in made["keys"]["tuning"]["lora"]


# ---- in shells


@pytest.fixture
def program(tmp_path):
    """A folder with the program `instruct-lab`, for PATH."""
    (tmp_path / "bin").mkdir()
    path = tmp_path / "bin" / "instruct-lab"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m instruct_lab.cli "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    root = Path(cli.__file__).parent.parent
    return {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(root)}


def run_bash(line, env, count):
    script = (
        'eval "$(instruct-lab completion bash)"\n'
        f"COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=(instruct-lab)\n"
        '_instruct_lab 2>/dev/null; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    result = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True)
    return result.stdout.split()[:count]


@pytest.mark.slow
def test_bash_completes_the_part_after_the_last_equals_sign(program):
    assert run_bash("instruct-lab train tuning=lo", program, 9) == ["lora", "lora_plus"]
    assert run_bash("instruct-lab tra", program, 9) == ["train"]
    assert run_bash("instruct-lab train tuning.r", program, 9) == ["tuning.r="]
    found = subprocess.run(
        ["bash", "-c", 'eval "$(instruct-lab completion bash)"; complete -p instruct-lab'],
        env=program,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "-F _instruct_lab instruct-lab" in found.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes_commands_options_of_groups_and_files(program, tmp_path):
    script = "instruct-lab completion fish | source; complete -C $argv[1]"
    (tmp_path / "rows.jsonl").touch()
    for line, expected in (
        ("instruct-lab tra", ["train"]),
        ("instruct-lab train -m tuning=full,lora_", ["tuning=full,lora_plus"]),
        ("instruct-lab train data=path:ro", ["data=path:rows.jsonl"]),
    ):
        command = ["fish", "--no-config", "-c", script, line]
        result = subprocess.run(command, env=program, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert result.stdout.split() == expected


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_completes_commands_options_of_groups_and_files(program, tmp_path):
    """A tab in an interactive shell: a whole word is followed by a space, and the beginning of one is not."""
    (tmp_path / "rows.jsonl").touch()
    shell, terminal = pty.fork()
    if shell == 0:
        os.chdir(tmp_path)
        os.execvpe("zsh", ["zsh", "-f", "-i"], {**program, "TERM": "dumb", "PS1": "", "HOME": str(tmp_path)})
    try:
        begin = "autoload -Uz compinit; compinit -u; "
        os.write(terminal, f'{begin}eval "$(instruct-lab completion zsh)"; echo be""gin\n'.encode())
        read_until(terminal, "begin")
        for line, expected in (
            ("instruct-lab tra", "instruct-lab train "),
            ("instruct-lab train -m tuning=full,lora_", "instruct-lab train -m tuning=full,lora_plus "),
            ("instruct-lab train data=path:ro", "instruct-lab train data=path:rows.jsonl "),
            ("instruct-lab train model.weig", "instruct-lab train model.weights."),
        ):
            os.write(terminal, f"\x15{line}\t".encode())  # clear the line, type, tab
            read_until(terminal, expected)
    finally:
        os.kill(shell, signal.SIGKILL)
        os.waitpid(shell, 0)
        os.close(terminal)


def read_until(terminal, expected):
    """Read from a terminal until a text has appeared, without the codes that move the cursor."""
    seen = ""
    while expected not in re.sub(r"\x1b\[[\d?;]*[A-Za-z]|[\x00-\x1f]", "", seen):
        seen += os.read(terminal, 65536).decode()


@pytest.mark.slow
def test_a_completion_loads_no_library_once_the_list_is_kept(program):
    code = (
        "import sys; from instruct_lab import cli\n"
        "code = cli.main(['completion', 'words', 'instruct-lab train tuning=lo'])\n"
        "print(code, [m for m in ('pydantic', 'hydra', 'omegaconf', 'torch', 'yaml') if m in sys.modules])"
    )
    for _ in range(2):  # the first makes the list
        result = subprocess.run([sys.executable, "-c", code], env=program, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["tuning=lora", "tuning=lora_plus", "0 []"]

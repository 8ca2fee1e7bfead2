"""The commands list, show, check and init, and their exit codes."""

import argparse
import importlib
import json
import shlex
import subprocess
import sys

import pytest
import yaml

from instruct_lab import cli
from instruct_lab.config.options import GROUPS, options
from instruct_lab.config.permissions import LAB_CODE, PERMISSIONS
from instruct_lab.experiment.check import check
from instruct_lab.records.identity import config_hash

checking = importlib.import_module("instruct_lab.experiment.check")


def output(capsys, *arguments, code=0):
    assert cli.main(list(arguments)) == code
    return capsys.readouterr().out


# ---- list


def test_list_shows_every_option_with_its_comment(capsys):
    text = output(capsys, "list")
    for group in GROUPS:
        for option in options(group):
            assert f"  {option.name} " in text
            assert option.comment in text


def test_list_of_one_group_as_json(capsys):
    rows = json.loads(output(capsys, "list", "tuning", "--json"))
    assert list(rows) == ["tuning"]
    assert {"lora", "full"} <= {row["option"] for row in rows["tuning"]}
    assert all(row["comment"] for row in rows["tuning"])


def test_list_of_an_unknown_group_names_the_nearest(capsys):
    assert cli.main(["list", "tunning"]) == 2
    assert "tuning" in capsys.readouterr().err


# ---- show


def test_show_names_the_origin_of_each_value(lab, capsys):
    shown = json.loads(output(capsys, "show", "--json", "data=mine", "tuning.r=4", "trainer=cpu", "debug=fast"))
    origins = shown["origins"]
    assert origins["tuning.r"] == "override"
    assert origins["tuning.alpha"] == "tuning/lora.yaml"
    assert origins["trainer.accelerator"] == "trainer/cpu.yaml"
    assert origins["trainer.gradient_clip_val"] == "trainer/auto.yaml"
    assert origins["trainer.max_steps"] == "debug/fast.yaml"
    assert origins["data.train.mine.path"] == "data/mine.yaml"
    assert origins["seed"] == "train.yaml"
    assert origins["optimizer.lr"] == "the rate that suits LoRA"
    assert shown["config"]["tuning"]["r"] == 4
    assert shown["choices"]["data"] == "mine"


@pytest.mark.slow
def test_show_prints_yaml_that_is_the_config(lab, capsys):
    text = output(capsys, "show", "data=mine", "tuning.r=4")
    config = json.loads(output(capsys, "show", "--json", "data=mine", "tuning.r=4"))["config"]
    without_resolved = "\n".join(line.split(" → ")[0] for line in text.splitlines())
    assert yaml.safe_load(without_resolved) == config
    assert all("#" in line for line in text.splitlines() if not line.rstrip().endswith(":"))


def test_show_shows_a_config_that_is_wrong_too(capsys):
    assert cli.main(["show", "tuning.rank=3"]) == 2
    captured = capsys.readouterr()
    assert "rank: 3" in captured.out
    assert "tuning.rank" in captured.err


# ---- check


@pytest.mark.slow
def test_check_imports_no_torch():
    command = [sys.executable, "-X", "importtime", "-m", "instruct_lab.cli", "check"]
    result = subprocess.run(command, capture_output=True, check=True)
    assert b" torch\n" not in result.stderr


@pytest.fixture
def few_groups(monkeypatch):
    """`check --all` over two groups: `tests/test_architecture.py` checks every option of every group once."""
    few = ("batching", "lr_scheduler")
    monkeypatch.setattr(checking, "GROUPS", few)
    return few


@pytest.mark.slow
def test_check_all_counts_what_it_checked(capsys, few_groups):
    report = json.loads(output(capsys, "check", "--all", "--json"))
    assert report["errors"] == []
    assert report["checked"] == sum(len(options(group)) for group in few_groups)


@pytest.mark.slow
def test_a_broken_option_file_does_not_hide_the_others(lab, capsys, few_groups):
    (lab / "conf" / "batching").mkdir()
    (lab / "conf" / "batching" / "broken.yaml").write_text("# broken: not YAML\na: [\n")
    assert cli.main(["check", "--all"]) == 2
    text = capsys.readouterr().out
    assert "wrong batching=broken" in text
    assert "ok    batching=padded" in text
    assert "ok    lr_scheduler=cosine" in text


def test_a_group_can_be_changed_by_adding_and_removing_named_entries():
    changed = check(["metrics=[perplexity,translation]", "metrics.bleu=null", "callbacks.progress.every_steps=3"])
    assert changed.problems == []
    names = set(changed.experiment.active_metrics)
    assert {"perplexity", "chrf"} <= names
    assert "bleu" not in names
    assert changed.experiment.callbacks["progress"].every_steps == 3


@pytest.mark.slow
def test_the_hash_of_a_config_leaves_out_what_is_not_science():
    plain = config_hash(check([]).resolved)
    same = ["runs_path=elsewhere", "cache_path=elsewhere/cache", "tracker=none", "name=other", "trainer=cpu"]
    same.append("callbacks.progress=null")
    assert config_hash(check(same).resolved) == plain
    for override in ("seed=1", "tuning.r=4", "data.limit.train=100", "evaluation.max_examples=5"):
        assert config_hash(check([override]).resolved) != plain


# ---- a lab


@pytest.mark.slow
def test_a_new_lab_is_found_listed_checked_and_trained(tmp_path, monkeypatch, capsys, few_schemas):
    lab = tmp_path / "my_lab"
    assert cli.main(["init", str(lab)]) == 0
    monkeypatch.chdir(lab)
    capsys.readouterr()
    listed = output(capsys, "list")
    examples = [path for path in lab.rglob("*.yaml") if path.parent != lab]
    for path in examples:
        assert f"{path.stem} " in listed
        assert f"# {path.stem}: " in path.read_text(encoding="utf-8")
    for path in examples:
        group = path.parent.relative_to(lab / "conf") if (lab / "conf") in path.parents else path.parent.name
        found = [p for p in checking.check([f"{group}={path.stem}"]).problems if p.kind != "missing"]
        assert found == [], path
    small = ["model=tiny_random", "tracker=none", "generation.max_new_tokens=4"]
    assert cli.main(["train", "experiments=my_study", *small]) == 0
    assert list((lab / "runs" / "my_study").iterdir())


def test_init_overwrites_nothing(tmp_path, capsys):
    precious = tmp_path / "conf" / "data" / "my_data.yaml"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    assert cli.main(["init", str(tmp_path)]) == 2
    assert precious.read_text() == "mine"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [precious]


def test_a_lab_may_hold_only_studies(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    study = "# @package _global_\n# small: rank 2\ntuning:\n  r: 2\n"
    (tmp_path / "experiments" / "small.yaml").write_text(study)
    monkeypatch.chdir(tmp_path)
    checked = check(["experiments=small"])
    assert checked.problems == []
    assert checked.experiment.tuning.r == 2


def test_an_option_with_a_packaged_ones_name_is_refused(lab):
    (lab / "conf" / "tuning").mkdir()
    (lab / "conf" / "tuning" / "lora.yaml").write_text("# lora: mine\n_target_: instruct_lab.tuning.LoRA\nr: 2\n")
    (problem,) = check(["data=mine"]).problems
    assert problem.key == "tuning"
    assert "rename" in problem.reason


@pytest.mark.parametrize("arguments", [["train", "--no-such"], ["nothing"], []])
def test_a_wrong_command_line_exits_with_2(arguments):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "field", "expected"),
    [
        ("compare A --json B", "runs_compared", ["A", "B"]),
        ("chat A --web B", "other", "B"),
        ("list tuning --json lora", "option", "lora"),
        ("runs a=1 --json b=2", "query", ["a=1", "b=2"]),
        ("train a=1 --debug b=2 -m c=3", "overrides", ["a=1", "b=2", "c=3"]),
    ],
)
def test_options_may_stand_between_the_other_arguments(typed, field, expected):
    parsed = cli._parse(typed.split())
    assert getattr(parsed, field) == expected
    assert parsed.command.__name__.startswith(typed.split()[0])


def test_an_unknown_argument_is_reported_with_the_usage_of_its_command(capsys):
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--json", "x"])
    error = capsys.readouterr().err
    assert error.startswith("usage: instruct-lab doctor ")
    assert error.endswith("instruct-lab doctor: error: unknown argument: x\n")


def test_stopping_on_a_validation_that_never_happens_is_refused():
    stop = "callbacks=[default,early_stopping]"
    assert check([stop]).problems == []
    for override in ("data.split.validation=0.0", "trainer.limit_val_batches=0"):
        assert [problem.key for problem in check([stop, override]).problems] == ["callbacks.early_stopping.monitor"]


# ---- help


def parsers():
    (commands,) = (action for action in cli._parser()._actions if action.dest == argparse.SUPPRESS and action.choices)
    return commands.choices


@pytest.mark.parametrize("name", parsers())
def test_every_help_has_two_examples_that_can_be_parsed(name):
    lines = parsers()[name].epilog.splitlines()
    assert lines[0] == "examples:"
    examples = [shlex.split(line) for line in lines[1:]]
    assert len(examples) >= 2
    for program, *arguments in examples:
        assert program == "instruct-lab"
        assert arguments[0] == name
        cli._parser().parse_args(arguments)


def test_the_help_names_every_permission():
    (allowed,) = (action.help for action in parsers()["train"]._actions if "--allow" in action.option_strings)
    assert [name for name in PERMISSIONS if name != LAB_CODE and name not in allowed] == []


def test_parsing_a_command_line_imports_no_library():
    code = (
        "import sys; from instruct_lab import cli; cli._parser().parse_args(['train', 'tuning=lora']); "
        "print([name for name in ('pydantic', 'hydra', 'yaml', 'rich', 'torch') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("num_written", [0, 1, 5])
@pytest.mark.parametrize("exists", [False, True])
def test_init_leaves_nothing_when_it_fails(tmp_path, monkeypatch, capsys, few_schemas, num_written, exists):
    import shutil

    copied = []
    copy = shutil.copyfile

    def fail_later(source, target):
        if len(copied) == num_written:
            target.touch()
            raise OSError(28, "No space left on device")
        copied.append(target)
        return copy(source, target)

    lab = tmp_path / "new" / "lab"
    if exists:
        lab.mkdir(parents=True)
        (lab / "mine.txt").write_text("mine")
    monkeypatch.setattr(shutil, "copyfile", fail_later)
    assert cli.main(["init", str(lab)]) != 0
    assert "No space left" in capsys.readouterr().err
    left = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert [str(path) for path in left] == (["new/lab/mine.txt"] if exists else [])
    assert (tmp_path / "new").exists() == exists
    monkeypatch.setattr(shutil, "copyfile", copy)
    assert cli.main(["init", str(lab)]) == 0

"""A run continues only as it started, unless the user forces it; and a run can be made longer."""

import json
import shutil

import pytest
import yaml
from support.exhaustive import exhaustive
from support.records import logged

from instruct_lab import cli

QUICK = [
    "evaluation.before=false",
    "evaluation.baselines=false",
    "evaluation.during_examples=0",
    "metrics=perplexity",
    "batching.batch_size=12",
    "callbacks.checkpoint.every_steps=1",
    "tuning.dropout=0.2",
]
CONSTANT = ["lr_scheduler=constant", "lr_scheduler.warmup_ratio=null", "lr_scheduler.warmup_steps=2"]
SAME = ("train/loss", "train/lr", "train/gradient_norm", "train/target_tokens", "val/loss")


def values_of(record):
    return {name: logged(record, name) for name in SAME}


def last_weights(record):
    (file,) = record.glob("checkpoints/last-*/*.safetensors")
    return file.read_bytes()


def manifest_of(record):
    return json.loads((record / "manifest.json").read_text())


def mark_as(record, status):
    manifest = manifest_of(record)
    (record / "manifest.json").write_text(json.dumps({**manifest, "status": status}))


@pytest.fixture
def interrupted(train):
    """A run of two epochs of four steps that looks interrupted after its last step."""
    record = train(*QUICK, *CONSTANT, "trainer.max_epochs=2")
    mark_as(record, "interrupted")
    return record


def edit_config(record, change):
    config = yaml.safe_load((record / "config.yaml").read_text())
    change(config)
    (record / "config.yaml").write_text(yaml.safe_dump(config))


def set_key(*path, value):
    def change(config):
        *groups, name = path
        for group in groups:
            config = config[group]
        config[name] = value

    return change


EDITS = {
    "seed 0 → 3": set_key("seed", value=3),
    "optimizer.weight_decay null → 0.5": set_key("optimizer", "weight_decay", value=0.5),
    "trainer.gradient_clip_val 1.0 → null": set_key("trainer", "gradient_clip_val", value=None),
    "batching.batch_size 12 → 6": set_key("batching", "batch_size", value=6),
}


@pytest.mark.slow
def test_an_edited_setting_is_refused_with_its_old_and_new_value(interrupted, capsys):
    whole = (interrupted / "config.yaml").read_text()
    for message, edit in EDITS.items():
        edit_config(interrupted, edit)
        assert cli.main(["resume", "latest"]) == 2
        printed = capsys.readouterr().err
        assert message in printed
        assert printed.count("→") == 1
        assert manifest_of(interrupted)["status"] == "interrupted"
        (interrupted / "config.yaml").write_text(whole)
    edit_config(interrupted, set_key("runs_path", value="other"))  # changes no result
    assert cli.main(["resume", "latest"]) == 0
    assert "continuations" not in manifest_of(interrupted)


@pytest.mark.slow
def test_a_forced_continuation_is_recorded_and_not_refused_again(interrupted, lab, capsys):
    edit_config(interrupted, set_key("optimizer", "weight_decay", value=0.5))
    (lab / "rows.jsonl").write_text("".join((lab / "rows.jsonl").read_text().splitlines(keepends=True)[:-3]))
    assert cli.main(["resume", "latest"]) == 2
    assert "rows.jsonl" in capsys.readouterr().err
    assert cli.main(["resume", "latest", "--force"]) == 0
    assert "changed: optimizer.weight_decay null → 0.5" in capsys.readouterr().err
    (entry,) = manifest_of(interrupted)["continuations"]
    assert {change["name"] for change in entry["changes"]} == {"optimizer.weight_decay", "rows.jsonl"}
    assert entry["step"] == 8
    mark_as(interrupted, "interrupted")
    assert cli.main(["resume", "latest"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"source_sha256": "0" * 64}, "code instruct_lab 000000000000 →"),
        ({"packages": {"torch": "1.0"}}, "package torch 1.0 →"),
    ],
)
def test_other_code_is_refused(interrupted, capsys, entries, message):
    manifest = manifest_of(interrupted)
    (interrupted / "manifest.json").write_text(json.dumps({**manifest, **entries}))
    assert cli.main(["resume", "latest"]) == 2
    assert message in capsys.readouterr().err
    assert cli.main(["resume", "latest", "--force"]) == 0
    assert manifest_of(interrupted)["source_sha256"] == manifest["source_sha256"]


@pytest.mark.slow
def test_another_machine_is_recorded_and_not_refused(interrupted, capsys):
    manifest = manifest_of(interrupted)
    manifest["hardware"] = {**manifest["hardware"], "threads": 77, "memory_bytes": 1}
    (interrupted / "manifest.json").write_text(json.dumps(manifest))
    assert cli.main(["resume", "latest"]) == 0
    assert "another machine, which can change the last digits: machine threads 77 →" in capsys.readouterr().err
    (entry,) = manifest_of(interrupted)["continuations"]
    assert [change["name"] for change in entry["changes"]] == ["threads"]


LONGER = {
    "epochs": (["trainer.max_epochs=1"], ["trainer.max_epochs=3"]),
    "steps within an epoch": (["trainer.max_epochs=-1", "trainer.max_steps=6"], ["trainer.max_steps=11"]),
    "steps at a validation": (
        ["trainer.max_epochs=-1", "trainer.max_steps=6", "trainer.val_check_interval=2"],
        ["trainer.max_steps=9"],
    ),
    "both": (["trainer.max_epochs=1", "trainer.max_steps=3"], ["trainer.max_epochs=2", "trainer.max_steps=7"]),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["epochs", "steps at a validation", exhaustive("steps within an epoch"), exhaustive("both")]
)
def test_a_longer_run_equals_an_undisturbed_one(train, lab, case, capsys):
    limits, longer = LONGER[case]
    undisturbed = train(*QUICK, *CONSTANT, *limits, *longer)
    expected, weights = values_of(undisturbed), last_weights(undisturbed)
    shutil.rmtree(lab / "runs")
    record = train(*QUICK, *CONSTANT, *limits)
    assert len(values_of(record)["train/loss"]) < len(expected["train/loss"])
    capsys.readouterr()
    assert cli.main(["resume", "latest", *longer]) == 0
    assert f"longer: {longer[0].partition('=')[0]}" in capsys.readouterr().err
    assert values_of(record) == expected
    assert last_weights(record) == weights
    manifest = manifest_of(record)
    assert manifest["status"] == "finished"
    assert manifest["continuations"][0]["note"] == ""
    assert cli.main(["reproduce", "latest"]) == 0
    assert "bit-identical" in capsys.readouterr().out


@pytest.mark.slow
def test_a_schedule_that_has_ended_is_extended_only_by_force(train, capsys):
    record = train(*QUICK, "trainer.max_epochs=1", "lr_scheduler=cosine")
    before = values_of(record)
    assert cli.main(["resume", "latest", "trainer.max_epochs=2"]) == 2
    message = capsys.readouterr().err
    assert "of the 4 finished steps are not those of a run of 8 steps" in message
    assert "the result is not that of an undisturbed run" in message
    assert values_of(record) == before
    assert manifest_of(record)["status"] == "finished"
    assert cli.main(["resume", "latest", "trainer.max_epochs=2", "--force"]) == 0
    rates = [rate for _, rate in logged(record, "train/lr")]
    assert len(rates) == 8
    assert rates[4] > rates[3]  # the rate of a run of two epochs
    (entry,) = manifest_of(record)["continuations"]
    assert "not that of an undisturbed run" in entry["note"]


@pytest.mark.slow
def test_only_the_length_of_a_run_can_be_changed_and_only_raised(train, capsys):
    record = train(*QUICK, *CONSTANT, "trainer.max_epochs=2")
    refusals = {
        "optimizer.lr=0.1": "cannot be changed in a run that has started",
        "trainer.max_epochs=x": "cannot be changed",
        "trainer.max_epochs=-1": "cannot be changed",
        "trainer.max_epochs=1": "the limits can only be raised",
        "trainer.max_epochs=2": "has 8 steps, and would have 8",
        "trainer.max_steps=9": "has 8 steps, and would have 8",
    }
    for override, message in refusals.items():
        assert cli.main(["resume", "latest", override]) == 2
        assert message in capsys.readouterr().err
    assert manifest_of(record)["status"] == "finished"
    assert cli.main(["resume", "latest"]) == 2
    assert "trainer.max_epochs=N" in capsys.readouterr().err

"""The titles, tags and options under which trackers list runs."""

import pytest

from instruct_lab.records import RunRecord
from instruct_lab.tracker.names import MAX_LABEL, TAG_GROUPS, group_of, options_of, tags_of, title_of
from instruct_lab.tracker.wandb import wandb_config

CONFIG = {"seed": 3, "tuning": {"r": 8}, "optimizer": {"lr": 0.01}, "trainer": {"max_epochs": 2}}
CHOICES = {"tuning": "lora", "model": "tiny", "data": "mine", "tracker": ["wandb", "csv"], "metrics": "text"}


def record_of(path, overrides, **facts):
    return RunRecord.create(path, "study", CONFIG, overrides, choices=CHOICES, **facts)


@pytest.mark.parametrize(
    ("overrides", "title"),
    [
        (["tuning=lora", "optimizer.lr=0.01"], "lora lr=0.01"),
        (["model=tiny", "++tuning.r=8"], "tiny r=8"),
        (["seed=3"], "seed=3"),
        (["tracker=none"], "study"),
        ([], "study"),
    ],
)
def test_a_run_is_titled_by_what_was_typed(tmp_path, overrides, title):
    record = record_of(tmp_path, overrides)
    assert title_of(record) == f"{title} {record.id}"


@pytest.mark.parametrize(
    ("values", "seed", "title"),
    [
        ({"tuning.r": 8}, None, "r=8"),
        ({"tuning": "lora", "tuning.r": 8}, None, "lora r=8"),
        ({"optimizer.lr": 0.01}, 3, "lr=0.01"),
    ],
)
def test_a_trial_is_titled_by_what_varies_in_its_sweep(tmp_path, values, seed, title):
    overrides = ["model=tiny", "trainer.max_epochs=2"]  # the same in all trials
    record = record_of(tmp_path, overrides, sweep={"id": "sweep-1", "point": 0, "values": values, "seed": seed})
    assert title_of(record) == f"{title} {record.id}"
    assert group_of(record, CHOICES) == "sweep-1"


def test_a_long_title_keeps_whole_parts_and_the_id(tmp_path):
    config = {f"setting_with_a_long_name_{number}": number for number in range(30)}
    record = RunRecord.create(tmp_path, "study", config, [f"{key}={value}" for key, value in config.items()])
    title = title_of(record)
    assert title.endswith(record.id)
    assert len(title) <= MAX_LABEL + 1 + len(record.id)


def test_only_the_main_groups_are_tags_and_all_groups_are_options():
    assert tags_of(CHOICES) == ["model=tiny", "data=mine", "tuning=lora"]
    assert options_of(CHOICES)["tracker"] == "wandb+csv"
    assert len(TAG_GROUPS) == 8
    assert len(tags_of(dict.fromkeys((*TAG_GROUPS, "metrics", "template"), "x"))) == 8


def test_wandb_can_group_runs_by_the_chosen_option():
    found = wandb_config(CONFIG, CHOICES)
    assert found["tuning"] == "lora"
    assert found["tracker"] == "wandb+csv"
    assert found["seed"] == 3
    assert found["settings"] == CONFIG
    assert found["settings"]["tuning"]["r"] == 8

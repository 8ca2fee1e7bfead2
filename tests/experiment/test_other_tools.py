"""Keys and options that users bring from other tools are answered with ours, and each answer works."""

import json

import pytest

from instruct_lab import cli
from instruct_lab.config.compose import compose
from instruct_lab.config.options import options
from instruct_lab.experiment.check import check
from instruct_lab.experiment.other_tools import KEYS, NOT_THERE, OPTIONS, VALUE, overrides_for

VALUES = {  # a value that the key can have; 1 for all others
    "optimizer.lr": 2e-4,
    "optimizer.betas": 0.95,
    "optimizer": "adamw_torch",
    "lr_scheduler": "cosine_with_restarts",
    "lr_scheduler.warmup_ratio": 0.1,
    "trainer.precision": "32-true",
    "tuning": "lora",
    "tuning.dropout": 0.1,
    "tuning.target_modules": ["q_proj", "v_proj"],
    "model.gradient_checkpointing": True,
    "model.trust_remote_code": False,
    "model.attention": "eager",
    "model.dtype": "float32",
    "model": "my_model",
    "data": "ROWS",
    "data.split.validation": 0.1,
    "objective": "sft",
    "objective.label_smoothing": 0.1,
    "runs_path": "out",
    "name": "mine",
    "tracker": "wandb",
    "tracker.wandb.project": "mine",
    "callbacks.checkpoint.monitor": "val/loss",
    "generation": 0.5,
    "generation.repetition_penalty": 1.1,
}
BY_NAME = {"temperature": 0.5, "top_p": 0.5, "top_k": 5, "beta": 0.2, "warmup_steps": 3, "max_seq_length": 128}
UNAVAILABLE = ("tuning=qlora", "model.quantization=8bit", "trainer.precision=16-mixed", "model=hub:my_model")
"""Overrides that need a GPU, a package or a model of the Hub, which this test does not have."""
NAMES = [names[0] for names in KEYS]


def value_of(name, rows):
    first = overrides_for(name, "x")[0].partition("=")[0]
    value = BY_NAME.get(name, VALUES.get(first, 1))
    return str(rows) if value == "ROWS" else value


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    file.write_text((json.dumps(row) + "\n") * 20, encoding="utf-8")
    return file


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_overrides_for_a_key_of_another_tool_are_right(name, rows):
    overrides = overrides_for(name, value_of(name, rows))
    assert overrides
    checked = check([*overrides, "tracker=none"] if "tracker" not in overrides[0] else overrides, settings_only=True)
    keys = {override.partition("=")[0] for override in overrides}
    wrong = [
        problem
        for problem in checked.problems
        if problem.key in keys or problem.kind in ("unknown_key", "unknown_option", "missing")
    ]
    assert wrong == [] or set(overrides) & set(UNAVAILABLE), [str(problem) for problem in wrong]
    assert all(problem.kind not in ("unknown_key", "unknown_option") for problem in checked.problems)


def test_the_hinted_keys_are_in_the_composed_config_or_are_fields_of_it():
    """A key that composes but that nothing reads is an unknown key, which `check` finds."""
    lines = {override for line in KEYS.values() for override in line.replace(VALUE, "null").split()}
    values = [line for line in lines if "." in line.partition("=")[0]]
    base = ["objective=dpo", "callbacks=[default,early_stopping]", "data=local_messages", "model=hub"]
    assert compose([*base, *values]).problems == []
    found = check([*base, *values]).problems
    assert not [problem.key for problem in found if problem.kind == "unknown_key"]


@pytest.mark.parametrize("group", OPTIONS)
def test_options_of_other_tools_are_not_ours_and_give_options_that_are(group):
    known = {option.name for option in options(group)}
    assert set(OPTIONS[group].values()) <= known
    assert not set(OPTIONS[group]) & known


def test_a_key_that_has_no_equivalent_is_no_field_anywhere():
    names = {name for group in NOT_THERE for name in group}
    found = check([f"{name}=1" for name in names]).problems
    assert {problem.key for problem in found if problem.kind == "unknown_key"} == names


def test_no_name_is_listed_twice():
    names = [name for names in [*KEYS, *NOT_THERE] for name in names]
    assert len(names) == len(set(names))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "suggestion"),
    [
        ("learning_rate=2e-4", "optimizer.lr=0.0002"),
        ("training_args.learning_rate=2e-4", "optimizer.lr=0.0002"),
        ("optimizer.learning_rate=2e-4", "optimizer.lr=0.0002"),
        ("tuning.rank=8", "tuning.r=8"),
        ("tuning.lora_alpha=8", "tuning.alpha=8"),
        ("trainer.num_train_epochs=2", "trainer.max_epochs=2"),
        ("fp16=true", "trainer.precision=16-mixed"),
        ("optim=adamw_torch", "optimizer=adamw"),
        ("lr_scheduler_type=constant_with_warmup", "lr_scheduler=constant"),
        ("lora_target_modules=[q_proj,v_proj]", "'tuning.target_modules=[q_proj,v_proj]'"),
        ("dpo=true", "objective=dpo"),
        ("qlora=true", "tuning=qlora"),
        ("objective=sft", "supervised"),
        ("optimizer=adamw_torch", "adamw"),
        ("tuning=prefix", "prefix_tuning"),
        ("data=sharegpt", "local_sharegpt"),
        ("output_dir=a (b)", "'runs_path=\"a (b)\"'"),
    ],
)
def test_the_hint_is_printed(override, suggestion, capsys):
    assert cli.main(["check", "--json", override]) == 2
    errors = json.loads(capsys.readouterr().out)["errors"]
    assert [error["suggestion"] for error in errors] == [suggestion]


def test_a_setting_that_is_off_is_left_out(capsys):
    assert cli.main(["check", "fp16=false", "packing=true"]) == 2
    printed = capsys.readouterr().err
    assert "leave it out" in printed
    assert "group_by_length" in printed
    assert "Did you mean" not in printed


@pytest.mark.parametrize(
    "override", ["generation.batch_size=8", "batching.evaluation_batch_size=8", "per_device_eval_batch_size=8"]
)
def test_sizes_of_evaluation_batches_are_answered_with_the_limit_of_tokens(override, capsys):
    assert cli.main(["check", override]) == 2
    printed = capsys.readouterr().err
    assert "evaluation.batch_tokens" in printed
    assert "batching.batch_size" not in printed


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--learning_rate", "2e-4"], "optimizer.lr=0.0002"),
        (["--learning-rate=2e-4", "--fp16"], "optimizer.lr=0.0002 trainer.precision=16-mixed"),
        (["--fp16", "--lora_r", "8"], "trainer.precision=16-mixed tuning.r=8"),
        (["--tuning.r", "8"], "tuning.r=8"),
        (["--name", "a (b)"], "'name=\"a (b)\"'"),
    ],
)
def test_settings_with_dashes_are_answered_with_overrides(arguments, line, capsys):
    with pytest.raises(SystemExit) as refused:
        cli.main(["train", *arguments])
    assert refused.value.code == 2
    assert capsys.readouterr().err.strip().endswith(f"without dashes: {line}")

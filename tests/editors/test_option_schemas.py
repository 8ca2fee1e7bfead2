"""JSON Schemas: they accept every shipped option, study and composed config, and refuse planted mistakes."""

import copy
import functools
import json
import shutil

import jsonschema
import pytest
import yaml
from omegaconf import OmegaConf

from instruct_lab import cli
from instruct_lab.config.compose import compose
from instruct_lab.config.options import GROUPS, options, packaged_conf
from instruct_lab.editors.schema import (
    config_schema,
    group_schema,
    import_lab_classes,
    is_change_of_all,
    option_schema,
    schema_name,
    write_schemas,
)


def problems(schema, content):
    """The path and message of everything that a schema refuses."""
    found = jsonschema.Draft7Validator(schema).iter_errors(content)
    return [f"{error.json_path}: {error.message}" for error in found]


known_schema = functools.cache(group_schema)


def content_of(path):
    return OmegaConf.to_container(OmegaConf.load(path), resolve=False)


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_every_shipped_option_is_accepted(group):
    schema, whole = group_schema(group), config_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    wrong = {
        option.name: found
        for option in options(group)
        if (found := problems(whole if is_change_of_all(option.path) else schema, content_of(option.path)))
    }
    assert wrong == {}


@pytest.mark.slow
def test_the_primary_config_and_a_composed_one_are_accepted():
    schema = config_schema()
    assert problems(schema, content_of(packaged_conf() / "train.yaml")) == []
    for overrides in ([], ["experiments=dry_run"], ["data=mixture", "tuning=dora", "metrics=summarization"]):
        composed = OmegaConf.to_container(compose(overrides).config, resolve=False)
        assert problems(schema, composed) == []


LORA = {"_target_": "instruct_lab.tuning.LoRA"}
FILES = {
    "_target_": "instruct_lab.data.DataSet",
    "train": {"file": {"_target_": "instruct_lab.data.Files", "path": "a.jsonl"}},
    "format": {"_target_": "instruct_lab.data.Alpaca"},
}
MISTAKES = [
    ("tuning", LORA, {"rank": 4}),
    ("tuning", LORA, {"r": 0}),
    ("tuning", LORA, {"r": "four"}),
    ("tuning", LORA, {"r": 4.5}),
    ("tuning", LORA, {"dropout": 1.5}),
    ("tuning", LORA, {"bias": "some"}),
    ("tuning", LORA, {"use_dora": "yes"}),
    ("tuning", LORA, {"_target_": "instruct_lab.tuning.Lora"}),
    ("tuning", LORA, {"_target_": "instruct_lab.optimizer.AdamW"}),
    ("tuning", {"r": 4}, {}),
    ("data", FILES, {"train": {"file": {"_target_": "instruct_lab.data.Files"}}}),
    ("data", FILES, {"train": {"file": {"_target_": "instruct_lab.data.Files", "path": "a", "format": "csv"}}}),
    ("data", FILES, {"train": "a.jsonl"}),
    ("data", FILES, {"format": {"_target_": "instruct_lab.data.Files", "path": "a"}}),
    ("data", FILES, {"limit": {"testing": 3}}),
    ("data", FILES, {"max_broken_share": 2}),
    ("optimizer", {"_target_": "instruct_lab.optimizer.AdamW"}, {"learning_rate": 1e-3}),
    ("optimizer", {"_target_": "instruct_lab.optimizer.AdamW"}, {"lr": -1.0}),
    ("trainer", {"_target_": "pytorch_lightning.Trainer"}, {"max_epoch": 3}),
    (
        "metrics",
        {"chrf": {"_target_": "instruct_lab.metrics.ChrF"}},
        {"chrf": {"_target_": "instruct_lab.metrics.Chrf"}},
    ),
    ("callbacks", {"ema": {"_target_": "instruct_lab.callbacks.WeightAverage"}}, {"ema": {"decay": 0.9}}),
    (
        "tracker",
        {"wandb": {"_target_": "instruct_lab.tracker.Wandb"}},
        {"wandb": {"_target_": "instruct_lab.tracker.Wandb", "proyect": "a"}},
    ),
    ("pruner", {"_target_": "instruct_lab.sweep.Median"}, {"warmup": 2}),
    ("hydra/launcher", {"_target_": "instruct_lab.sweep.Processes"}, {"workers": 2}),
    ("generation", {"_target_": "instruct_lab.generation.Generation"}, {"max_new_tokens": 0}),
    ("experiments", {"tuning": {"r": 4}}, {"tunning": {"r": 4}}),
    ("experiments", {"tuning": {"r": 4}}, {"tuning": {"rank": 4}}),
    ("experiments", {"optimizer": {"lr": 1e-3}}, {"optimizer": {"lr": "fast"}}),
    ("experiments", {"sweep": {"seeds": 3}}, {"sweep": {"seed": 3}}),
    ("experiments", {"evaluation": {"splits": ["test"]}}, {"evaluation": {"splits": ["dev"]}}),
    ("experiments", {"trainer": {"max_epochs": 2}}, {"trainer": {"epochs": 2}}),
]


@pytest.mark.parametrize(("group", "right", "mistake"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_planted_mistake_is_refused(group, right, mistake):
    schema = known_schema(group)
    assert problems(schema, {**copy.deepcopy(right), **mistake}) != []
    if mistake:
        assert problems(schema, right) == [], "the mistake is the reason"


@pytest.mark.parametrize("value", ["${seed}", "???", "a ${name}"])
@pytest.mark.parametrize("field", ["r", "dropout", "use_dora", "bias", "target_modules"])
def test_a_value_that_is_known_later_is_accepted(field, value):
    assert problems(known_schema("tuning"), {**LORA, field: value}) == []


def test_a_class_of_somebody_else_is_accepted_and_its_fields_are_not_judged():
    assert problems(group_schema("tuning"), {"_target_": "my_methods.LoHa", "anything": 1}) == []


def test_a_schema_describes_fields_with_their_meaning_and_default():
    fields = group_schema("tuning")["definitions"]["LoRA fields"]["properties"]
    assert fields["r"]["description"] == "rank of the update"
    assert fields["r"]["default"] == 16
    assert "Low-rank" in fields["_target_"]["description"]


# ---- commands


@pytest.mark.slow
def test_the_command_prints_the_schema_of_an_option_a_group_and_the_whole(capsys):
    printed = []
    for arguments in ([], ["tuning"], ["tuning", "lora"], ["tuning", "qlora"]):
        assert cli.main(["schema", *arguments]) == 0
        printed.append(json.loads(capsys.readouterr().out))
    whole, group, lora, qlora = printed
    assert "tuning" in whole["properties"]
    assert group == group_schema("tuning")
    assert lora == {**group, "title": "tuning=lora", "description": lora["description"]}
    assert "low-rank adapters" in lora["description"]
    assert qlora["properties"] == whole["properties"]
    assert cli.main(["schema", "tunning"]) == 2
    assert "tuning" in capsys.readouterr().err


@pytest.mark.slow
def test_a_new_lab_names_a_schema_in_each_file_that_accepts_it(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    assert cli.main(["init", str(folder)]) == 0
    files = [path for path in folder.rglob("*.yaml") if path.name != "lab.yaml"]
    assert len(files) > 8
    for path in files:
        (line,) = [text for text in path.read_text(encoding="utf-8").splitlines() if "yaml-language-server" in text]
        schema = (path.parent / line.partition("$schema=")[2]).resolve()
        assert schema.is_relative_to(folder.resolve())
        assert problems(json.loads(schema.read_text(encoding="utf-8")), content_of(path)) == []
    monkeypatch.chdir(folder)
    mine = {option.name: option.comment for group in GROUPS for option in options(group) if option.from_lab}
    assert all(comment and "yaml-language-server" not in comment for comment in mine.values())


@pytest.mark.slow
def test_classes_of_a_lab_whose_code_may_run_are_known(tmp_path, monkeypatch, lab_code_allowed):
    assert cli.main(["init", str(tmp_path / "mine")]) == 0
    monkeypatch.chdir(tmp_path / "mine")
    import_lab_classes()
    right = yaml.safe_load((tmp_path / "mine" / "conf" / "tuning" / "my_loha.yaml").read_text(encoding="utf-8"))
    schema = group_schema("tuning")
    assert problems(schema, right) == []
    assert problems(schema, {**right, "rank": 3}) != []


@pytest.mark.slow
def test_schemas_are_written_again(tmp_path):
    written = write_schemas(tmp_path / ".schemas")
    assert {path.name for path in written} == {schema_name(group) for group in GROUPS}
    before = {path: path.read_bytes() for path in written}
    shutil.rmtree(tmp_path / ".schemas")
    assert {path: path.read_bytes() for path in write_schemas(tmp_path / ".schemas")} == before


@pytest.mark.slow
def test_the_schema_of_an_option_is_that_of_its_file():
    for option in options("tuning"):
        assert problems(option_schema(option), content_of(option.path)) == []

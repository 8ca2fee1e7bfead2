"""What the data cache holds for a whole run, and what makes it build again."""

import json
import logging
from pathlib import Path

import pytest

from instruct_lab import cli
from instruct_lab.cache import Store
from instruct_lab.data import Audit
from instruct_lab.experiment.check import check
from instruct_lab.training.datamodule import InstructionData


@pytest.fixture
def load(lab, tiny):
    """Compose and load the data; gives it, with the names of the stages that were built."""

    def run(*overrides):
        experiment = check([*tiny, *overrides]).or_refuse().experiment
        cache = Path(experiment.cache_path)
        before = {entry.key for entry in Store(cache).entries()}
        audit = Audit()
        data = InstructionData(experiment, experiment.model.load_tokenizer(cache), cache, audit)
        built = [entry for entry in Store(cache).entries() if entry.key not in before]
        return data, sorted(entry.manifest["name"] for entry in built), audit.to_json()

    return run


STEPS = ["preprocessing/clean", "preprocessing/deduplicate", "preprocessing/normalize"]


def test_the_second_time_nothing_is_built_and_the_data_is_the_same(load) -> None:
    first, built, facts = load()
    assert built == ["batching", "data", "overlap", *STEPS]
    again, built, facts_again = load()
    assert built == []
    assert facts_again == facts
    assert again.fingerprint == first.fingerprint
    for split in ("train", "validation", "test"):
        assert list(again.examples[split]) == list(first.examples[split])
        assert list(again.conversations[split]) == list(first.conversations[split])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "rebuilt"),
    [
        ("batching.batch_size=3", []),
        ("batching.group_by_length=false", []),
        ("seed=5", []),
        ("tuning=full", []),
        ("batching.max_tokens=300", ["batching"]),
        ("batching.overlong=truncate_prompt", ["batching"]),
        ("template=alpaca", ["batching"]),
        ("template.train_on=all", ["batching"]),
        ("preprocessing.steps.deduplicate=null", ["batching", "overlap"]),
        ("preprocessing.steps.deduplicate.by=prompt", ["batching", "overlap", "preprocessing/deduplicate"]),
        ("preprocessing.steps.clean.strip=false", ["batching", "overlap", *STEPS[:2]]),
        ("preprocessing.steps.deduplicate.weight=-1", ["batching", "overlap", *STEPS]),
        ("data.overlap=allow", ["batching", "data", *STEPS]),
        ("data.split.seed=3", ["batching", "data", "overlap", *STEPS]),
    ],
)
def test_a_changed_option_rebuilds_from_its_stage_on(load, override, rebuilt) -> None:
    load()
    assert load(override)[1] == rebuilt


def test_a_changed_byte_rebuilds_and_a_renamed_file_does_not(load, lab) -> None:
    first, _, _ = load()
    file = lab / "rows.jsonl"
    file.rename(lab / "renamed.jsonl")
    same, built, _ = load("data.train.mine.path=renamed.jsonl")
    assert built == []
    assert [found.name for found in same.inputs] == ["renamed.jsonl"], "the record has the current name"
    text = (lab / "renamed.jsonl").read_text()
    file.write_text(text.replace("red", "rod", 1))
    changed, built, _ = load()
    assert "data" in built
    assert changed.fingerprint != first.fingerprint


def test_a_changed_tokenizer_rebuilds_only_the_examples(load, monkeypatch) -> None:
    load()
    from instruct_lab.model import Decoder

    original = Decoder.load_tokenizer

    def changed(self, cache_path):
        tokenizer = original(self, cache_path)
        tokenizer.chat_template = (tokenizer.chat_template or "") + " "
        return tokenizer

    monkeypatch.setattr(Decoder, "load_tokenizer", changed)
    assert load()[1] == ["batching"]


def test_a_damaged_table_is_built_again(load, lab, caplog) -> None:
    first, _, _ = load()
    damaged = Path(first.examples["train"].path)
    fingerprint, content = first.fingerprint, damaged.read_bytes()
    del first
    damaged.write_bytes(content[:200] + bytes([content[200] ^ 255]) + content[201:])
    with caplog.at_level(logging.WARNING):
        again, _, _ = load()
    assert "damaged" in caplog.text
    assert again.fingerprint == fingerprint


@pytest.mark.slow
def test_cache_list_and_clear(load, lab, capsys) -> None:
    load()
    capsys.readouterr()
    assert cli.main(["cache", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert sorted(entry["name"] for entry in listed) == ["batching", "data", "overlap", *STEPS]
    assert all(entry["bytes"] > 0 for entry in listed)
    encoded = next(entry for entry in listed if entry["name"] == "batching")
    assert encoded["rows"]["train"] > 30
    assert cli.main(["cache", "list"]) == 0
    assert "6 results" in capsys.readouterr().out
    assert cli.main(["cache", "clear", "--older-than", "1"]) == 0
    assert "0 results removed" in capsys.readouterr().out
    assert cli.main(["cache", "clear", encoded["key"][:8], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == [encoded["key"]]
    assert cli.main(["cache", "clear", "nothing-like-it"]) == 2
    assert "No cached result" in capsys.readouterr().err
    assert cli.main(["cache", "clear"]) == 0
    assert "5 results removed" in capsys.readouterr().out
    assert not Store(lab / "cache").entries()

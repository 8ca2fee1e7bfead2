"""What the runs of one process share, and what they must not: base weights and the base model's evaluation."""

import json
from dataclasses import replace

import pytest
import torch

from instruct_lab.evaluation import base_model
from instruct_lab.experiment.check import check
from instruct_lab.model import Decoder, LocalFolder, Tokenizer
from instruct_lab.model.digest import weights_digest
from instruct_lab.training.shared import SharedModels
from instruct_lab.training.workspace import Workspace


def test_weights_are_loaded_once_and_again_after_a_run_changed_them(lab, tiny):
    experiment, shared, loads = check(tiny).or_refuse().experiment, SharedModels(), []

    def load():
        loads.append(1)
        return Workspace(experiment).base().loaded

    def shared_model(private):
        loaded, digest = shared.model("key", load, private)
        return loaded.model, digest

    first, expected = shared_model(private=True)
    assert weights_digest(first) == expected
    with torch.no_grad():
        next(first.parameters()).add_(1)  # its own copy
    second, digest = shared_model(private=False)
    assert weights_digest(second) == digest == expected
    assert len(loads) == 1
    next(second.parameters()).requires_grad_(False)  # of its own module, around the same numbers
    third, _ = shared_model(private=False)
    assert next(third.parameters()).requires_grad
    assert next(third.parameters()).data_ptr() == next(second.parameters()).data_ptr()
    assert len(loads) == 1
    with torch.no_grad():
        next(third.parameters()).add_(1)  # which no method that shares weights does
    assert weights_digest(shared_model(private=False)[0]) == expected
    assert len(loads) == 2


@pytest.mark.slow
def test_the_tokenizer_is_loaded_once_and_again_after_a_run_changed_it(lab, tiny, monkeypatch):
    experiment, shared = check(tiny).or_refuse().experiment, SharedModels()
    first = Workspace(experiment, shared=shared).tokenizer
    assert Workspace(experiment, shared=shared).tokenizer is first
    other = check([*tiny, "model.tokenizer.extra_tokens=[twelve]"]).or_refuse().experiment
    assert Workspace(other, shared=shared).tokenizer is not first
    first = Workspace(experiment, shared=shared).tokenizer
    first.add_tokens(["elf"])
    again = Workspace(experiment, shared=shared).tokenizer
    assert again is not first
    assert "elf" not in again.get_vocab()


def test_a_tokenizer_that_is_trained_on_the_data_is_not_shared(lab, tiny):
    experiment, shared = check([*tiny, "tokenizer=train"]).or_refuse().experiment, SharedModels()
    first = Workspace(experiment, shared=shared).tokenizer
    assert Workspace(experiment, shared=shared).tokenizer is not first


def test_weights_whose_file_changed_are_not_the_shared_ones(lab, tiny, tmp_path):
    experiment = check(tiny).or_refuse().experiment
    loaded = Workspace(experiment).base().loaded
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    model = Decoder(weights=LocalFolder(path=str(tmp_path)))
    experiment = replace(experiment, model=model)
    first = Workspace(experiment).base_key()
    assert Workspace(experiment).base_key() == first
    with torch.no_grad():
        next(loaded.model.parameters()).add_(1)
    loaded.model.save_pretrained(tmp_path)
    assert Workspace(experiment).base_key() != first


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["of the weights", "its own"])
def test_a_tokenizer_whose_file_changed_is_loaded_again(lab, tiny, tmp_path, folder):
    experiment, shared = check(tiny).or_refuse().experiment, SharedModels()
    loaded = Workspace(experiment).base().loaded
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    if folder == "its own":
        experiment = replace(experiment, model=replace(experiment.model, tokenizer=Tokenizer(source=str(tmp_path))))
    else:
        experiment = replace(experiment, model=Decoder(weights=LocalFolder(path=str(tmp_path))))
    first = Workspace(experiment, shared=shared).tokenizer
    assert Workspace(experiment, shared=shared).tokenizer is first
    loaded.tokenizer.add_tokens(["elf"])
    loaded.tokenizer.save_pretrained(tmp_path)
    again = Workspace(experiment, shared=shared).tokenizer
    assert "elf" in again.get_vocab()
    assert "elf" not in first.get_vocab()


def test_tied_weights_stay_tied_in_a_shared_model(lab, tiny):
    experiment = check([*tiny, "model=tiny_encoder_decoder", "template=contents"]).or_refuse().experiment
    loaded, _ = SharedModels().model("key", lambda: Workspace(experiment).base().loaded, private=True)
    given = loaded.model
    assert given.get_input_embeddings().weight is given.get_encoder().embed_tokens.weight


@pytest.mark.slow
def test_the_base_model_is_evaluated_once_for_the_same_question(train, lab, monkeypatch):
    measured = []
    measure = base_model.measure
    monkeypatch.setattr(base_model, "measure", lambda *a, **k: (measured.append(1), measure(*a, **k))[1])
    first = train("trainer.max_steps=2", "tuning.r=2")
    count = len(measured)
    assert count == 2  # validation and test
    second = train("trainer.max_steps=2", "tuning.r=4")  # another run, the same base model
    assert len(measured) == count
    assert json.loads((second / "before.json").read_text()) == json.loads((first / "before.json").read_text())
    train("trainer.max_steps=1", "generation.max_new_tokens=4")
    assert len(measured) == 2 * count
    train("trainer.max_steps=2", "model.weights.seed=1")
    assert len(measured) == 3 * count
    train("trainer.max_steps=2", "metrics=perplexity")
    assert len(measured) == 4 * count


@pytest.mark.slow
def test_the_measurement_of_equal_examples_is_read_under_any_name(train, lab, monkeypatch):
    """The same rows are the test split, then the validation split; others are both, from a source of another name."""
    measured = []
    measure = base_model.measure
    monkeypatch.setattr(base_model, "measure", lambda *a, **k: (measured.append(1), measure(*a, **k))[1])
    options = ["trainer.max_steps=1", "evaluation.max_examples=null", "metrics=[text,perplexity]"]

    def before(validation, test, *overrides):
        record = train(*options, f"data.split.validation={validation}", f"data.split.test={test}", *overrides)
        return json.loads((record / "before.json").read_text())

    first = before(0, 0.15)["test"]["before"]
    second = before(0.15, 0)["validation"]["before"]
    assert len(measured) == 1
    assert second["rows"] == first["rows"]
    assert {one["split"] for one in second["predictions"]} == {"validation"}
    rows = [{"instruction": f"Say {number}", "output": str(number)} for number in range(5)]
    (lab / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    held_out = "{_target_: instruct_lab.data.Files, path: held_out.jsonl}"
    splits = [f"+data.{split}={{other: {held_out}}}" for split in ("validation", "test")]
    both = before(0, 0, *splits, "data.overlap=allow", "preprocessing=none")
    assert len(measured) == 2
    assert both["validation"]["before"]["rows"] == both["test"]["before"]["rows"]
    for split in ("validation", "test"):
        assert {one["split"] for one in both[split]["before"]["predictions"]} == {split}
        assert set(both[split]["before"]["sources"]) == {"other"}


@pytest.mark.slow
def test_a_record_has_the_costs_of_its_run(train):
    record = train("trainer.max_steps=2", "trainer.val_check_interval=null")
    summary = json.loads((record / "summary.json").read_text())
    assert summary["training_seconds"] > 0
    assert summary["peak_memory_bytes"] > 50e6
    kept = sum(file.stat().st_size for file in record.glob("checkpoints/last-*/*.safetensors"))
    assert summary["weights_bytes"] == kept > 0

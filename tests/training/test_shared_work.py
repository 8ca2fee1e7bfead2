"""What runs share, and what they must not: base weights and the untuned model's measurement."""

import json
from dataclasses import replace

import pytest
import torch

from instruct_lab.evaluation import untuned as untuned_room
from instruct_lab.experiment.check import check
from instruct_lab.model import Decoder, LocalFolder, Tokenizer
from instruct_lab.training.shared import SharedModels, model_key, weights_digest
from instruct_lab.training.tokenizer import load_tokenizer
from instruct_lab.training.tuned import load_base


def test_weights_are_read_once_and_again_where_a_run_changed_them(lab, tiny):
    experiment, shared, loads = check(tiny).or_refuse().experiment, SharedModels(), []

    def load():
        loads.append(1)
        return load_base(experiment, lab / "cache").loaded

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
        next(third.parameters()).add_(1)  # which no method that shares weights may do
    assert weights_digest(shared_model(private=False)[0]) == expected
    assert len(loads) == 2


def test_the_tokenizer_is_read_once_and_again_where_a_run_changed_it(lab, tiny, monkeypatch):
    experiment, shared = check(tiny).or_refuse().experiment, SharedModels()
    first = load_tokenizer(experiment, lab / "cache", shared)
    assert load_tokenizer(experiment, lab / "cache", shared) is first
    other = check([*tiny, "model.tokenizer.extra_tokens=[twelve]"]).or_refuse().experiment
    assert load_tokenizer(other, lab / "cache", shared) is not first
    first = load_tokenizer(experiment, lab / "cache", shared)
    first.add_tokens(["elf"])
    again = load_tokenizer(experiment, lab / "cache", shared)
    assert again is not first
    assert "elf" not in again.get_vocab()


def test_a_tokenizer_that_is_trained_on_the_data_is_of_each_run_alone(lab, tiny):
    experiment, shared = check([*tiny, "tokenizer=train"]).or_refuse().experiment, SharedModels()
    first = load_tokenizer(experiment, lab / "cache", shared)
    assert load_tokenizer(experiment, lab / "cache", shared) is not first


def test_weights_whose_file_changed_are_not_the_shared_ones(lab, tiny, tmp_path):
    experiment = check(tiny).or_refuse().experiment
    loaded = load_base(experiment, lab / "cache")
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    model = Decoder(weights=LocalFolder(path=str(tmp_path)))
    experiment = replace(experiment, model=model)
    first = model_key(experiment, loaded.tokenizer, lab / "cache")
    assert model_key(experiment, loaded.tokenizer, lab / "cache") == first
    with torch.no_grad():
        next(loaded.model.parameters()).add_(1)
    loaded.model.save_pretrained(tmp_path)
    assert model_key(experiment, loaded.tokenizer, lab / "cache") != first


@pytest.mark.parametrize("place", ["beside the weights", "elsewhere"])
def test_a_tokenizer_whose_file_changed_is_read_again(lab, tiny, tmp_path, place):
    experiment, shared = check(tiny).or_refuse().experiment, SharedModels()
    loaded = load_base(experiment, lab / "cache")
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    if place == "elsewhere":
        experiment = replace(experiment, model=replace(experiment.model, tokenizer=Tokenizer(source=str(tmp_path))))
    else:
        experiment = replace(experiment, model=Decoder(weights=LocalFolder(path=str(tmp_path))))
    first = load_tokenizer(experiment, lab / "cache", shared)
    assert load_tokenizer(experiment, lab / "cache", shared) is first
    loaded.tokenizer.add_tokens(["elf"])
    loaded.tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(experiment, lab / "cache", shared)
    assert "elf" in again.get_vocab()
    assert "elf" not in first.get_vocab()


def test_tied_weights_stay_tied_in_what_is_given_out(lab, tiny):
    experiment = check([*tiny, "model=tiny_encoder_decoder", "template=contents"]).or_refuse().experiment
    loaded, _ = SharedModels().model("key", lambda: load_base(experiment, lab / "cache").loaded, private=True)
    given = loaded.model
    assert given.get_input_embeddings().weight is given.get_encoder().embed_tokens.weight


def test_the_untuned_model_is_measured_once_for_the_same_question(train, lab, monkeypatch):
    measured = []
    measure = untuned_room.measure
    monkeypatch.setattr(untuned_room, "measure", lambda *a, **k: (measured.append(1), measure(*a, **k))[1])
    first = train("trainer.max_steps=2", "tuning.r=2")
    count = len(measured)
    assert count == 2  # validation and test
    second = train("trainer.max_steps=2", "tuning.r=4")  # another run, the same untuned model
    assert len(measured) == count
    assert json.loads((second / "before.json").read_text()) == json.loads((first / "before.json").read_text())
    train("trainer.max_steps=2", "generation.max_new_tokens=4")
    assert len(measured) == 2 * count
    train("trainer.max_steps=2", "model.weights.seed=1")
    assert len(measured) == 3 * count
    train("trainer.max_steps=2", "metrics=perplexity")
    assert len(measured) == 4 * count


def test_a_record_tells_what_the_run_took(train):
    record = train("trainer.max_steps=2", "trainer.val_check_interval=null")
    summary = json.loads((record / "summary.json").read_text())
    assert summary["training_seconds"] > 0
    assert summary["peak_memory_bytes"] > 50e6
    kept = sum(file.stat().st_size for file in record.glob("checkpoints/last-*/*.safetensors"))
    assert summary["weights_bytes"] == kept > 0

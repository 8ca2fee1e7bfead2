"""What runs share, and what they must not: base weights and the untuned model's measurement."""

import json

import torch

from instruct_lab.config.check import check
from instruct_lab.training import untuned as untuned_room
from instruct_lab.training.shared import SharedModels, weights_digest
from instruct_lab.training.tuned import load_base


def test_weights_are_read_once_and_again_where_a_run_changed_them(lab, tiny):
    experiment, shared, loads = check(tiny).or_refuse().experiment, SharedModels(), []

    def load():
        loads.append(1)
        return load_base(experiment, lab / "cache").model

    first = shared.model("key", load, private=True)
    expected = weights_digest(first)
    with torch.no_grad():
        next(first.parameters()).add_(1)  # its own copy
    second = shared.model("key", load, private=False)
    assert weights_digest(second) == expected
    assert len(loads) == 1
    next(second.parameters()).requires_grad_(False)  # of its own module, around the same numbers
    third = shared.model("key", load, private=False)
    assert next(third.parameters()).requires_grad
    assert next(third.parameters()).data_ptr() == next(second.parameters()).data_ptr()
    assert len(loads) == 1
    with torch.no_grad():
        next(third.parameters()).add_(1)  # which no method that shares weights may do
    assert weights_digest(shared.model("key", load, private=False)) == expected
    assert len(loads) == 2


def test_tied_weights_stay_tied_in_what_is_given_out(lab, tiny):
    experiment = check([*tiny, "model=tiny_encoder_decoder", "template=contents"]).or_refuse().experiment
    given = SharedModels().model("key", lambda: load_base(experiment, lab / "cache").model, private=True)
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

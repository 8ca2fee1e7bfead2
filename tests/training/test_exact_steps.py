"""An optimizer step does not depend on how it is split into micro-batches."""

import dataclasses

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from instruct_lab.batching import IGNORED, BatchLoader, Example
from instruct_lab.callbacks.step_log import StepLog
from instruct_lab.experiment.check import check
from instruct_lab.experiment.matrix import component_of
from instruct_lab.model import LoadedModel
from instruct_lab.tracker.recorder import Recorder
from instruct_lab.training.module import TuningModule

LENGTHS = [12, 5, 9, 3, 14, 7, 4, 11]


class Record:
    """Keeps what would be written."""

    def __init__(self):
        self.lines = []

    def append_metrics(self, *, step, epoch, values):
        self.lines.append((step, values))


@pytest.fixture
def experiment(lab):
    checked = check(["data=mine", "model=tiny_random", "lr_scheduler=constant", "lr_scheduler.warmup_ratio=0.0"])
    return checked.or_refuse().experiment


def new_model():
    torch.manual_seed(3)
    sizes = {"vocab_size": 29, "hidden_size": 16, "intermediate_size": 24}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=2, num_attention_heads=2))


def examples(lengths):
    torch.manual_seed(4)
    made = []
    for length in lengths:
        ids = torch.randint(0, 29, (length,)).tolist()
        targets = max(1, length // 3)
        made.append(Example(input_ids=ids, labels=[IGNORED] * (length - targets) + ids[-targets:]))
    return made


class Gradients(pl.Callback):
    """Keeps the gradient that each optimizer step is made with."""

    def __init__(self):
        self.steps = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if not pl_module.step_ended:
            return
        grads = [p.grad.clone() for p in pl_module.parameters() if p.grad is not None]
        if grads:
            self.steps.append(torch.cat([grad.flatten() for grad in grads]))


def run(experiment, made, micro_batch, accumulate, clip=None):
    model, gradients = new_model(), Gradients()
    loaded = LoadedModel(model=model, tokenizer=None, family="decoder")
    module = TuningModule(experiment, loaded, Recorder(Record(), {}), num_steps=100)
    batches = [np.arange(start, start + micro_batch) for start in range(0, len(made), micro_batch)]
    loader = BatchLoader(made, lambda batch: experiment.batching.divisible_batch(batch, 0), batches=batches, seed=0)
    trainer = pl.Trainer(
        max_epochs=1,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=clip,
        accelerator="cpu",
        logger=False,
        callbacks=[StepLog(module), gradients],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, train_dataloaders=loader)
    return gradients.steps, module


def whole_batch_gradient(made):
    """Mean cross-entropy over all target tokens, computed example by example without padding."""
    model = new_model()
    total, count = torch.zeros(()), 0
    for example in made:
        ids, labels = torch.tensor([example.input_ids]), torch.tensor(example.labels)
        logits = model(input_ids=ids).logits[0]
        total = total + functional.cross_entropy(logits[:-1], labels[1:], ignore_index=IGNORED, reduction="sum")
        count += example.num_target_tokens
    (total / count).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def relative_error(first, second):
    return float((first - second).norm() / second.norm())


@pytest.mark.slow
@pytest.mark.parametrize(("micro_batch", "accumulate"), [(8, 1), (4, 2), (2, 4), (1, 8)])
def test_a_step_has_the_same_gradient_however_it_is_split(experiment, micro_batch, accumulate):
    made = examples(LENGTHS)
    steps, _ = run(experiment, made, micro_batch, accumulate)
    assert relative_error(steps[0], whole_batch_gradient(made)) < 1e-5


@pytest.mark.parametrize("lengths", [[*LENGTHS, 120], [90, 5, 9, 88, 14], [*LENGTHS, 60, 58, 150]])
def test_texts_of_very_different_lengths_are_computed_in_parts_with_the_same_gradient(experiment, lengths):
    made = examples(lengths)
    steps, module = run(experiment, made, micro_batch=len(made), accumulate=1)
    assert relative_error(steps[0], whole_batch_gradient(made)) < 1e-5
    assert sum(lengths) <= module.positions.computed < 0.7 * len(lengths) * max(lengths)


def test_a_partial_last_window_is_divided_by_its_own_targets(experiment):
    made = examples(LENGTHS[:6])
    steps, _ = run(experiment, made, micro_batch=2, accumulate=8)  # three micro-batches, then the epoch ends
    assert relative_error(steps[0], whole_batch_gradient(made)) < 1e-5


def test_clipping_sees_the_divided_gradient(experiment):
    made = examples(LENGTHS)
    expected = whole_batch_gradient(made)
    bound = float(expected.norm()) / 2
    steps, module = run(experiment, made, micro_batch=2, accumulate=4, clip=bound)
    assert float(steps[0].norm()) == pytest.approx(bound, rel=1e-4)
    first = module._recorder.record.lines[0][1]
    assert first["train/gradient_norm"] == pytest.approx(float(expected.norm()), rel=1e-5)


@pytest.mark.slow
def test_a_config_cannot_set_what_the_loop_sets_itself():
    from instruct_lab.experiment.rules.trainer import OWNED_ARGUMENTS

    for argument in OWNED_ARGUMENTS:
        assert [p.key for p in check([f"trainer.{argument}=1"]).problems if p.key == f"trainer.{argument}"]


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["orpo", "simpo", "cpo"])
def test_the_copy_that_fills_up_a_device_adds_nothing_to_pairs(experiment, objective):
    chosen, rejected = examples(LENGTHS[:3]), examples(LENGTHS[3:6])
    pairs = [dataclasses.replace(one, rejected=other) for one, other in zip(chosen, rejected, strict=True)]
    experiment = dataclasses.replace(experiment, objective=component_of("objective", objective))
    module = TuningModule(
        experiment,
        LoadedModel(model=new_model(), tokenizer=None, family="decoder"),
        Recorder(Record(), {}),
        num_steps=1,
    )

    def totals(num_ranks):
        losses = []
        for rank in range(num_ranks):
            loader = experiment.batching.loader(
                pairs, batch_tokens=1, seed=0, pad_token_id=0, rank=rank, world_size=num_ranks
            )
            losses += [module._loss(batch) for batch in loader]
        counts = sum(float(loss.counts.sum()) for loss in losses)
        margins = torch.cat([loss.values["margin"] for loss in losses])
        return sum(float(loss.sums.sum()) for loss in losses), counts, int((~margins.isnan()).sum())

    assert totals(2) == (pytest.approx(totals(1)[0], rel=1e-6), 3, 3)

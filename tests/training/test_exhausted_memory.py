"""A step that exhausts memory is repeated in smaller micro-batches: the run ends as if there had been enough."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from support.exhaustive import exhaustive
from support.records import newest_run
from transformers import LlamaConfig, LlamaForCausalLM

from instruct_lab import cli
from instruct_lab.batch_limits import BatchLimits, Reduction, apply_limits
from instruct_lab.batching import IGNORED, Example
from instruct_lab.callbacks.step_log import StepLog
from instruct_lab.experiment.check import check
from instruct_lab.model import LoadedModel
from instruct_lab.objective import KTO, Supervised
from instruct_lab.records.identity import config_hash
from instruct_lab.tracker.recorder import Recorder
from instruct_lab.training import fitting_size
from instruct_lab.training.costs import num_positions
from instruct_lab.training.fitting_size import FittingSize
from instruct_lab.training.module import TuningModule

STEPS = 12
ERRORS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
]


class Record:
    """Keeps what would be written."""

    def __init__(self):
        self.lines = []
        self.manifest = types.SimpleNamespace(skipped_steps=[])

    def write_manifest(self, skipped_steps):
        self.manifest.skipped_steps = skipped_steps

    def log(self, text):
        pass

    def append_metrics(self, *, step, epoch, values):
        self.lines.append({"step": step, **values})


def settings():
    """Return an experiment whose optimizer and batching are used."""
    overrides = ["model=tiny_random", "lr_scheduler=constant", "lr_scheduler.warmup_ratio=0", "optimizer.lr=1e-3"]
    return check(overrides).or_refuse().experiment


@pytest.fixture(scope="module")
def experiment():
    return settings()


def examples(count, seed=4, scale=1):
    """Return examples of different lengths with a few target tokens; `scale` makes them longer."""
    source = torch.Generator().manual_seed(seed)
    made = []
    for index in range(count):
        ids = torch.randint(1, 29, (scale * (6 + index % 7),), generator=source).tolist()
        targets = scale * (2 + index % 4)
        made.append(Example(ids, [IGNORED] * (len(ids) - targets) + ids[-targets:], id=str(index), source="s"))
    return made


class _FailingBackward(torch.autograd.Function):
    @staticmethod
    def forward(context, value, error):
        context.error = error
        return value.clone()

    @staticmethod
    def backward(context, gradient):
        raise context.error


class Fit:
    """A training of a tiny model; `steps` are the logged values, `reductions` the smaller sizes.

    Args:
        experiment: the experiment whose settings are used.
        fail: function of a micro-batch and the module: an error and where it is raised, or `None`.
        scale: how much larger vocabulary and examples are.
    """

    def __init__(
        self,
        experiment,
        fail=None,
        *,
        recorded=(),
        accumulate=1,
        dropout=0.0,
        objective=None,
        steps=STEPS,
        scale=1,
        **batching,
    ):
        objective = objective or Supervised()
        torch.manual_seed(3)
        config = LlamaConfig(
            vocab_size=29 * scale**2,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            attention_dropout=dropout,
        )
        self.model = LlamaForCausalLM(config)
        self.reductions, self.record = [], Record()
        batching = dataclasses.replace(experiment.batching, batch_size=8, **batching)
        experiment = dataclasses.replace(experiment, batching=batching, objective=objective)
        with apply_limits(BatchLimits(recorded, self.reductions.append)):
            loaded = LoadedModel(model=self.model, tokenizer=None, family="decoder")
            self.module = TuningModule(experiment, loaded, Recorder(self.record, {}), num_steps=STEPS)
            compute = self.module._loss

            def loss(batch):
                found = compute(batch)
                failure = fail(batch, self.module) if fail else None
                if failure is None:
                    return found
                error, where = failure
                if where == "forward":
                    raise error
                if where == "nan":
                    return dataclasses.replace(found, sums=found.sums * math.nan)
                return dataclasses.replace(found, sums=_FailingBackward.apply(found.sums, error))

            self.module._loss = loss
            options = {"seed": 0, "pad_token_id": 0}
            trainer = pl.Trainer(
                max_steps=steps,
                accumulate_grad_batches=accumulate,
                gradient_clip_val=0.5,
                val_check_interval=5 * accumulate,
                check_val_every_n_epoch=None,
                num_sanity_val_steps=0,
                accelerator="cpu",
                logger=False,
                callbacks=[StepLog(self.module)],
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            train = batching.loader(examples(44, scale=scale), **options)
            validation = batching.loader(examples(20, seed=5), batch_tokens=100, **options)
            trainer.fit(self.module, train, validation)
        self.weights = [parameter.detach() for parameter in self.model.parameters()]
        self.values = [
            {name: value for name, value in line.items() if not name.endswith("per_second")}
            for line in self.record.lines
        ]


ROUNDING = 3e-6
"""Bound of relative differences by float32 sums in another order over 12 steps; they depend on the processor."""


def largest_difference(first, second):
    """Return the largest relative difference of logged values and weights."""
    assert [list(line) for line in first.values] == [list(line) for line in second.values]
    lines = zip(first.values, second.values, strict=True)
    pairs = [(line[name], other[name]) for line, other in lines for name in line]
    weights = zip(first.weights, second.weights, strict=True)
    return max(
        *(abs(a - b) / max(abs(a), abs(b), 1e-12) for a, b in pairs),
        *(float((a - b).norm() / b.norm()) for a, b in weights),
    )


def once(step, where, error=ERRORS[2], minimum=5, count=1):
    """Fail `count` times in a step, in parts of at least `minimum` examples."""
    failed = []

    def fail(batch, module):
        is_step = module.model.training and module.trainer.global_step + 1 == step
        if is_step and batch.num_examples >= minimum and len(failed) < count:
            failed.append(batch)
            return error, where
        return None

    return fail


@pytest.fixture(scope="module")
def undisturbed(experiment):
    return Fit(experiment)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "where"),
    [*((error, "backward") for error in ERRORS), (ERRORS[0], "forward")]
    + [exhaustive(error, "forward") for error in ERRORS[1:]],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_step_that_exhausts_memory_is_repeated_in_halves(experiment, undisturbed, where, error):
    disturbed = Fit(experiment, once(7, where, error))
    assert len(undisturbed.values) == STEPS + STEPS // 5
    assert largest_difference(disturbed, undisturbed) < ROUNDING
    (reduction,) = disturbed.reductions
    assert (reduction.work, reduction.step, reduction.before, reduction.now) == ("training", 7, 8, 4)


@pytest.mark.slow
def test_a_step_of_several_batches_is_repeated_from_its_start(experiment):
    whole = Fit(experiment, accumulate=3)
    calls = []

    def fail(batch, module):  # in the second part of the third batch of the seventh step
        if module.trainer.global_step + 1 == 7:
            calls.append(batch.num_examples)
            return (ERRORS[0], "backward") if len(calls) == 3 else None
        return None

    disturbed = Fit(experiment, fail, accumulate=3)
    assert calls == [8, 8, 8, 4, 4, 4, 4, 4, 4], "all three batches are computed again"
    assert largest_difference(disturbed, whole) < ROUNDING


@pytest.mark.slow
@pytest.mark.parametrize("most", [5, exhaustive(3), 1])
def test_it_is_halved_until_it_fits_and_stays_so(experiment, undisturbed, most):
    """A simulated memory for some examples at a time; the last batch of an epoch has only four."""

    def fail(batch, module):
        return (ERRORS[1], "backward") if module.model.training and batch.num_examples > most else None

    disturbed = Fit(experiment, fail)
    expected = [(before, before // 2) for before in (8, 4, 2) if before > most]
    assert [(one.before, one.now) for one in disturbed.reductions] == expected
    assert {one.step for one in disturbed.reductions} == {1}
    assert largest_difference(disturbed, undisturbed) < ROUNDING


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3, exhaustive(8), exhaustive(100)])
def test_the_size_of_micro_batches_changes_nothing(experiment, undisturbed, size):
    assert largest_difference(Fit(experiment, micro_batch=size), undisturbed) < ROUNDING


@pytest.mark.slow
@pytest.mark.parametrize("share", [exhaustive(0.6), 0.3, 0.01])
def test_a_batch_that_is_not_expected_to_fit_is_divided_before_it_fails(experiment, monkeypatch, share):
    """With dropout, the measurement must leave the random states as they were."""
    measured = []
    kept_bytes = FittingSize._kept_bytes
    monkeypatch.setattr(
        FittingSize, "_kept_bytes", lambda self, batch: measured.append(kept_bytes(self, batch)) or measured[-1]
    )
    monkeypatch.setattr(fitting_size, "free_bytes", lambda device: 10**15)
    plenty = Fit(experiment, dropout=0.3)
    assert (plenty.reductions, measured) == ([], [])
    monkeypatch.setattr(fitting_size, "free_bytes", lambda device: int(share * 8 * 16_000))
    estimated = Fit(experiment, dropout=0.3)
    assert len(measured) == 1
    assert 5_000 < measured[0] < 40_000, "bytes of one example"
    first = estimated.reductions[0]
    assert (first.work, first.step, first.before) == ("training", 1, 8)
    assert 1 <= first.now < 8
    assert "needed by estimate" in first.error
    monkeypatch.setattr(fitting_size, "free_bytes", lambda device: None)
    again = Fit(experiment, recorded=estimated.reductions, dropout=0.3)
    assert largest_difference(again, estimated) == 0


def test_the_estimate_agrees_with_what_a_batch_keeps(experiment):
    """Eight examples of one length without a common prefix need eight times the memory of one."""
    module = Fit(experiment, steps=1).module
    different = [Example([token] * 40, [IGNORED] + [token] * 39, id=str(token)) for token in range(1, 9)]
    (batch,) = experiment.batching.loader(different, seed=0, pad_token_id=0)
    fitting = FittingSize(module.model, lambda batch: module._loss(batch).sums)
    together, alone = fitting._kept_bytes(batch), fitting._kept_bytes(batch.part(0, 1))
    assert together == pytest.approx(8 * alone, rel=0.1)
    assert together <= fitting._most_bytes(batch)


@pytest.mark.parametrize(("is_encoder_decoder", "expected"), [(False, 10), (True, 20)])
def test_positions_of_an_encoder_and_its_decoder_are_added_even_at_one_length(experiment, is_encoder_decoder, expected):
    model = types.SimpleNamespace(config=types.SimpleNamespace(is_encoder_decoder=is_encoder_decoder))
    assert num_positions(model, experiment.batching.collate([Example([1] * 5, [2] * 5)] * 2, 0)) == expected


@pytest.mark.slow
def test_a_recorded_reduction_is_reached_in_the_same_way(experiment):
    """With dropout, whose numbers are drawn by micro-batch, a run with the recorded sizes has the same bits."""
    disturbed = Fit(experiment, once(7, "backward", minimum=3, count=2), dropout=0.3)
    assert [one.now for one in disturbed.reductions] == [4, 2]
    again = Fit(experiment, recorded=disturbed.reductions, dropout=0.3)
    assert not again.reductions
    assert largest_difference(again, disturbed) == 0
    other = Fit(experiment, recorded=[Reduction("training", 6, 8, 2)], dropout=0.3)
    assert largest_difference(other, disturbed) > 0


@pytest.mark.slow
def test_validation_is_computed_in_parts_with_the_same_values(experiment, undisturbed):
    def fail(batch, module):
        return None if module.model.training or batch.num_examples < 8 else (ERRORS[0], "forward")

    disturbed = Fit(experiment, fail)
    assert largest_difference(disturbed, undisturbed) < ROUNDING
    assert {(one.work, one.step) for one in disturbed.reductions} == {("validation", 5)}


@pytest.mark.slow
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_single_example_that_does_not_fit_ends_the_run(experiment, error):
    def fail(batch, module):
        return (error, "backward") if module.trainer.global_step == 1 else None

    with pytest.raises(type(error)):
        Fit(experiment, fail)


def test_batches_whose_examples_depend_on_each_other_are_not_divided(experiment):
    class Compared(Supervised):
        has_independent_examples = False

    sizes = []

    def fail(batch, module):
        sizes.append(batch.num_examples)
        return (ERRORS[0], "forward") if module.trainer.global_step == 2 else None

    with pytest.raises(MemoryError):
        Fit(experiment, fail, objective=Compared())
    assert sizes == [8, 8, 8]
    assert not KTO.has_independent_examples


@pytest.mark.slow
def test_a_skipped_step_may_have_exhausted_memory(experiment):
    """The losses of the failed attempt are forgotten: the step names the examples of one part, and is skipped once."""
    optimizer = dataclasses.replace(experiment.optimizer, nonfinite="skip_step")
    memory = once(3, "backward", minimum=8, count=2)
    spoiled = []

    def fail(batch, module):
        if module.trainer.global_step + 1 == 3 and batch.num_examples == 4 and not spoiled:
            spoiled.append(batch.ids)
            return None, "nan"
        return memory(batch, module)

    fitted = Fit(dataclasses.replace(experiment, optimizer=optimizer), fail, accumulate=2)
    (skipped,) = fitted.record.manifest.skipped_steps
    assert (skipped["step"], skipped["examples"]) == (3, spoiled[0])
    assert [one.now for one in fitted.reductions] == [4]
    tokens = {line["step"]: line["train/target_tokens"] for line in fitted.values if "train/loss" in line}
    assert tokens[1] < tokens[2] == tokens[3] < tokens[4]
    assert math.isnan(next(line["train/loss"] for line in fitted.values if line["step"] == 3))


LIMITED = """
import json, re, resource
from test_exhausted_memory import Fit, largest_difference, settings

experiment = settings()
whole = Fit(experiment, steps=2, scale=24)
used = 1024 * int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1])
resource.setrlimit(resource.RLIMIT_AS, (used + 60 * 2**20,) * 2)
limited = Fit(experiment, steps=2, scale=24)
sizes = [(one.work, one.before, one.now, one.error) for one in limited.reductions]
print(json.dumps([largest_difference(limited, whole), sizes]))
"""
"""Program that trains a model whose logits need some hundred megabytes, and trains it again in less memory."""


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the memory of a process is read from /proc, which only Linux has"
)
def test_a_limit_of_the_process_is_met_by_smaller_micro_batches():
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here.parent), str(here.parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        cwd=here,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    difference, sizes = json.loads(done.stdout.splitlines()[-1])
    assert difference < 1e-5
    assert sizes
    for work, before, now, error in sizes:
        assert (work, now < before) == ("training", True)
        assert "allocate" in error


@pytest.mark.slow
def test_reductions_are_printed_once_recorded_and_reached_again(lab, train, capsys):
    small = ["+objective._target_=support.small_memory.SmallMemory", "+objective.tokens=330", "trainer=cpu"]
    evaluation = ["evaluation.before=false", "evaluation.baselines=false", "metrics=perplexity"]
    first = train(*small, *evaluation, "batching.batch_size=4", "trainer.accumulate_grad_batches=2")
    printed = " ".join(capsys.readouterr().err.split())
    entries = json.loads((first / "manifest.json").read_text())["reduced_batches"]
    assert [(one["work"], one["step"]) for one in entries] == [("training", 2), ("validation", 3), ("validation", 3)]
    assert (entries[0]["before"], entries[0]["now"], entries[0]["error"]) == (4, 2, "332 tokens")
    assert printed.count("in step 2 (training: 332 tokens): from now on, at most 2 examples") == 1
    assert (first / "log.txt").read_text().count("in step 2 (training: 332 tokens)") == 1
    assert cli.main(["reproduce", first.name]) == 0
    again = newest_run(lab)
    assert again != first
    assert json.loads((again / "manifest.json").read_text())["reduced_batches"] == entries
    assert cli.main(["resume", first.name, "trainer.max_epochs=2", "--force"]) == 0
    assert json.loads((first / "manifest.json").read_text())["reduced_batches"] == entries


def test_runs_that_differ_only_in_micro_batches_are_the_same_experiment():
    whole = {"seed": 0, "batching": {"batch_size": 8}}
    for size in ("auto", 1, 4):
        config = {**whole, "batching": {"batch_size": 8, "micro_batch": size}}
        assert config_hash(config) == config_hash(whole), "also in records that do not have the setting"
    assert config_hash({**whole, "batching": {"batch_size": 4, "micro_batch": 4}}) != config_hash(whole)

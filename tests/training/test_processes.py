"""The examples of a step stay the same on another number of devices."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytorch_lightning.strategies import StrategyRegistry
from support.records import newest_run

from instruct_lab import cli
from instruct_lab.config import ExternalClass
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment.check import check
from instruct_lab.experiment.rules.sharding import NAMES, UNSUPPORTED, check_split
from instruct_lab.objective import KTO
from instruct_lab.records import RunRecord
from instruct_lab.training.processes import divide_steps, on_one_device
from instruct_lab.training.trainer import build_trainer


@pytest.fixture(scope="module")
def experiment():
    return check(["model=tiny_random"]).or_refuse().experiment


@given(size=st.integers(1, 64), recorded=st.integers(1, 16), now=st.integers(1, 16))
def test_a_step_takes_as_many_examples_as_before_or_the_run_is_refused(experiment, size, recorded, now):
    started = dataclasses.replace(experiment, batching=dataclasses.replace(experiment.batching, batch_size=size))
    if size * recorded % now:
        with pytest.raises(InstructLabError, match="cannot be divided evenly"):
            divide_steps(started, recorded, now)
    else:
        assert divide_steps(started, recorded, now).batching.batch_size * now == size * recorded


def test_a_new_run_keeps_its_batches(experiment):
    assert divide_steps(experiment, None, 8) is experiment


@pytest.mark.parametrize(("recorded", "now"), [(1, 2), (2, 1), (4, 2)])
def test_examples_that_are_compared_with_each_other_stay_on_one_device(experiment, recorded, now):
    kto = dataclasses.replace(experiment, objective=KTO())
    with pytest.raises(InstructLabError, match=f"KTO compares .* on {now} instead of {recorded} devices"):
        divide_steps(kto, recorded, now)
    assert divide_steps(kto, now, now) is kto


@pytest.mark.parametrize(
    "trainer",
    [
        ["trainer=multi_node"],
        ["trainer=multi_node", "trainer.strategy=fsdp", "trainer.num_nodes=2"],
        ["trainer=ddp", "trainer.devices=8"],
        ["trainer=fsdp", "trainer.devices=8"],
    ],
)
def test_the_model_of_a_run_of_many_devices_is_evaluated_on_one(trainer, tmp_path):
    many = check(["model=tiny_random", *trainer, "trainer.accelerator=cpu"]).or_refuse().experiment
    built = build_trainer(on_one_device(many), tmp_path)
    assert (built.world_size, built.num_nodes, built.strategy.root_device.type) == (1, 1, "cpu")


def test_a_run_of_a_gpu_is_evaluated_on_a_machine_without_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("instruct_lab.model.hardware.no_gpu", lambda: "there is no GPU here")
    config = check(["model=tiny_random", "trainer=gpu"], is_for_another_machine=True).or_refuse().experiment
    listed = {**config.trainer.arguments, "devices": [1]}
    for one in (config, dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, arguments=listed))):
        assert build_trainer(on_one_device(one), tmp_path).strategy.root_device.type == "cpu"
        assert "trainer.accelerator=gpu: there is no GPU here" in " ".join(capsys.readouterr().err.split())


def test_every_strategy_of_lightning_is_known_or_refused_with_a_reason():
    names = set(StrategyRegistry.available_strategies())
    assert NAMES - {"auto", "None", "fsdp"} <= names
    for name in names - NAMES:
        (problem,) = check_split(ExternalClass("pytorch_lightning.Trainer", {"strategy": name}))
        assert problem.reason in [reason for reason, _ in UNSUPPORTED.values()]


@pytest.mark.slow
def test_devices_over_which_the_steps_cannot_be_divided_leave_the_record_as_it_was(lab, tiny, capsys):
    assert cli.main(["train", *tiny, "batching.batch_size=3", "callbacks.checkpoint.every_steps=1"]) == 0
    record = RunRecord.open(newest_run(lab))
    record.write_manifest(status="interrupted")
    before = (record.path / "config.yaml").read_text()
    assert cli.main(["resume", "latest", "trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu"]) == 2
    assert "cannot be divided evenly" in capsys.readouterr().err
    assert (record.path / "config.yaml").read_text() == before
    assert cli.main(["resume", "latest"]) == 0

"""Devices and precisions that are wrong on every machine, and those that only this machine lacks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruct_lab.config import ExternalClass
from instruct_lab.errors import ConfigError
from instruct_lab.experiment.check import check
from instruct_lab.experiment.rules import devices as rules
from instruct_lab.experiment.rules.sharding import check_split
from instruct_lab.experiment.rules.trainer import TRAINER
from instruct_lab.model import hardware


def trainer(**arguments):
    return ExternalClass(TRAINER, arguments)


@pytest.fixture
def machine(monkeypatch):
    """Return a function that pretends to be on a machine with or without a GPU."""

    def have(gpu=False, apple=False, cores=4, emulates=False, capability=8):
        monkeypatch.setattr(hardware, "no_gpu", lambda: None if gpu else "there is no GPU here")
        monkeypatch.setattr(hardware, "has_apple_gpu", lambda: apple)
        monkeypatch.setattr(rules, "usable_cores", lambda: list(range(cores)))
        monkeypatch.setattr(hardware, "emulates_bfloat16", lambda: emulates)
        monkeypatch.setattr(hardware, "nvidia_capabilities", lambda: (capability, 9) if gpu else ())
        monkeypatch.setattr(rules, "external_launch", lambda: None)
        monkeypatch.setattr(rules, "launch_fault", lambda: None)

    return have


WRONG = [0, -2, -3, [], [0, 0], [1, 2, 1], [-1], ["0"], "", "0", "00", "two", "1-2", "1,,2", "-2", ","]
RIGHT = [1, 8, -1, [0], [3, 1], "auto", "-1", "2", "0,", "0,3", "1,2,"]


@pytest.mark.parametrize("devices", WRONG, ids=repr)
def test_devices_that_no_machine_accepts_are_an_error(devices):
    (problem,) = rules.check_devices(trainer(devices=devices))
    assert (problem.key, problem.kind) == ("trainer.devices", "error")


@pytest.mark.parametrize("devices", RIGHT, ids=repr)
def test_devices_that_lightning_accepts_are_no_error(devices):
    assert not list(rules.check_devices(trainer(devices=devices)))


@pytest.mark.parametrize("devices", [1.5, "true", "{a: 1}"])
def test_devices_of_another_type_have_one_short_reason(devices):
    (problem,) = check(["model=tiny_random", f"trainer.devices={devices}"]).problems
    assert problem.reason == "expected a valid list; or expected a valid string; or expected a valid integer"


@pytest.mark.parametrize("devices", [2, [0, 1], "0,1"], ids=repr)
@pytest.mark.parametrize(
    "strategy", ["single_device", ExternalClass("pytorch_lightning.strategies.SingleDeviceStrategy", {})], ids=str
)
def test_several_devices_of_a_strategy_for_one_are_an_error(devices, strategy):
    (problem,) = rules.check_devices(trainer(devices=devices, strategy=strategy))
    assert "would have no effect" in problem.reason
    assert not list(rules.check_devices(trainer(devices=1, strategy=strategy)))


@given(st.integers(-4, 4), st.sampled_from([1, 2, 3, -1]))
def test_the_number_of_devices_is_known_only_if_all_of_them_are_counted(count, nodes):
    found = rules.num_devices(trainer(devices=count, num_nodes=nodes))
    assert found == (count * nodes if count > 0 and nodes > 0 else None)


def test_devices_are_counted(machine, monkeypatch):
    machine(gpu=True)
    counted = {"0,3": 2, "0,": 1, "4": 4, "auto": 2, "-1": 2}
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert {devices: rules.num_devices(trainer(devices=devices)) for devices in counted} == counted
    assert rules.num_devices(trainer(devices=[0, 2, 5], num_nodes=2)) == 6
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [rules.num_devices(trainer(devices=devices)) for devices in ("auto", -1, "-1")] == [1, 1, 1]
    machine(apple=True)
    assert rules.num_devices(trainer()) == 1
    machine()
    assert rules.num_devices(trainer(devices="auto")) == 1


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"accelerator": "gpu"}, "trainer.accelerator"),
        ({"accelerator": "cuda"}, "trainer.accelerator"),
        ({"accelerator": "mps"}, "trainer.accelerator"),
        ({"accelerator": "tpu"}, "trainer.accelerator"),
        ({"strategy": "xla"}, "trainer.strategy"),
        ({"strategy": "single_tpu"}, "trainer.strategy"),
        ({"devices": -1}, "trainer.devices"),
        ({"devices": [1]}, "trainer.devices"),
        ({"devices": "0,"}, "trainer.devices"),
        ({"accelerator": "cpu", "devices": [0]}, "trainer.devices"),
    ],
    ids=str,
)
def test_devices_that_this_machine_lacks_are_refused_for_this_machine_only(machine, arguments, key):
    machine()
    with pytest.raises(ConfigError) as caught:
        rules.refuse_devices(trainer(**arguments))
    (problem,) = caught.value.problems
    assert (problem.key, problem.kind) == (key, "unavailable_here")


@pytest.mark.parametrize(
    ("have", "arguments"),
    [
        ({"gpu": True}, {"accelerator": "gpu"}),
        ({"gpu": True}, {"devices": -1}),
        ({"gpu": True}, {"devices": [1]}),
        ({"apple": True}, {"accelerator": "mps"}),
        ({"apple": True}, {"accelerator": "gpu"}),
        ({"apple": True}, {"precision": "16-mixed"}),
        ({}, {"devices": 2, "accelerator": "cpu"}),
    ],
    ids=str,
)
def test_devices_of_this_machine_are_taken(machine, have, arguments):
    machine(**have)
    rules.refuse_devices(trainer(**arguments))


def test_more_processes_than_cores_are_a_warning(machine):
    machine(cores=2)
    (problem,) = rules.check_processes_here(trainer(devices=1000, strategy="ddp"))
    assert problem.kind == "warning"
    assert "1,000 processes, which share 2 CPU cores" in problem.reason
    assert not list(rules.check_processes_here(trainer(devices=2)))


def precision_problems(*overrides):
    checked = check(["model=tiny_random", *overrides])
    keys = ("trainer.precision", "model.dtype")
    return {one.key: one.kind for one in (*checked.problems, *checked.warnings) if one.key in keys}


def test_a_precision_that_the_device_does_not_compute_is_refused_or_warned_of(machine):
    machine(emulates=True)
    assert precision_problems("trainer.precision=16-mixed") == {"trainer.precision": "unavailable_here"}
    assert precision_problems("trainer.precision=transformer-engine") == {"trainer.precision": "unavailable_here"}
    slow = {"trainer.precision": "warning", "model.dtype": "warning"}
    assert precision_problems("trainer.precision=bf16-mixed", "model.dtype=bfloat16") == slow
    machine(gpu=True, capability=7)
    assert precision_problems("trainer.precision=bf16-mixed") == {"trainer.precision": "warning"}
    assert precision_problems("trainer.precision=16-mixed") == {}
    machine(gpu=True)
    assert precision_problems("trainer.precision=bf16-mixed", "model.dtype=bfloat16") == {}


def test_a_config_for_another_machine_is_checked_without_the_devices_of_this_one(machine):
    machine()
    overrides = ["model=tiny_random", "trainer=gpu"]
    assert [problem.key for problem in check(overrides).problems] == ["trainer.accelerator"]
    assert not check(overrides, is_for_another_machine=True).problems


@pytest.mark.parametrize("strategy", ["dpp", "ddp_foo", "single_foo", "xlafoo", "fsdp2", "zero3", "5"])
def test_a_strategy_that_does_not_exist_is_refused(strategy):
    (problem,) = check_split(trainer(strategy=strategy))
    assert "there is no such strategy" in problem.reason

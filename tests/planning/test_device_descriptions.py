"""Descriptions of devices, and what is refused as one."""

import pytest

from instruct_lab.errors import InstructLabError
from instruct_lab.planning.catalogue import FOLDER, device_names, find_device
from instruct_lab.planning.device import Device
from instruct_lab.planning.meter import Operation
from instruct_lab.planning.step import seconds


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.yaml")))
def test_every_description_is_complete_and_names_its_source(name):
    device = find_device(name)
    assert device.memory_gib > device.reserved_gib
    assert device.flops_per_second(2) > device.flops_per_second(4) > 1e12
    text = (FOLDER / f"{name}.yaml").read_text()
    assert text.startswith(f"# {name}: ")
    assert "# Source: " in text


@pytest.mark.parametrize(
    ("typed", "nearest"), [("h100-80g", "h100-80gb"), ("A100-40GB", "a100-40gb"), ("rtx-4090", "rtx4090")]
)
def test_an_unknown_device_names_the_nearest(typed, nearest):
    with pytest.raises(InstructLabError, match=f"did you mean {nearest}") as caught:
        find_device(typed)
    assert all(name in str(caught.value) for name in device_names())
    assert "\n" not in str(caught.value)


def test_a_device_of_the_users_own_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("label: mine\nmemory_gib: 10\nteraflops: {bfloat16: 20}\ngigabytes_per_second: 100\n")
    device = find_device(str(file))
    assert (device.name, device.precision) == ("mine", "bf16-mixed")
    assert device.flops_per_second(4) == 20e12 * device.reached_share


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("label: x\nmemory_gib: -1\nteraflops: {float32: 1}\ngigabytes_per_second: 1", "memory_gib"),
        ("label: x\nmemory_gib: 1\nteraflops: {float31: 1}\ngigabytes_per_second: 1", "teraflops"),
        ("label: x\nmemory: 1\nteraflops: {float32: 1}\ngigabytes_per_second: 1", "memory"),
        ("label: x\nmemory_gib: 1\nteraflops: {}\ngigabytes_per_second: 1", "teraflops"),
        ("- a\n- b", "does not describe a device"),
        ("{", "cannot be read"),
        ("label: x\nmemory_gib: .nan\nteraflops: {float32: 1}\ngigabytes_per_second: 1", "memory_gib"),
    ],
)
def test_a_file_that_describes_no_device_is_refused(tmp_path, content, reason):
    file = tmp_path / "bad.yaml"
    file.write_text(content)
    with pytest.raises(InstructLabError, match=reason) as caught:
        find_device(str(file))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InstructLabError, match="cannot be read"):
        find_device(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(("kind", "expected"), [("cpu", 2.001 + 3.001 + 0.001), ("gpu", 2 + 3 + 0.001)])
def test_a_processor_starts_an_operation_when_the_last_has_ended_and_a_gpu_before(kind, expected):
    """An operation with much arithmetic, one with much traffic, and one that takes no longer than its start."""
    device = Device(
        name="a", label="a", memory_gib=1, teraflops={"float32": 1}, gigabytes_per_second=1, reached_share=0.5,
        microseconds_per_operation=1000, kind=kind,
    )  # fmt: skip
    operations = [Operation(10**12, 10**9, 4), Operation(0, 3 * 10**9, 4), Operation(0, 0, 4)]
    assert seconds(operations, device) == pytest.approx(expected)

"""What GPUs can compute, as the driver reports it."""

import pytest

from instruct_lab.model import hardware


class Driver:
    """Stands for NVIDIA's management library: GPUs of the given compute capabilities; `None` fails."""

    def __init__(self, *capabilities, starts=True):
        self.capabilities, self.starts, self.is_open = capabilities, starts, False

    def nvmlInit_v2(self):
        self.is_open = self.starts
        return 0 if self.starts else 9

    def nvmlShutdown(self):
        self.is_open = False

    def nvmlDeviceGetCount_v2(self, count):
        count._obj.value = len(self.capabilities)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, device):
        device._obj.value = index.value + 1
        return 0

    def nvmlDeviceGetCudaComputeCapability(self, device, major, minor):
        found = self.capabilities[device.value - 1]
        if found is None:
            return 3
        major._obj.value, minor._obj.value = found
        return 0


@pytest.mark.parametrize(
    ("driver", "computes"),
    [
        (Driver((8, 0)), True),
        (Driver((9, 0), (8, 6)), True),
        (Driver((7, 5)), False),
        (Driver((9, 0), (7, 0)), False),
        (Driver((9, 0), None), False),
        (Driver(), False),
        (Driver((9, 0), starts=False), False),
        (None, False),
    ],
)
def test_bfloat16_needs_every_gpu_to_compute_it(monkeypatch, driver, computes):
    monkeypatch.setattr(hardware, "no_gpu", lambda: None)
    monkeypatch.setattr(hardware, "_nvidia_library", lambda: driver)
    hardware.nvidia_capabilities.cache_clear()
    assert hardware.computes_bfloat16() is computes
    hardware.nvidia_capabilities.cache_clear()
    assert driver is None or not driver.is_open


def test_without_a_gpu_the_driver_is_not_asked(monkeypatch):
    monkeypatch.setattr(hardware, "no_gpu", lambda: "there is no GPU here")
    monkeypatch.setattr(hardware, "_nvidia_library", lambda: pytest.fail("the driver was asked"))
    assert hardware.computes_bfloat16() is False

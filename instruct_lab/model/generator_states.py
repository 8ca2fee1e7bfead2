"""The states of the random generators that a forward pass may draw from."""

from __future__ import annotations

import random

import torch


class GeneratorStates:
    """The states of Python's and torch's random generators at the time when this object is created.

    Args:
        device: the device of the model, whose generator is saved too if the device is a GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._python = random.getstate()
        self._cpu = torch.get_rng_state()
        self._gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> None:
        """Set the generators back to the saved states."""
        random.setstate(self._python)
        torch.set_rng_state(self._cpu)
        if self._gpu is not None:
            torch.cuda.set_rng_state(self._gpu, self._device)

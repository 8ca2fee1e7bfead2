"""Measurement of a run's costs: training time, peak memory, number of token positions, and size of its weights."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from instruct_lab.batching import Batch
from instruct_lab.callbacks.peak_memory import peak_bytes

RESET_PEAK = "5"  # written to /proc/self/clear_refs, see proc_pid_clear_refs(5)


def num_positions(model: Any, batch: Batch) -> int:
    """Return the number of token positions in a batch, including padding.

    For an encoder-decoder, these are the positions of the inputs and of the labels.
    """
    return batch.num_positions + (batch.labels.numel() if model.config.is_encoder_decoder else 0)


class ComputedPositions:
    """Counter of the token positions, including padding, in the micro-batches of this device.

    The attribute `computed` is the number of positions that the model has processed since training started or resumed.
    The attribute `saved` is the number that it did not have to process because rows shared prefixes.
    """

    def __init__(self) -> None:
        self.computed = self.saved = 0

    def add(self, model: Any, batch: Batch) -> None:
        """Add the positions of a micro-batch; this is called after the model has computed its loss."""
        tree = batch.prefixes
        saved = tree.num_saved if tree is not None and tree.is_used else 0
        self.computed += num_positions(model, batch) - saved
        self.saved += saved


class Costs:
    """Measurement of the costs of training.

    Peak memory is GPU memory or, without a GPU, the memory of this process. On Linux, the recorded peak of the process
    is reset when training starts, so that earlier runs in the same process do not count.

    Args:
        positions: the counter of the token positions that the model processes; `None`: a new counter.
    """

    def __init__(self, positions: ComputedPositions | None = None) -> None:
        self.seconds = 0.0
        self.peak_bytes: int | None = None
        self.positions = positions or ComputedPositions()

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Measure the duration and the peak memory of the code in the `with` block."""
        reset_peak()
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started
            self.peak_bytes = peak_bytes()

    def entries(self, checkpoints_path: Path) -> dict[str, Any]:
        """Return the costs for `summary.json`, keyed by their names there.

        Args:
            checkpoints_path: the folder of the run's checkpoints. The cost `weights_bytes` is the size of the weights
                in the last checkpoint.
        """
        kept = [file for folder in checkpoints_path.glob("last-*") for file in folder.rglob("*")]
        return {
            "training_seconds": round(self.seconds, 3),
            "peak_memory_bytes": self.peak_bytes,
            "positions": self.positions.computed,
            "saved_positions": self.positions.saved,
            "weights_bytes": sum(file.stat().st_size for file in kept if file.suffix == ".safetensors"),
        }


def reset_peak() -> None:
    """Start a new measurement of peak memory, on the GPU and, on Linux, for this process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text(RESET_PEAK, encoding="ascii")

"""Memory and time of the cross-entropy of many targets, with all logits at once and in chunks.

The output projection has the size of SmolLM2-135M's (576 to 49,152), and 4,096 targets. Prints processor seconds of the
forward and backward pass (the least of three), and the peak of torch's allocator above the inputs.

Run: `python tests/benchmarks/chunked_logits.py`
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.measured_steps import allocated_peak

from instruct_lab.objective import chunks
from instruct_lab.objective.target_logits import token_losses

TARGETS, WIDTH, VOCABULARY = 4096, 576, 49152


def step(projection: torch.nn.Linear, hidden: torch.Tensor, targets: torch.Tensor, size: int | None) -> torch.Tensor:
    if size is None:
        losses = token_losses(projection(hidden), targets)
    else:
        losses = chunks.values_in_chunks(projection, hidden, targets, token_losses, size)
    losses.sum().backward()
    return losses.detach()


def main() -> None:
    torch.manual_seed(0)
    projection = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
    hidden = torch.randn(TARGETS, WIDTH, requires_grad=True)
    targets = torch.randint(VOCABULARY, (TARGETS,))
    print("projection  logits at once   seconds     GiB")
    for is_trained in (False, True):
        projection.requires_grad_(is_trained)
        expected = None
        for size in (None, chunks.MOST_LOGITS // VOCABULARY, 2**25 // VOCABULARY):
            seconds = []
            for _ in range(3):
                projection.zero_grad()
                hidden.grad = None
                started = time.process_time()
                losses = step(projection, hidden, targets, size)
                seconds.append(time.process_time() - started)
            expected = losses if expected is None else expected
            torch.testing.assert_close(losses, expected, rtol=1e-6, atol=1e-6)
            peak = allocated_peak(lambda size=size: step(projection, hidden, targets, size)) / 2**30
            kind = "trained" if is_trained else "frozen"
            print(f"{kind:10}  {size or TARGETS:14,}  {min(seconds):8.2f}  {peak:6.2f}")


if __name__ == "__main__":
    main()

"""A check that training changes all trained parameters and no other ones, in the same way on all ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
import torch.distributed as dist

from instruct_lab.errors import InstructLabError
from instruct_lab.model.digest import tensor_digests
from instruct_lab.model.shares import share_of_rank
from instruct_lab.terminal import write_line

Value = TypeVar("Value")
CHECKED_STEPS = 10
"""Number of optimizer steps at the start of training in which every trained parameter should get a gradient."""
FEWEST_STEPS = 3
"""Minimum number of optimizer steps of a run that is checked. The matrix A of LoRA has its first gradient at the second
step, and the first learning rates of a warm-up may be too small to change a parameter."""
NUM_NAMES = 3
"""Number of parameters that a message names."""


class TrainingCheck(pl.Callback):
    """A check that every trained parameter has a gradient and changes, and that no frozen parameter changes.

    A parameter is reported as having no gradient if, on at least one rank, its gradient is `None` or zero at each of
    the first 10 steps (`CHECKED_STEPS`). This can be harmless, such as for an expert that no token was routed to.
    Changes are found by comparing a hash of each parameter at the start of training with one at the end. The hashes at
    the end must also be the same on all ranks, which hold copies of one model. If the model is sharded, so that each
    rank holds a shard of each parameter, a trained parameter is reported only if none of its shards has a gradient, or
    if none of them changes.

    Args:
        report: function that writes a warning to the record; called on all ranks.

    Raises:
        InstructLabError: no trained parameter had a gradient in these steps.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._waiting: dict[str, torch.nn.Parameter] = {}
        self._missing: list[str] = []
        self._num_trained = 0
        self._steps = 0
        self._digests: dict[str, bytes] = {}
        self._is_sharded = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Store a hash of every parameter."""
        named = dict(pl_module.named_parameters())
        self._waiting = {name: one for name, one in named.items() if one.requires_grad and one.numel()}
        self._num_trained = len(self._waiting)
        self._digests = _digests(pl_module)
        self._is_sharded = any(hasattr(one, "to_local") for one in named.values())

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        """Record which parameters have a gradient; after 10 steps (`CHECKED_STEPS`), report those that had none."""
        self._steps += 1
        if self._steps > CHECKED_STEPS:
            return
        shares = {name: share_of_rank(one.grad) for name, one in self._waiting.items() if one.grad is not None}
        with_gradient = {name: share for name, share in shares.items() if share.numel()}  # a rank's share can be empty
        if with_gradient:
            norms = torch._foreach_norm([*with_gradient.values()], float("inf"))
            found = [norm != 0 for norm in torch.stack(norms).tolist()]  # NaN too: see `optimizer.nonfinite`
            received = {name for name, is_found in zip(with_gradient, found, strict=True) if is_found}
            self._waiting = {name: one for name, one in self._waiting.items() if name not in received}
        if self._steps == CHECKED_STEPS:
            self._report_missing()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report unchanged trained parameters, changed frozen parameters, and trained parameters without a gradient.

        Parameters without a gradient are reported here only if the run ended before `on_before_optimizer_step` did so.
        """
        if FEWEST_STEPS <= self._steps < CHECKED_STEPS:
            self._report_missing()
        if self._steps < FEWEST_STEPS:
            return
        named, now = dict(pl_module.named_parameters()), _digests(pl_module)
        equal = {name: now[name] == before for name, before in self._digests.items() if name in now}
        still = [name for name, same in equal.items() if same and named[name].requires_grad and named[name].numel()]
        if still := [name for name in self._reported(still) if name not in self._missing]:
            of = f"{len(still):,} of {self._num_trained:,} trained parameters did not change in {self._steps:,} steps"
            reason = f"an update may be smaller than {named[still[0]].dtype} can express"
            self._warn(f"{of}: {_names(still)}; {reason}")
        if moved := _on_any_rank([n for n, same in equal.items() if not same and not named[n].requires_grad]):
            self._warn(f"{len(moved):,} frozen parameters changed during training: {_names(moved)}")
        first, *others = [now] if self._is_sharded else _gathered(now)
        if different := [name for name in first if any(other[name] != first[name] for other in others)]:
            self._warn(f"{len(different):,} parameters differ between the ranks after training: {_names(different)}")

    def _report_missing(self) -> None:
        missing = self._missing = self._reported(list(self._waiting))
        if not missing:
            return
        of = f"{len(missing):,} of {self._num_trained:,} trained parameters"
        text = f"{of} received no gradient in the first {self._steps:,} steps: {_names(missing)}"
        if len(missing) == self._num_trained and self._steps == CHECKED_STEPS:
            raise InstructLabError(
                text, where="tuning and objective", do="choose parameters that the objective's loss depends on"
            )
        self._warn(text)

    def _reported(self, names: list[str]) -> list[str]:
        """Combine the parameter names that the ranks found, and return the names to report, identical on all ranks.

        A name is returned if at least one rank found it. If parameters are sharded, it is returned only if all ranks
        found it. Every rank must call this method.

        Args:
            names: the names that this rank found, such as those of parameters without a gradient.
        """
        on_any = _on_any_rank(names)
        if not self._is_sharded:
            return on_any
        lists = _gathered(names)
        return [name for name in on_any if all(name in of_rank for of_rank in lists)]

    def _warn(self, text: str) -> None:
        self._report(text)
        if not dist.is_initialized() or dist.get_rank() == 0:
            write_line(f"warning: {text}", error=True)


def _digests(module: pl.LightningModule) -> dict[str, bytes]:
    """Return a hash of every parameter, keyed by name; if a parameter is sharded, the hash of this rank's shard."""
    named = {name: share_of_rank(parameter.detach()) for name, parameter in module.named_parameters()}
    return dict(zip(named, tensor_digests(named.values()), strict=True))


def _on_any_rank(names: list[str]) -> list[str]:
    """Return the names that at least one rank passes to this function, without repetition; every rank must call it."""
    return list(dict.fromkeys(name for of_rank in _gathered(names) for name in of_rank))


def _gathered(value: Value) -> list[Value]:
    """Return the values that the ranks pass to this function, in the order of the ranks; every rank must call it."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NUM_NAMES:,} more" if len(names) > NUM_NAMES else ""
    return ", ".join(name.removeprefix("model.") for name in names[:NUM_NAMES]) + more

"""Handling of steps whose loss or gradient is not finite: the cause is named, and the run stops or skips the step.

The config's key `optimizer.nonfinite` chooses between the two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from instruct_lab.errors import InstructLabError
from instruct_lab.model.shares import whole
from instruct_lab.records import RunRecord

MAX_SKIPPED = 10
"""Number of steps that may be skipped in a row; if still more are not finite, the weights probably are not either."""
NUM_EXAMPLES = 8
"""Number of examples that a message about a step names."""


@dataclasses.dataclass(frozen=True)
class NonFiniteStep:
    """An optimizer step whose loss or gradient is not finite.

    Args:
        step: the optimizer step, counted from 1.
        loss: the summed loss of the step.
        gradient_norm: norm of the gradient of all trained parameters.
        examples: ids of the examples whose loss is not finite; if there are none, ids of all examples of the step.
        parameter: name of the first parameter whose values or gradient are not finite; `None` if there is none.
        is_weight: true if the values of this parameter are not finite; false if only its gradient is not finite.
    """

    step: int
    loss: str
    gradient_norm: str
    examples: list[str]
    parameter: str | None
    is_weight: bool

    def __str__(self) -> str:
        what = f"training loss is {self.loss}" if self.loss in ("nan", "inf", "-inf") else "gradient is not finite"
        more = f" and {len(self.examples) - NUM_EXAMPLES:,} more" if len(self.examples) > NUM_EXAMPLES else ""
        kind = "values" if self.is_weight else "gradient"
        parameter = f"; first parameter with non-finite {kind}: {self.parameter}" if self.parameter else ""
        return f"The {what} (examples {', '.join(self.examples[:NUM_EXAMPLES])}{more}{parameter})"


class NonFiniteSteps:
    """The handler of optimizer steps whose loss or gradient is not finite.

    Args:
        policy: `stop` ends the run; `skip_step` leaves the weights and the optimizer's state unchanged and goes on with
            the next step.
        record: the run's record, in which skipped steps are listed.
    """

    def __init__(self, policy: Literal["stop", "skip_step"], record: RunRecord) -> None:
        self._policy = policy
        self._record = record
        self._num_in_a_row = 0
        self._losses: list[tuple[list[str], Tensor]] = []

    def add(self, ids: list[str], sums: Tensor) -> None:
        """Keep the example ids and the losses (`[examples]`) of a micro-batch until the end of the optimizer step."""
        self._losses.append((ids, sums.detach()))

    def forget(self) -> None:
        """Forget the micro-batches of the current step, because the step is computed again."""
        self._losses.clear()

    def clear(self, *, is_finite: bool) -> None:
        """Forget the micro-batches of the step that just ended.

        Args:
            is_finite: whether the loss and the gradient of the step were finite, which ends a series of skipped steps.
        """
        self._losses.clear()
        if is_finite:
            self._num_in_a_row = 0

    def handle(
        self, step: int, loss: float, norm: float, named: Iterable[tuple[str, torch.nn.Parameter]]
    ) -> NonFiniteStep:
        """Raise an error for an optimizer step that is not finite, or skip the step if the policy is `skip_step`.

        To skip a step, its gradients are removed, so that the optimizer changes nothing. The step is listed in the
        run's record.

        Args:
            step: the optimizer step, counted from 1.
            loss: the summed loss of the step.
            norm: norm of the gradient of all trained parameters.
            named: the model's parameters with their names.

        Returns:
            The description of the skipped step.

        Raises:
            InstructLabError: the policy is `stop`, or more than `MAX_SKIPPED` (10) steps in a row were not finite.
        """
        trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
        found = NonFiniteStep(step, str(loss), str(norm), self._examples(), *_first_not_finite(trained))
        self._num_in_a_row += 1
        if self._policy == "stop" or self._num_in_a_row > MAX_SKIPPED:
            skipped = f", after {MAX_SKIPPED} skipped steps" if self._policy == "skip_step" else ""
            raise InstructLabError(
                f"{found}{skipped}",
                where=f"optimizer step {step}",
                do="lower optimizer.lr, clip with trainer.gradient_clip_val, or skip single steps with "
                "optimizer.nonfinite=skip_step; debug=anomaly shows the operation",
            )
        for _, parameter in trained:
            parameter.grad = None
        self._record_skipped(found)
        return found

    def _record_skipped(self, found: NonFiniteStep) -> None:
        earlier = [one for one in self._record.manifest.skipped_steps if one["step"] != found.step]
        self._record.write_manifest(skipped_steps=[*earlier, dataclasses.asdict(found)])
        self._record.log(f"optimizer step {found.step} is skipped. {found}")

    def _examples(self) -> list[str]:
        """Return the ids of the examples, on any rank, whose loss is not finite; if there are none, return all ids."""
        bad, ids = [], []
        for of_batch, sums in self._losses:
            ids += of_batch
            finite = torch.isfinite(sums).tolist()
            bad += [name for name, is_finite in zip(of_batch, finite, strict=False) if not is_finite]
        if dist.is_available() and dist.is_initialized():
            gathered: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(gathered, (bad, ids))
            bad, ids = ([name for of_rank in gathered for name in of_rank[index]] for index in (0, 1))
        return bad or ids


def _first_not_finite(trained: list[tuple[str, torch.nn.Parameter]]) -> tuple[str | None, bool]:
    for name, parameter in trained:
        if not bool(torch.isfinite(whole(parameter.detach())).all()):
            return name, True
    for name, parameter in trained:
        if parameter.grad is not None and not bool(torch.isfinite(whole(parameter.grad)).all()):
            return name, False
    return None, False

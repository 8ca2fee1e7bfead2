"""The settings that a user checks before a run: length of training, learning rate and device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from instruct_lab.experiment.experiment import Experiment
from instruct_lab.experiment.rules.devices import computes_on_cpu, num_devices

if TYPE_CHECKING:
    from rich.table import Table

RATE = "optimizer.lr"


def overview_table(lines: Sequence[tuple[str, str]], indent: int = 0) -> Table:
    """Return a table without borders, with names in its first column and texts in its second.

    Long texts are wrapped between words.

    Args:
        lines: a name and a text for each row of the table.
        indent: number of spaces before the names.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for name, text in lines:
        table.add_row(Text(" " * indent + name), Text(text))
    return table


def settings_overview(
    experiment: Experiment, derived: Mapping[str, str], overrides: Sequence[str]
) -> list[tuple[str, str]]:
    """Describe the settings of a run that are known before its data and weights are read.

    Args:
        experiment: the run's configuration.
        derived: a text for each config value that the program computed, saying what it follows from; keyed by the
            value's full key, such as `optimizer.lr`.
        overrides: the overrides as typed.

    Returns:
        Pairs of a setting's name and the text that describes it.
    """
    evaluated = experiment.evaluation
    most = "all" if evaluated.max_examples is None else f"at most {evaluated.max_examples:,}"
    before = "before and after training" if evaluated.before else "after training"
    precision = experiment.trainer.arguments.get("precision", "as Lightning chooses")
    return [
        ("training", f"{_length(experiment)}; {batch_text(experiment, num_devices(experiment.trainer))}"),
        *rate_line(experiment, derived, overrides),
        ("device", f"{_device(experiment)}, precision {precision}"),
        ("evaluation", f"{most} examples of {' and '.join(evaluated.splits) or 'no split'}, {before}"),
    ]


def rate_line(experiment: Experiment, derived: Mapping[str, str], overrides: Sequence[str]) -> list[tuple[str, str]]:
    """Describe the peak learning rate, where its value comes from, and its schedule, as one pair of name and text.

    The list is empty if the run trains nothing or its learning rate is not known yet.

    Args:
        experiment: the run's configuration.
        derived: a text for each config value that the program computed, saying what it follows from; keyed by the
            value's full key, such as `optimizer.lr`.
        overrides: the overrides as typed.
    """
    rate = experiment.optimizer.lr
    if rate is None or not experiment.tuning.trains:
        return []
    typed = [text for text in overrides if text.lstrip("+").partition("=")[0] == RATE]
    origin = derived.get(RATE) or (f"typed: {typed[-1]}" if typed else "set by an option file")
    schedule = type(experiment.lr_scheduler).__name__
    return [("learning rate", f"{rate:g} ({origin}), {type(experiment.optimizer).__name__}, schedule {schedule}")]


def _device(experiment: Experiment) -> str:
    """Describe the devices on which a run computes."""
    from instruct_lab.model.hardware import no_gpu

    reason, count = no_gpu(), num_devices(experiment.trainer)
    accelerator = str(experiment.trainer.arguments.get("accelerator", "auto"))
    device = accelerator
    if accelerator == "auto":
        device = "the GPU" if reason is None else f"the CPU ({reason})"
    if count in (None, 1):
        return device
    return (
        f"{count:,} processes on {device}" if computes_on_cpu(experiment.trainer) else f"{count:,} devices ({device})"
    )


def batch_text(experiment: Experiment, world_size: int | None = 1) -> str:
    """Describe how many examples are used in an optimizer step.

    Args:
        experiment: the run's configuration.
        world_size: number of devices that share the examples of a step; `None` if it is not known yet.
    """
    on_each = " on each device" if world_size is None else ""
    world_size = world_size or 1
    size, batches = experiment.batching.batch_size, experiment.trainer.arguments.get("accumulate_grad_batches", 1)
    factors = [str(size)]
    factors += [f"{count} {name}" for count, name in ((batches, "batches"), (world_size, "devices")) if count != 1]
    product = f" ({' × '.join(factors)})" if len(factors) > 1 else ""
    micro = experiment.batching.micro_batch
    computed = "" if micro == "auto" or micro >= size else f", computed {micro} at a time"
    return f"{size * batches * world_size:,} examples a step{on_each}{product}{computed}"


def _length(experiment: Experiment) -> str:
    """Describe the length of training according to the trainer's limits on epochs and steps."""
    if not experiment.tuning.trains:
        return "none: the tuning method changes only prompts"
    arguments = experiment.trainer.arguments
    epochs, steps = arguments.get("max_epochs"), arguments.get("max_steps", -1)
    limits = []
    if epochs is not None and epochs >= 0:
        limits.append(f"{epochs:,} epoch{'' if epochs == 1 else 's'}")
    if steps >= 0:
        limits.append(f"{'at most ' if limits else ''}{steps:,} steps")
    return ", ".join(limits) or "no limit is set"

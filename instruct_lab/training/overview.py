"""The overview that is printed before training begins: data, steps, learning rate, device and parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instruct_lab.evaluation.examples import EvaluatedExamples
from instruct_lab.experiment.overview import batch_text, overview_table, rate_line
from instruct_lab.model import LoadedModel
from instruct_lab.training.datamodule import InstructionData
from instruct_lab.training.predicted import predict_costs
from instruct_lab.tuning import count_parameters

if TYPE_CHECKING:
    from instruct_lab.training.stages import Run


def print_overview(
    run: Run, data: InstructionData, loaded: LoadedModel, evaluated: dict[str, EvaluatedExamples]
) -> None:
    """Print the overview: lines about the examples, training, learning rate, base model and device.

    For a run that only evaluates, the lines about training are left out.

    Args:
        run: the run, whose console prints the overview.
        data: the prepared data of the run.
        loaded: the base model.
        evaluated: the examples to evaluate on, keyed by split.
    """
    lines = [("examples", _examples(data, evaluated))]
    if run.experiment.tuning.trains:
        lines.append(("training", _training(run, data)))
    lines += rate_line(run.experiment, run.record.manifest.derived or {}, run.record.overrides)
    lines.append(
        ("base model", f"{run.experiment.model.weights.label}, {count_parameters(loaded.model).total:,} parameters")
    )
    lines.append(("device", f"{_device(run)}, precision {run.trainer.precision}"))
    if run.experiment.tuning.trains:
        lines += predict_costs(run, data, loaded)
    run.console.print(overview_table(lines))


def print_prefix_obstacle(run: Run, loaded: LoadedModel) -> None:
    """Print why shared prefixes are computed in every row, if `batching.share_prefix` is not `off`.

    Nothing is printed if the model can compute a shared prefix once, or if it is not a decoder.
    """
    experiment = run.experiment
    if getattr(experiment.batching, "share_prefix", "off") == "off" or loaded.family != "decoder":
        return
    from instruct_lab.objective.shared_prefix import obstacle

    reason = obstacle(loaded.model.train())
    if reason is not None:
        run.console.print(f"shared prefixes are computed in every row, because {reason}", soft_wrap=True)


def _examples(data: InstructionData, evaluated: dict[str, EvaluatedExamples]) -> str:
    splits = []
    for split, examples in data.examples.items():
        chosen = len(evaluated[split]) if split in evaluated else 0
        part = f", {chosen:,} of them evaluated" if 0 < chosen < len(examples) else ""
        splits.append(f"{split} {len(examples):,}{part}")
    return "; ".join(splits)


def _training(run: Run, data: InstructionData) -> str:
    steps, per_epoch = data.num_steps(run.trainer), data.steps_per_epoch(run.trainer)
    train = data.examples["train"]
    tokens = f"{int(train.target_lengths.sum()):,} target tokens of {int(train.lengths.sum()):,} in an epoch"
    epochs = f"{steps / per_epoch:.3g} epoch{'' if steps == per_epoch else 's'}"
    return f"{steps:,} steps ({epochs}), {batch_text(run.experiment, run.trainer.world_size)}; {tokens}"


def _device(run: Run) -> str:
    import torch

    device, count = run.trainer.strategy.root_device, run.trainer.world_size
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{count} × {name}" if count > 1 else name

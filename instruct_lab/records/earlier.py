"""Update configs that earlier versions of instruct_lab recorded: rename moved classes, and drop removed fields."""

from __future__ import annotations

from typing import Any

SCHEDULES = (
    "Constant",
    "Cosine",
    "CosineRestarts",
    "InverseSquareRoot",
    "Linear",
    "Polynomial",
    "WarmupStableDecay",
)
CLASSES = {
    **{f"instruct_lab.optimization.{name}": f"instruct_lab.lr_scheduler.{name}" for name in SCHEDULES},
    "instruct_lab.training.Evaluation": "instruct_lab.evaluation.Evaluation",
    "instruct_lab.training.weight_average.WeightAverage": "instruct_lab.callbacks.WeightAverage",
    "instruct_lab.preprocessing.Segment": "instruct_lab.preprocessing.SegmentWords",
    "instruct_lab.preprocessing.Perplexity": "instruct_lab.preprocessing.PerplexityFilter",
}
"""Current names of classes, keyed by their earlier names."""
PACKAGES = {
    "instruct_lab.optimization": "instruct_lab.optimizer",
    "instruct_lab.tracking": "instruct_lab.tracker",
    "instruct_lab.training": "instruct_lab.callbacks",
}
"""Current names of packages, keyed by their earlier names; they apply to the classes that are not in `CLASSES`."""
REMOVED = {
    "instruct_lab.batching.Padded": frozenset({"evaluation_batch_size"}),
    "instruct_lab.generation.Generation": frozenset({"batch_size"}),
}
"""Fields that no longer exist and did not affect results, by class."""


def translate(value: Any) -> Any:
    """Replace earlier class names in a recorded config by their current names; omit fields that no longer exist.

    Args:
        value: the config or a part of it, as dictionaries and lists.
    """
    if isinstance(value, dict):
        target = value.get("_target_")
        removed = REMOVED.get(target, frozenset()) if isinstance(target, str) else frozenset()
        return {
            key: _class_name(inner) if key == "_target_" else translate(inner)
            for key, inner in value.items()
            if key not in removed
        }
    if isinstance(value, list):
        return [translate(inner) for inner in value]
    return value


def _class_name(name: Any) -> Any:
    if not isinstance(name, str):
        return name
    package, _, kind = name.rpartition(".")
    return CLASSES.get(name) or (f"{PACKAGES[package]}.{kind}" if package in PACKAGES else name)

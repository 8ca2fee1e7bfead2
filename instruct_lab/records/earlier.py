"""Records of earlier versions: the names of classes that have moved since, translated when a record is read."""

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
"""Classes by their earlier names."""
PACKAGES = {
    "instruct_lab.optimization": "instruct_lab.optimizer",
    "instruct_lab.tracking": "instruct_lab.tracker",
    "instruct_lab.training": "instruct_lab.callbacks",
}
"""Packages whose other components moved together."""


def translate(value: Any) -> Any:
    """A recorded config with the names that its classes have now.

    Args:
        value: the config, or any part of it, as plain containers.
    """
    if isinstance(value, dict):
        return {key: _class_name(inner) if key == "_target_" else translate(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [translate(inner) for inner in value]
    return value


def _class_name(name: Any) -> Any:
    if not isinstance(name, str):
        return name
    package, _, kind = name.rpartition(".")
    return CLASSES.get(name) or (f"{PACKAGES[package]}.{kind}" if package in PACKAGES else name)

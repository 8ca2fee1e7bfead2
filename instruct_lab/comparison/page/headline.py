"""Write the verdict of a comparison in a few short sentences, for the head of its page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from instruct_lab.comparison.arms import Arm
from instruct_lab.comparison.compare import Comparison, Difference
from instruct_lab.pages.format import format_interval, format_metric

MAX_NAMED = 3
"""Maximum number of configurations that a sentence names."""


@dataclasses.dataclass(frozen=True)
class Headline:
    """The verdict of a comparison.

    Args:
        verdict: the sentence that names the best configuration.
        details: sentences about the other configurations and the base model.
    """

    verdict: str
    details: list[str]


def headline(compared: Comparison) -> Headline:
    """Write the verdict on the primary metric; if no metric is paired, say why there is no verdict."""
    name = compared.primary
    if name is None or name not in compared.means:
        reasons = "; ".join(sorted(set(compared.unpaired.values()))) or "they were measured by no metric"
        return Headline("No verdict: the runs cannot be compared example by example", [f"The reason: {reasons}."])
    means = dict(zip((arm.id for arm in compared.arms), compared.means[name], strict=True))
    arms = {arm.id: arm for arm in compared.arms}
    best = arms[compared.best[name]]
    mean = means[best.id]
    runs = f", mean of {len(best.runs)} runs" if len(best.runs) > 1 else ""
    differences = compared.differences[name]
    alike = [one for one in differences if one.verdict != "differs"]
    worse = [one for one in differences if one.verdict == "differs"]
    details = []
    if alike:
        details.append(f"Not distinguishable from the best: {_list(alike, arms)}.")
    if worse:
        details.append(f"Worse than the best: {_list(worse, arms)}.")
    details += _base_model(compared, name)
    if compared.noise[name] is None:
        details.append("Each configuration was run once, so the intervals leave out the randomness of training.")
    value = format_interval(mean.value, mean.low, mean.high)
    return Headline(f"Best by {name}: {best.label}, {value}{runs}", details)


def _base_model(compared: Comparison, name: str) -> list[str]:
    """Write a sentence about the base model, if all runs share one and it was measured."""
    bases = [one for one in compared.baselines if one.is_base_model and name in one.metrics]
    if len(bases) != 1:
        return []
    text = f"The base model, before training: {format_metric(bases[0].metrics[name])}"
    gain = bases[0].differences.get(name)
    if gain is not None:
        change = format_interval(-gain.value, -gain.high, -gain.low, signed=True)
        text += f"; the best run changes it by {change}"
    return [f"{text}."]


def _list(differences: Sequence[Difference], arms: dict[str, Arm]) -> str:
    """Name the configurations whose means are nearest to the best mean, and count the others."""
    nearest = sorted(differences, key=lambda one: abs(one.value))
    left_out = len(nearest) - MAX_NAMED
    named = [
        f"{arms[one.arm].label} ({format_interval(one.value, one.low, one.high, signed=True)})"
        for one in nearest[:MAX_NAMED]
    ]
    return ", ".join(named) + (f" and {left_out} more" if left_out > 0 else "")

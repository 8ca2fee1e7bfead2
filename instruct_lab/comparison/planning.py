"""Plan a comparison: how many examples and seeds are needed to detect a given difference, and what takes least time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from instruct_lab.comparison.pairing import pair_runs
from instruct_lab.comparison.power import POWER, detectable, examples_needed
from instruct_lab.comparison.variances import Variances
from instruct_lab.errors import InstructLabError
from instruct_lab.records.costs import cost_of
from instruct_lab.records.record import RunRecord
from instruct_lab.records.schema import AFTER

SEEDS = (2, 3, 4, 5, 6, 8, 10, 15, 20)
"""The plan says how many examples are needed for each of these numbers of runs per configuration."""
MIN_EXAMPLES = 20
"""Minimum number of examples in a plan; intervals computed from fewer examples are too narrow."""
FEW_FREEDOM = 10
"""Degrees of freedom below which the estimated standard deviation between seeds is off by about 25% or more."""
ONE_RUN_EACH = (
    "One run each: training noise is unknown, so these numbers are lower bounds. Runs with several seeds "
    "(sweep.seeds=3) measure it."
)


@dataclasses.dataclass(frozen=True)
class PlannedSize:
    """A possible size of a comparison: a number of seeds, and the number of examples that are needed with it.

    With these, the comparison detects the difference for which it is planned.

    Args:
        seeds: number of runs of each configuration.
        examples: number of examples needed; `None` if no number of examples is enough.
        seconds: predicted time of all runs of both configurations, in seconds; `None` if it is unknown, or if no number
            of examples is enough.
    """

    seeds: int
    examples: int | None
    seconds: float | None


@dataclasses.dataclass(frozen=True)
class ComparisonPlan:
    """A plan for a comparison of two configurations.

    Args:
        metric: the metric, as `split/metric`.
        difference: the difference to detect, in units of the metric.
        power: the probability of detecting this difference.
        variances: components of the variance of a difference between configurations, estimated from the recorded runs.
        num_runs: number of recorded runs.
        examples: number of examples on which the recorded runs were measured.
        seeds: number of recorded runs of the configuration with the fewest runs.
        detectable: the difference that a comparison with `examples` examples and `seeds` runs of each configuration
            detects with the probability `power`.
        run_seconds: mean time of a run's training, in seconds; `None` if it was not recorded.
        example_seconds: mean time of evaluating one example, in seconds; `None` if it was not recorded.
        sizes: for each of several numbers of seeds, the number of examples that is needed.
        cheapest: the item of `sizes` that takes the fewest seconds; `None` if the times are unknown, or if no number of
            examples is enough.
    """

    metric: str
    difference: float
    power: float
    variances: Variances
    num_runs: int
    examples: int
    seeds: int
    detectable: float
    run_seconds: float | None
    example_seconds: float | None
    sizes: list[PlannedSize]
    cheapest: PlannedSize | None

    def lines(self) -> Iterator[str]:
        """Yield the lines of the plan as text."""
        yield (
            f"To find a difference of {self.difference:g} in {self.metric} between two configurations with "
            f"{self.power:.0%} power, if they vary as these {self.num_runs} runs do:"
        )
        yield ""
        yield f"{'seeds':>7}  {'examples':>10}  {'seconds':>10}"
        for size in self.sizes:
            examples = "no number" if size.examples is None else f"{size.examples:,}"
            seconds = "-" if size.seconds is None else f"{size.seconds:,.0f}"
            yield f"{size.seeds:>7}  {examples:>10}  {seconds:>10}{'  cheapest' if size == self.cheapest else ''}"
        yield ""
        of_example = f"{self.variances.examples**0.5:.3g} of an example's difference between configurations"
        if self.variances.seeds is None or self.variances.product is None:
            yield f"Standard deviation: {of_example}. {ONE_RUN_EACH}"
        else:
            doubt = "; few, so uncertain" if self.variances.freedom < FEW_FREEDOM else ""
            of_seeds = (
                f"{self.variances.seeds**0.5:.3g} between seeds ({self.variances.freedom} degrees of freedom{doubt})"
            )
            yield f"Standard deviations: {of_example}, {of_seeds}, {self.variances.product**0.5:.3g} of both together."
        if self.run_seconds is not None and self.example_seconds is not None:
            yield (
                f"Seconds are those of all runs of both configurations: {self.run_seconds:,.0f} for training a run, "
                f"{self.example_seconds:.2g} for evaluating an example."
            )
        measured = f"{self.examples:,} examples and {self.seeds} seed{'s' * (self.seeds != 1)} each"
        yield f"As measured, with {measured}, a difference of {self.detectable:.3g} is found with this power."


def plan_comparison(records: Sequence[RunRecord], difference: float, metric: str | None = None) -> ComparisonPlan:
    """Plan a comparison of two configurations, from how much recorded runs vary and how long they took.

    Args:
        records: records of finished runs of at least two configurations (runs of a configuration differ only in the
            seed).
        difference: the difference to detect, in units of the metric; more than 0.
        metric: the metric, as `split/metric`; `None`: the first paired metric.

    Raises:
        InstructLabError: the runs cannot be paired by the metric, or all have the same configuration.
    """
    paired = pair_runs(records, metric)
    arms, name = paired.arms, metric or next(iter(paired.scores), None)
    if name is None or name not in paired.scores:
        reason = "; ".join(sorted(set(paired.unpaired.values())))
        raise InstructLabError(
            f"The runs cannot be compared example by example: {reason}",
            where=name or f"the comparison of {len(records)} runs",
            do="name runs that were measured on the same examples, or another --metric",
        )
    scores = paired.scores[name]
    variances = scores.variances()
    if variances is None:
        found = "they are all of one configuration" if len(arms) < 2 else "their scores are not finite"
        raise InstructLabError(
            f"The variances cannot be estimated from these runs: {found}",
            where=name,
            do="name finished runs of two configurations or more, or a sweep",
        )
    run_seconds, example_seconds = _costs(records)
    seeds = min(len(arm.runs) for arm in arms)
    sizes = []
    for count in SEEDS if variances.seeds is not None else (1,):
        examples = examples_needed(difference, variances, count)
        examples = None if examples is None else max(examples, MIN_EXAMPLES)
        seconds = None
        if examples is not None and run_seconds is not None and example_seconds is not None:
            seconds = 2 * count * (run_seconds + examples * example_seconds)
        sizes.append(PlannedSize(count, examples, seconds))
    priced = [size for size in sizes if size.seconds is not None]
    return ComparisonPlan(
        metric=name,
        difference=difference,
        power=POWER,
        variances=variances,
        num_runs=len(records),
        examples=scores.count,
        seeds=seeds,
        detectable=detectable(variances, scores.count, seeds),
        run_seconds=run_seconds,
        example_seconds=example_seconds,
        sizes=sizes,
        cheapest=min(priced, key=lambda size: size.seconds or 0.0, default=None),
    )


def _costs(records: Sequence[RunRecord]) -> tuple[float | None, float | None]:
    """Return two mean times in seconds: the time of a run's training, and the time of evaluating one example.

    The time of evaluation is taken to be the whole time of a run without its training. It is divided by the largest
    number of examples on which one of the run's metrics was measured. Both results are `None` if a run did not record
    its costs or has no results.
    """
    of_runs, of_examples = [], []
    for record in records:
        whole, training = cost_of(record, "seconds"), cost_of(record, "training_seconds")
        metrics = record.summary.metrics if record.summary is not None else {}
        count = max((systems[AFTER].count for systems in metrics.values() if AFTER in systems), default=0)
        if whole is None or training is None or not count:
            return None, None
        of_runs.append(training)
        of_examples.append(max(0.0, whole - training) / count)
    return sum(of_runs) / len(of_runs), sum(of_examples) / len(of_examples)

"""Notes on intervals that would be clearly wider or narrower if single examples were resampled instead of clusters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from instruct_lab.comparison.arms import Arm
from instruct_lab.comparison.scores import Estimate, RunScores
from instruct_lab.metrics.intervals import differ_in_width
from instruct_lab.pages.format import format_interval

MAX_NAMED = 3
"""Maximum number of configurations whose intervals a note lists."""


def cluster_notes(scores: RunScores, arms: Sequence[Arm], best: int) -> Iterator[str]:
    """Yield a note if resampling single examples would change the width of an interval by more than a tenth.

    The intervals in a comparison resample whole clusters of examples, such as all questions about one article. If
    the examples have no clusters, nothing is yielded.

    Args:
        scores: scores of all runs by one metric.
        arms: the configurations; a configuration is a set of runs that differ only in the seed.
        best: index of the best configuration.
    """
    single = scores.over_examples()
    if single is None:
        return
    groups = [arm.runs for arm in arms]
    others = [arm.label for index, arm in enumerate(arms) if index != best]
    pairs = [(arms[best].label, scores.mean(groups[best]), single.mean(groups[best]), False)]
    for label, (first, _), (second, _) in zip(
        others, scores.differences(groups, best), single.differences(groups, best), strict=True
    ):
        pairs.append((f"{label} less the best", first, second, True))
    clear = [pair for pair in pairs if differ_in_width(_ends(pair[1]), _ends(pair[2]))]
    if clear:
        named = [
            f"{label} {format_interval(one.value, one.low, one.high, signed=is_signed)}"
            for label, _, one, is_signed in clear[:MAX_NAMED]
        ]
        more = f" and {len(clear) - MAX_NAMED} more" if len(clear) > MAX_NAMED else ""
        yield (
            f"intervals and p-values resample the {scores.units.count} clusters of the {scores.count} examples; over "
            f"single examples: {', '.join(named)}{more}"
        )


def _ends(one: Estimate) -> tuple[float, float]:
    return one.low, one.high

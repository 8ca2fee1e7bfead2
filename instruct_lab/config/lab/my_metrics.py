"""An example of a metric of your own.

It computes statistics of each answer, and then the metric's value from the sums of these statistics over all answers.
"""

from __future__ import annotations

from typing import ClassVar

from instruct_lab.config import component
from instruct_lab.metrics import AnswerMetric


@component
class StartsAlike(AnswerMetric):
    """The percentage of answers that begin with the first word of a reference."""

    higher_is_better: ClassVar[bool] = True

    ignore_case: bool = True  # whether Yes and yes count as equal

    def statistics(self, prediction: str, references: tuple[str, ...]) -> list[float]:
        """Return three numbers for one answer, which are then summed over all answers.

        The first is 1 if the answer begins with the first word of a reference, else 0. The second is always 1, so that
        its sum is the number of answers. The third is 1 if the answer is empty, else 0.
        """
        starts = {self._first_word(reference) for reference in references}
        return [float(self._first_word(prediction) in starts), 1.0, float(not prediction.strip())]

    def value(self, total: list[float]) -> float:
        """Return the percentage of answers that begin with the first word of a reference.

        Args:
            total: the statistics, summed over all answers.
        """
        return 100 * total[0] / total[1]

    def signature(self) -> str:
        """Return a text that describes how the metric's value is computed; it is recorded together with the value."""
        return f"starts_alike|case:{'lc' if self.ignore_case else 'mixed'}"

    def _first_word(self, text: str) -> str:
        return next(iter((text.casefold() if self.ignore_case else text).split()), "")

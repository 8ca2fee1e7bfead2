"""Compare recorded runs by paired statistics, and report the result as text, Markdown or one HTML page.

In: run records. Out: differing settings, estimates with intervals, and a conclusion.
"""

from instruct_lab.comparison.compare import Comparison, Difference, compare

__all__ = ["Comparison", "Difference", "compare"]

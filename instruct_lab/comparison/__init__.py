"""Compare recorded runs by paired statistics; reports as text, Markdown or one HTML page.

In: run records. Out: what differs, estimates with intervals, and a conclusion.
"""

from instruct_lab.comparison.compare import Comparison, Difference, compare

__all__ = ["Comparison", "Difference", "compare"]

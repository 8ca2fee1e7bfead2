"""Compare recorded runs by paired statistics, and report the result as text, Markdown or one HTML page.

A comparison contains the settings that differ, each metric's means and differences with intervals, and a conclusion.
"""

from instruct_lab.comparison.compare import Comparison, Difference, compare

__all__ = ["Comparison", "Difference", "compare"]

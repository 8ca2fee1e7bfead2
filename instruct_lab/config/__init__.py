"""Compose a config and build its components.

Input: overrides typed by a user, and the option files in `conf/` and `experiments/`, both of the package and of the
user. Output: components that are built and checked, or every problem that was found. No heavy library is loaded. The
other packages import `component` from here.
"""

from instruct_lab.config.component import ALL_FAMILIES, Component, component
from instruct_lab.config.external import ExternalClass
from instruct_lab.config.regular_expressions import LimitedExpression, Regex

__all__ = ["ALL_FAMILIES", "Component", "ExternalClass", "LimitedExpression", "Regex", "component"]

"""Compose a config and build its components.

The input is the overrides that a user types, and the option files in `conf/` and `experiments/`, both those of this
package and the user's own. The output is the config's components (a model, a metric, ...), built and checked, or a list
of all problems. No heavy library, such as torch, is loaded.
"""

from instruct_lab.config.component import ALL_FAMILIES, Component, component
from instruct_lab.config.external import ExternalClass
from instruct_lab.config.regular_expressions import LimitedExpression, Regex

__all__ = ["ALL_FAMILIES", "Component", "ExternalClass", "LimitedExpression", "Regex", "component"]

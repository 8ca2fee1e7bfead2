"""Compose, check and identify a run's config.

In: overrides typed by a user, the packaged `conf/` and `experiments/`, and the user's own lab in the working
directory. Out: a checked `Experiment`, or every problem that was found. Everything here is light: no torch, no
transformers. Rooms import `component` from here; this room imports no other.
"""

from instruct_lab.config.component import ALL_FAMILIES, Component, component
from instruct_lab.config.external import ExternalClass

__all__ = ["ALL_FAMILIES", "Component", "ExternalClass", "component"]

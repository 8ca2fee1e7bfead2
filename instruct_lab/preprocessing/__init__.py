"""Ordered steps over conversations: clean, normalize, deduplicate, filter.

In: conversations by split. Out: conversations by split, and an audit of every row changed or dropped.
"""

from instruct_lab.preprocessing.base import Step
from instruct_lab.preprocessing.clean import Clean
from instruct_lab.preprocessing.deduplicate import DeduplicateExact
from instruct_lab.preprocessing.length import Length
from instruct_lab.preprocessing.normalize import Normalize
from instruct_lab.preprocessing.preprocessing import Preprocessing

__all__ = ["Clean", "DeduplicateExact", "Length", "Normalize", "Preprocessing", "Step"]

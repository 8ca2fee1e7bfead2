"""Preprocessing steps, which clean, normalize, segment, redact, deduplicate, filter, decontaminate, sample and audit.

Input: conversations by split. Output: conversations by split, and an audit of every row changed, dropped or added.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.preprocessing.base import Context, Step
    from instruct_lab.preprocessing.bias import BiasAudit, Counterfactual
    from instruct_lab.preprocessing.duplicates import (
        Benchmark,
        Decontaminate,
        DeduplicateExact,
        FileBenchmark,
        NearDuplicates,
        PackageBenchmark,
    )
    from instruct_lab.preprocessing.filters import (
        Expression,
        Language,
        Length,
        PerplexityFilter,
        Quality,
        Repetition,
        Sample,
    )
    from instruct_lab.preprocessing.preprocessing import Preprocessing
    from instruct_lab.preprocessing.privacy import Redact
    from instruct_lab.preprocessing.text import Clean, Normalize, SegmentWords

__all__ = [
    "Benchmark",
    "BiasAudit",
    "Clean",
    "Context",
    "Counterfactual",
    "Decontaminate",
    "DeduplicateExact",
    "Expression",
    "FileBenchmark",
    "Language",
    "Length",
    "NearDuplicates",
    "Normalize",
    "PackageBenchmark",
    "PerplexityFilter",
    "Preprocessing",
    "Quality",
    "Redact",
    "Repetition",
    "Sample",
    "SegmentWords",
    "Step",
]

__getattr__ = names_on_demand(__name__)

"""Steps that drop duplicate rows, near duplicates, and rows that overlap with evaluation texts.

Input: the rows of a split, and texts that it must not contain: the rows of validation and test, and benchmarks. Output:
the rows of the split to keep; the audit counts the dropped rows.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.preprocessing.duplicates.benchmarks import Benchmark, FileBenchmark, PackageBenchmark
    from instruct_lab.preprocessing.duplicates.decontaminate import Decontaminate
    from instruct_lab.preprocessing.duplicates.deduplicate import DeduplicateExact
    from instruct_lab.preprocessing.duplicates.near_duplicates import NearDuplicates

__all__ = [
    "Benchmark",
    "Decontaminate",
    "DeduplicateExact",
    "FileBenchmark",
    "NearDuplicates",
    "PackageBenchmark",
]

__getattr__ = names_on_demand(__name__)

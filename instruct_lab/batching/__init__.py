"""Encoding of conversations as examples (token ids and labels), and loading of batches in a resumable order.

Input: the rendered text of each conversation, in segments. Output: `Example`s, and a `BatchLoader` that yields
`Batch`es and can be resumed.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.batching.base import Batching
    from instruct_lab.batching.batch import Batch
    from instruct_lab.batching.encoding import SegmentEncoder
    from instruct_lab.batching.example import IGNORED, Example, ExampleTransform, Layout, Reads
    from instruct_lab.batching.loader import BatchLoader
    from instruct_lab.batching.packed import Packed
    from instruct_lab.batching.packing import Packing
    from instruct_lab.batching.padded import Padded

__all__ = [
    "IGNORED",
    "Batch",
    "BatchLoader",
    "Batching",
    "Example",
    "ExampleTransform",
    "Layout",
    "Packed",
    "Packing",
    "Padded",
    "Reads",
    "SegmentEncoder",
]

__getattr__ = names_on_demand(__name__)

"""Segments to token ids and labels, to padded batches, in a resumable order.

In: segments of each conversation. Out: `Example`s, and a loader of `Batch`es whose position can be saved.
"""

from instruct_lab.batching.base import IGNORED, Batch, Batching, Drawn, Example, Layout, Loader, Reads
from instruct_lab.batching.encoding import Encoder
from instruct_lab.batching.loader import BatchLoader
from instruct_lab.batching.padded import Padded

__all__ = [
    "IGNORED",
    "Batch",
    "BatchLoader",
    "Batching",
    "Drawn",
    "Encoder",
    "Example",
    "Layout",
    "Loader",
    "Padded",
    "Reads",
]

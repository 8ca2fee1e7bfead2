"""Batched decoding.

In: a model, its tokenizer and prompts as token ids. Out: answers as text.
"""

from instruct_lab.generation.base import Prediction
from instruct_lab.generation.generation import Generation

__all__ = ["Generation", "Prediction"]

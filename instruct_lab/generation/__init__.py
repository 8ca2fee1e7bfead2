"""Batched decoding of answers.

From a model, its tokenizer and prompts as token ids, this package generates answers as text. Each answer has a flag
that says whether it was cut at the length limit.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.generation.base import Answer, Prediction
    from instruct_lab.generation.generation import Generation
    from instruct_lab.generation.prompt_lengths import context_length

__all__ = ["Answer", "Generation", "Prediction", "context_length"]

__getattr__ = names_on_demand(__name__)

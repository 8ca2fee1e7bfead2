"""A tuning method whose adapter stays beside the weights."""

from typing import ClassVar

from instruct_lab.config import component
from instruct_lab.tuning import LoRA


@component
class AttachedLoRA(LoRA):
    """LoRA that is never merged: the model is evaluated with the adapter beside its frozen weights."""

    mergeable: ClassVar[bool] = False

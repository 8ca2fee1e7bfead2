"""What generation gives to the metrics."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """One answer, with what it is compared against."""

    id: str
    split: str
    prompt: str
    text: str
    references: tuple[str, ...]

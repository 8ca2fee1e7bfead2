"""The choice of the next token: sampling with a seed for each row of the batch, and the repetition penalty."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Settings of the distribution from which tokens are drawn; a setting of `None` has no effect."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None

    @property
    def warpers(self) -> LogitsProcessorList:
        """The logits processors for these settings, in the order in which transformers applies them."""
        warpers = LogitsProcessorList()
        if self.temperature is not None and self.temperature != 1:
            warpers.append(TemperatureLogitsWarper(float(self.temperature)))
        if self.top_k is not None:
            warpers.append(TopKLogitsWarper(self.top_k))
        if self.top_p is not None and self.top_p < 1:
            warpers.append(TopPLogitsWarper(float(self.top_p)))
        return warpers

    @property
    def arguments(self) -> dict[str, Any]:
        """These settings as arguments of transformers' `GenerationConfig`."""
        return {"temperature": self.temperature or 1.0, "top_p": self.top_p or 1.0, "top_k": self.top_k or 0}


class RowProcessor(LogitsProcessor, ABC):
    """A logits processor that stores data for each row of the batch, such as a random generator."""

    @abstractmethod
    def keep(self, rows: torch.Tensor) -> None:
        """Discard the stored data of rows that were removed from the batch because their answers are finished.

        Args:
            rows: indices of the rows that remain in the batch, in ascending order; int64 `[remaining rows]`.
        """


class DrawnToken(RowProcessor):
    """A logits processor that draws a token for each row and excludes all other tokens.

    Greedy search then always chooses the drawn token, so the result is a sample.

    Each row has its own seed, so its tokens do not depend on the other rows of the batch. In transformers' own
    sampling, all rows share one random state.

    Args:
        sampling: settings of the distribution from which tokens are drawn.
        seeds: random seed for each row.
    """

    def __init__(self, sampling: Sampling, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._warpers = sampling.warpers

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Draw a token for each row of the batch.

        Returns:
            Logits `[batch, vocab]`: 0 for the drawn token of a row, minus infinity for all other tokens.
        """
        wide = torch.float32 if scores.device.type == "mps" else torch.float64
        warped = self._warpers(input_ids, scores.float())
        cumulative = warped.softmax(dim=-1).to(wide).cumsum(dim=-1)  # [rows, vocab]
        uniform = torch.tensor([torch.rand((), generator=generator, dtype=wide) for generator in self._generators])
        thresholds = uniform.to(cumulative)[:, None] * cumulative[:, -1:]  # for inverse transform sampling
        drawn = torch.searchsorted(cumulative, thresholds, right=True).clamp(max=scores.shape[-1] - 1)  # [rows, 1]
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)

    def keep(self, rows: torch.Tensor) -> None:
        """Keep only the random generators of the rows with these indices."""
        self._generators = [self._generators[row] for row in rows.tolist()]


class RepetitionPenalty(RowProcessor):
    """The repetition penalty of Keskar et al., 2019 (CTRL), for tokens of the prompt and the answer.

    The penalty in transformers also applies to the pad tokens of shorter prompts, so answers depend on the other
    prompts of the batch. If the pad token is also a stop token, that penalty can keep an answer from ending. Here,
    padding is not penalised.

    Args:
        penalty: strength of the penalty; above 1, tokens that already occur become less likely.
        mask: attention mask of the tokens before the answers, int64 `[rows, seq]`, with a row for each beam; 0 for
            padding.
    """

    def __init__(self, penalty: float, mask: torch.Tensor) -> None:
        self._penalty = penalty
        self._is_padding = mask == 0  # [rows, seq]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return logits `[rows, vocab]` in which tokens that already occur in the row are penalised."""
        num_new = input_ids.shape[1] - self._is_padding.shape[1]
        last = input_ids[:, -1:]  # replaces padding; the last token is penalised anyway
        tokens = torch.where(functional.pad(self._is_padding, (0, num_new)), last, input_ids)
        found = scores.gather(1, tokens)
        found = torch.where(found < 0, found * self._penalty, found / self._penalty)
        return scores.scatter(1, tokens, found)

    def keep(self, rows: torch.Tensor) -> None:
        """Keep the padding mask of the rows with these indices, and drop that of the other rows, which have ended."""
        self._is_padding = self._is_padding[rows]

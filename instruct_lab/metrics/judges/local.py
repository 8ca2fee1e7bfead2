"""A judge that is a model on this machine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from instruct_lab.batching import Layout, Padded
from instruct_lab.cache import describe
from instruct_lab.config import component
from instruct_lab.data import Conversation, Message
from instruct_lab.errors import Refusal
from instruct_lab.metrics.judges.base import Judge, Reply
from instruct_lab.metrics.judges.question import CHOICES
from instruct_lab.model import Model
from instruct_lab.template import ChatTemplate, RefusedConversation, Template


@component
class JudgeModel(Judge):
    """A local model as judge: its verdict is the most probable of `[[A]]`, `[[B]]` and `[[C]]`.

    A and B mean that the first or the second answer is better, and C is a tie. The model only computes the
    probabilities of the three verdicts and generates nothing. So even a small model always gives a readable verdict,
    and the same one each time. The text of its reply also has the three probabilities. For verdicts with an
    explanation, run the model on a server and use `JudgeServer`. Questions that do not fit the model's context are
    left out, and their number is reported.
    """

    explains: ClassVar[bool] = False

    model: Model  # the judging model, whose weights are in memory only while it judges
    template: Template = Field(default_factory=ChatTemplate)  # template that renders the question for this model

    def __post_init__(self) -> None:
        family = self.model.family
        if family == "encoder" or family not in self.template.families:
            raise Refusal("model", f"is an {family} model, which cannot answer with the template of the judge")

    @property
    def label(self) -> str:
        """The name of the model's weights."""
        return self.model.weights.label

    def _depends_on(self, cache_path: Path) -> Any:
        files = [[one.name, one.sha256] for one in self.model.inputs(cache_path)]
        return [describe(self, self.not_science), files]

    def replies(self, texts: Sequence[str], cache_path: Path, device: Any) -> Iterator[tuple[int, Reply]]:
        """Load the model, and yield the index of each question in `texts` with the reply to it.

        A reply has the most probable verdict and the probabilities of all three, or a fault if there is no verdict.
        """
        import torch

        from instruct_lab.batch_limits import compute_in_parts
        from instruct_lab.generation import context_length
        from instruct_lab.objective.log_probabilities import sequence_log_probabilities

        tokenizer = self.model.load_tokenizer(cache_path)
        model = self.model.load(tokenizer, cache_path).model.to(device).eval()
        batching, context = Padded(max_tokens=None), context_length(model)
        encoder = batching.layout_encoder(Layout("answers", self.model.family), self.template, tokenizer)

        def score(examples: Sequence[Any]) -> list[float]:
            batch = batching.collate(examples, tokenizer.pad_token_id).to(device)
            return list(sequence_log_probabilities(model, batch)[0].double().tolist())

        for index, text in enumerate(texts):
            try:
                found = encoder.encode([_answered(text, choice) for choice in CHOICES])
            except RefusedConversation as error:
                yield index, Reply(fault=f"the template refuses the question: {error.what}")
                continue
            examples = [example for example in found if example is not None]
            longest = max(len(example.input_ids) for example in examples)
            if context is not None and longest > context:
                yield index, Reply(fault=f"the question has {longest} tokens, and the judge's context {context}")
                continue
            with torch.inference_mode():
                parts = compute_in_parts("verdicts", examples, score, size=_size)
            yield index, _reply([value for part in parts for value in part])


def _size(examples: Sequence[Any]) -> int:
    return len(examples) * max(len(example.input_ids) for example in examples)


def _answered(text: str, choice: str) -> Conversation:
    return Conversation((Message("user", text), Message("assistant", f"[[{choice}]]")), id=choice)


def _reply(log_probabilities: Sequence[float]) -> Reply:
    """Return a reply with the most probable verdict and the probabilities of all verdicts.

    If several verdicts share the highest probability, the reply's verdict is a tie. If a log-probability is not finite,
    the reply has a fault instead of a verdict.

    Args:
        log_probabilities: the log probabilities of the verdicts A, B and C.
    """
    if not all(map(math.isfinite, log_probabilities)):
        return Reply(fault="the judge's probabilities are not numbers")
    largest = max(log_probabilities)
    weights = [math.exp(value - largest) for value in log_probabilities]
    best = [choice for choice, weight in zip(CHOICES, weights, strict=True) if weight == 1]
    shares = ", ".join(f"{choice} {weight / sum(weights):.4f}" for choice, weight in zip(CHOICES, weights, strict=True))
    return Reply(f"[[{best[0] if len(best) == 1 else 'C'}]] (probabilities: {shares})")

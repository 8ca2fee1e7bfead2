"""Scoring of examples without generating answers: the likelihood of their target tokens, and the objective's values."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from instruct_lab.batch_limits import compute_in_parts
from instruct_lab.batching import Example
from instruct_lab.batching.example import evaluation_source
from instruct_lab.evaluation.setup import EvaluationSetup
from instruct_lab.model import LoadedModel
from instruct_lab.objective import TokenScores
from instruct_lab.progress import advance, stage


@dataclasses.dataclass(frozen=True)
class ExampleScores:
    """One example's scores under a model.

    Args:
        tokens: how well the model predicts each target token of the example; `None` if not requested.
        values: the objective's values for the example, such as preference accuracy; empty if they were not requested.
    """

    tokens: TokenScores | None = None
    values: dict[str, float] = dataclasses.field(default_factory=dict)


def score_examples(
    setup: EvaluationSetup,
    loaded: LoadedModel,
    examples: Sequence[Example],
    *,
    tokens: bool,
    values: bool,
    teacher: Any = None,
) -> list[ExampleScores]:
    """Run the model on batches of examples of similar length, the longest first, and score each example.

    An objective that masks or corrupts examples at random does so with a fixed seed here, so that it changes an example
    in the same way in every run. The model runs in evaluation mode; its previous mode is restored afterwards.

    Args:
        setup: the settings of the evaluation.
        loaded: the evaluated model.
        examples: the tokenized examples.
        tokens: whether to compute how well the model predicts each target token.
        values: whether to compute the objective's values.
        teacher: the second model that some objectives need, loaded by `Objective.load_teacher`; `None` for others.

    Returns:
        Scores in the order of the examples.
    """
    import torch

    from instruct_lab.objective.log_probabilities import token_scores

    objective, batching, model, tokenizer = setup.objective, setup.batching, loaded.model, loaded.tokenizer
    corrupted = [objective.corrupt(example, tokenizer, evaluation_source(example)) for example in examples]

    def score(indices: Sequence[int]) -> list[ExampleScores]:
        batch = batching.collate([corrupted[index] for index in indices], tokenizer.pad_token_id).to(device)
        of_tokens = token_scores(model, batch) if tokens else [None] * len(indices)
        columns = objective.loss(model, batch, teacher).values if values else {}
        of_objective = {name: column.tolist() for name, column in columns.items()}
        return [
            ExampleScores(of_tokens[row], {name: column[row] for name, column in of_objective.items()})
            for row in range(len(indices))
        ]

    scores: list[ExampleScores] = [ExampleScores()] * len(corrupted)
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    batches = batching.evaluation_batches(corrupted, setup.scored_tokens(device))
    with torch.inference_mode(), stage("likelihoods", len(corrupted), "example"):
        for indices in batches:
            parts = compute_in_parts(
                "likelihoods",
                indices.tolist(),
                score,
                size=lambda part: len(part) * max(len(corrupted[index].input_ids) for index in part),
                is_divisible=objective.has_independent_examples or not values,
            )
            for index, found in zip(indices, itertools.chain(*parts), strict=True):
                scores[index] = found
            advance(len(indices))
    model.train(was_training)
    return scores

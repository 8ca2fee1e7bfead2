"""Cross-entropy of general texts and accuracy of general knowledge, before and after tuning."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from instruct_lab.config import component
from instruct_lab.metrics.base import Statistics
from instruct_lab.metrics.benchmark import Benchmarks, TaskScores
from instruct_lab.metrics.general.items import items_version, read_items

if TYPE_CHECKING:
    from instruct_lab.model import LoadedModel
    from instruct_lab.template import Template

NAME = "general"


@component
class Forgetting(Benchmarks):
    """Measures what a model forgets while it is tuned, with general texts and questions unrelated to the run's data.

    `general/bits_per_byte` is the cross-entropy of 48 texts of 16 kinds (English prose, dialogue, code, mathematics,
    French, German, Spanish, Chinese), per byte of UTF-8; lower is better. Unlike a perplexity, it does not depend on
    the tokenizer. `general/knowledge` is the percentage of 48 easy questions for which the right one of four choices
    has the highest log-probability per byte, as in the length-normalised accuracy of lm-evaluation-harness; guessing
    gives 25. The difference between the results of the tuned and of the untuned model shows what was forgotten.

    The texts are part of this package and are given to the model as they are, without the run's template. For the
    intervals, all texts or questions of one kind are drawn together (a cluster bootstrap).
    """

    families: ClassVar = frozenset({"decoder"})

    @property
    def names(self) -> list[str]:
        """The only name under which results are reported, `general`."""
        return [NAME]

    def fingerprint(self) -> dict[str, Any]:
        """Return the version of the texts and questions."""
        return {"items": items_version()}

    def measure(
        self, loaded: LoadedModel, template: Template, known: Collection[str] = ()
    ) -> Iterator[tuple[str, TaskScores]]:
        """Compute the log-probabilities of all texts and all choices, and yield the name `general` with the scores.

        Nothing is computed if `general` is in `known`.
        """
        from instruct_lab.metrics.general.likelihoods import log_probabilities

        if NAME in known:
            return
        items, version = read_items(), items_version()
        texts = log_probabilities(loaded, [("", item.text) for item in items])
        asked = [(f"Question: {item.question}\nAnswer:", f" {choice}") for item in items for choice in item.choices]
        scores = iter(log_probabilities(loaded, asked))
        knowledge: list[Statistics] = []
        for item in items:
            by_byte = [next(scores) / len(choice.encode()) for choice in item.choices]
            knowledge.append([100.0 * (by_byte[0] > max(by_byte[1:])), 1.0])
        bits = [
            [-value / math.log(2), float(len(item.text.encode()))] for value, item in zip(texts, items, strict=True)
        ]
        signatures = {
            "bits_per_byte": f"bits_per_byte|sum of bits / bytes of UTF-8|items:{version}|better:lower",
            "knowledge": f"knowledge|choices:4|by:log-probability per byte|items:{version}|better:higher",
        }
        yield (
            NAME,
            TaskScores(
                predictions=[],
                rows={"bits_per_byte": bits, "knowledge": knowledge},
                sources=[NAME] * len(items),
                signatures=signatures,
                clusters=[item.kind for item in items],
            ),
        )

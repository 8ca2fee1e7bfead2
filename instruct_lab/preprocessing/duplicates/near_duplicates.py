"""Conversations told twice with a few words changed."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation, SplitName
from instruct_lab.errors import Refusal
from instruct_lab.preprocessing.base import Context, Need, Part, Splits, Step, train_alone
from instruct_lab.preprocessing.duplicates._compared import clusters_told, compared_text, given_way_to
from instruct_lab.preprocessing.duplicates.deduplicate import measured_splits

if TYPE_CHECKING:
    from instruct_lab.preprocessing.duplicates._near import Flags
    from instruct_lab.preprocessing.duplicates._ngrams import Numbers

NUM_SAMPLES = 5


@component
class NearDuplicates(Step):
    """Drops all but one of conversations that are nearly the same, in their split or in one that is measured on.

    Two are nearly the same when the n-grams of their words have a Jaccard similarity (n-grams in both, of those in
    either) of `threshold` or more. MinHash sketches (rensa) find candidate pairs; each pair is then compared exactly,
    so that none is dropped by an estimate. Pairs make clusters, of which one row stays. Case, punctuation and white
    space do not count; Chinese, Japanese, Thai and the like are compared by character; of a text that has fewer words
    than n, all of them have to be the same. A row that lacks the part compared stays.
    Memory: about 40 bytes a row, and on disk, while it runs, 4 bytes a row and band. Same rows, same result, in every
    process. Source: Lee et al., Deduplicating Training Data Makes Language Models Better, 2022.
    """

    splits: Splits = Field(default_factory=train_alone)  # which splits pass through
    by: Part = "conversation"  # what has to be nearly the same
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8  # least Jaccard similarity of near duplicates
    n: Annotated[int, Field(ge=1)] = 5  # words in an n-gram
    keep: Literal["first", "longest"] = "first"  # which row of a cluster stays; longest: as a whole, in characters
    across: list[SplitName] = Field(default_factory=measured_splits)  # gives way to their rows, if they come after it
    recall: Annotated[float, Field(gt=0, lt=1)] = 0.99  # share of the pairs right at the threshold that are found
    num_permutations: Annotated[int, Field(ge=1, le=4096)] = 128  # numbers in a sketch, at most
    seed: Annotated[int, Field(ge=0)] = 0  # of the sketches

    def __post_init__(self) -> None:
        """Refuse a recall that sketches of this size cannot have."""
        if self.bands is None:
            reason = f"are too few to find pairs of similarity {self.threshold} with a recall of {self.recall}"
            raise Refusal("num_permutations", reason)

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """Several passes and rows by index; the other splits where a split gives way."""
        wanted: list[Need] = ["rows"]
        return frozenset([*wanted, "splits"] if self.across else wanted)

    @property
    def bands(self) -> tuple[int, int] | None:
        """The number of bands, and of rows in a band, that the settings lead to.

        A pair of similarity s shares one of b bands of r rows with probability 1 - (1 - s^r)^b. Of all b and r that
        give the recall at the threshold, those of the greatest r send the fewest other pairs to be compared.
        """
        for rows in range(self.num_permutations, 0, -1):
            for bands in range(1, self.num_permutations // rows + 1):
                if 1 - (1 - self.threshold**rows) ** bands >= self.recall:
                    return bands, rows
        return None

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield one row of each cluster; counts the others, and tells the clusters' sizes."""
        others = given_way_to(context.split, self.across, context.splits)
        stays, foreign = self._found(conversations, context, others)
        before = "a longer row" if self.keep == "longest" else "a row before"
        for row, conversation in enumerate(conversations):
            if stays[row]:
                yield conversation
            else:
                context.dropped(f"near duplicate of {foreign.get(row, before)}", conversation)

    def _found(
        self, conversations: Sequence[Conversation], context: Context, others: dict[str, Sequence[Conversation]]
    ) -> tuple[Flags, dict[int, str]]:
        """Flags of the rows that stay; and which others are like a row of another split, and of which."""
        from instruct_lab.preprocessing.duplicates._near import Comparison, Rows, Shingles, compare, sketches

        assert self.bands is not None
        num_bands, band_rows = self.bands
        lengths = array("I") if self.keep == "longest" else None
        rows = Rows([*others.values(), conversations], lambda row: compared_text(row, self.by), lengths)
        num_foreign = rows.starts[-2]
        shingles = Shingles(self.n)
        comparison = Comparison(rows, shingles, self.threshold, num_foreign)
        folder = context.cache_path if context.cache_path.is_dir() else None
        with sketches(rows, shingles, num_bands, band_rows, self.seed, folder) as found:
            compare(found, comparison)
        roots = comparison.clusters.roots()[num_foreign:] - num_foreign
        context.audit.note(
            context.stage,
            clusters=self._clusters(roots, conversations),
            bands={"bands": num_bands, "rows": band_rows},
            pairs={"compared": comparison.num_compared, "passed over": comparison.num_passed_over},
        )
        names = [f"a row in {name}" for name in others]
        like = {row - num_foreign: names[rows.part(found)] for row, found in comparison.like_foreign.items()}
        return comparison.one_of_each(roots, rows.lengths), like

    def _clusters(self, roots: Numbers, conversations: Sequence[Conversation]) -> dict[str, object]:
        import numpy as np

        sizes = np.bincount(roots)
        several = np.flatnonzero(sizes > 1)
        largest = several[np.argsort(-sizes[several], kind="stable")[:NUM_SAMPLES]]
        samples = [(int(sizes[row]), compared_text(conversations[int(row)], self.by)) for row in largest]
        values, counts = np.unique(sizes[several], return_counts=True)
        return clusters_told(dict(zip(values.tolist(), counts.tolist(), strict=True)), samples)

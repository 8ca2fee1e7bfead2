"""Near duplicates: conversations that differ in a few words."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation, SplitName
from instruct_lab.errors import Refusal
from instruct_lab.preprocessing.base import Context, Need, Part, Splits, Step, train_only
from instruct_lab.preprocessing.duplicates.clusters import cluster_report
from instruct_lab.preprocessing.duplicates.compared_text import compared_text
from instruct_lab.preprocessing.duplicates.protected_splits import evaluation_splits, protected_splits

if TYPE_CHECKING:
    from instruct_lab.preprocessing.duplicates._ngram_hashes import Numbers
    from instruct_lab.preprocessing.duplicates._pair_comparison import Flags


NUM_SAMPLES = 5


@component
class NearDuplicates(Step):
    """Drops all but one of several near duplicates, and rows that are near duplicates of validation or test rows.

    Two conversations are near duplicates if the n-grams of their words have a Jaccard similarity (n-grams in both,
    divided by n-grams in either) of at least `threshold`. MinHash sketches (of the package rensa) find pairs that may
    be near duplicates. Each pair is then compared exactly, so no row is dropped because of an estimate. Rows that are
    connected by near duplicates form a cluster, and one row of each cluster is kept.

    Case, punctuation and white space are ignored; operators (`+`, `<`), currency signs and emoji count as words.
    Chinese, Japanese, Thai and similar scripts are compared by character. A text of fewer than n words is a near
    duplicate only of texts with the same words in the same order. A row that lacks the part to compare (`by`) is kept.

    Memory: about 40 bytes per row, and temporarily 4 bytes per row and band on disk. The result is deterministic.
    Source: Lee et al., Deduplicating Training Data Makes Language Models Better, 2022.
    """

    splits: Splits = Field(default_factory=train_only)  # splits that the step processes
    by: Part = "conversation"  # the part that is compared
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8  # smallest Jaccard similarity of near duplicates
    n: Annotated[int, Field(ge=1)] = 5  # words in an n-gram
    keep: Literal["first", "longest"] = "first"  # row of a cluster to keep; longest: with most characters
    across: list[SplitName] = Field(default_factory=evaluation_splits)  # drop rows similar to those of later splits
    recall: Annotated[float, Field(gt=0, lt=1)] = 0.99  # share of pairs found, at a similarity of exactly `threshold`
    num_permutations: Annotated[int, Field(ge=1, le=4096)] = 128  # largest number of values in a sketch
    seed: Annotated[int, Field(ge=0)] = 0  # random seed of the sketches

    def __post_init__(self) -> None:
        """Refuse a `recall` that sketches of `num_permutations` values cannot reach.

        The recall is the probability with which a pair of similarity `threshold` is found.
        """
        if self.bands is None:
            reason = f"too few to find pairs of similarity {self.threshold} with a recall of {self.recall}"
            raise Refusal("num_permutations", reason)

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """What the step needs: `rows` (several passes and access by index), and `splits` if `across` is not empty."""
        wanted: list[Need] = ["rows"]
        return frozenset([*wanted, "splits"] if self.across else wanted)

    @property
    def bands(self) -> tuple[int, int] | None:
        """The number of bands in a sketch and of values in a band that reach `recall`; `None` if this is impossible.

        Two rows are compared if at least one of their bands is equal. If the rows have the similarity s, and sketches
        have b bands of r values, the probability of this is 1 - (1 - s^r)^b. Among the b and r for which it is at least
        `recall` at s = `threshold`, the largest r is chosen, because it gives the fewest unnecessary comparisons.
        """
        for rows in range(self.num_permutations, 0, -1):
            for bands in range(1, self.num_permutations // rows + 1):
                if 1 - (1 - self.threshold**rows) ** bands >= self.recall:
                    return bands, rows
        return None

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield one row of each cluster of near duplicates; note dropped rows and cluster sizes in the audit."""
        protected = protected_splits(context.split, self.across, context.splits)
        flags, like_protected = self._compare(conversations, context, protected)
        own = "a longer row" if self.keep == "longest" else "an earlier row"
        for row, conversation in enumerate(conversations):
            if flags[row]:
                yield conversation
            else:
                context.count_dropped(f"near duplicate of {like_protected.get(row, own)}", conversation)

    def _compare(
        self, conversations: Sequence[Conversation], context: Context, protected: dict[str, Sequence[Conversation]]
    ) -> tuple[Flags, dict[int, str]]:
        """Compare the rows of a split with each other and with the rows of protected splits, whose rows are all kept.

        Returns:
            A flag for each row of the split, true for a row to keep; and a dictionary, keyed by row index. It contains
            the rows that are similar to a row of a protected split. Its values name this split, such as `a test row`.
        """
        from instruct_lab.preprocessing.duplicates._pair_comparison import Comparison, compare
        from instruct_lab.preprocessing.duplicates._sketches import Rows, Shingles, sketch_rows

        assert self.bands is not None
        num_bands, band_rows = self.bands
        lengths = array("I") if self.keep == "longest" else None
        rows = Rows([*protected.values(), conversations], lambda row: compared_text(row, self.by), lengths)
        num_protected = rows.starts[-2]
        shingles = Shingles(self.n)
        comparison = Comparison(rows, shingles, self.threshold, num_protected)
        folder = context.cache_path if context.cache_path.is_dir() else None
        with sketch_rows(rows, shingles, num_bands, band_rows, self.seed, folder) as sketches:
            compare(sketches, comparison)
        roots = comparison.clusters.roots()[num_protected:] - num_protected
        context.audit.note(
            context.stage,
            clusters=self._report(roots, conversations),
            bands={"bands": num_bands, "rows": band_rows},
            pairs={"compared": comparison.num_compared, "passed over": comparison.num_skipped},
        )
        like = {
            row - num_protected: f"a {list(protected)[rows.part(other)]} row"
            for row, other in comparison.like_protected.items()
        }
        return comparison.one_of_each(roots, rows.lengths), like

    def _report(self, roots: Numbers, conversations: Sequence[Conversation]) -> dict[str, object]:
        import numpy as np

        sizes = np.bincount(roots)
        several = np.flatnonzero(sizes > 1)
        largest = several[np.argsort(-sizes[several], kind="stable")[:NUM_SAMPLES]]
        samples = [(int(sizes[row]), compared_text(conversations[int(row)], self.by)) for row in largest]
        values, counts = np.unique(sizes[several], return_counts=True)
        return cluster_report(dict(zip(values.tolist(), counts.tolist(), strict=True)), samples)

"""A mixture of several data sets, whose rows are preprocessed together and then interleaved by weight."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from instruct_lab.assets import Input
from instruct_lab.cache import Entry, Stage, Store, chain_keys
from instruct_lab.config import component
from instruct_lab.config.spelling import nearest
from instruct_lab.data.audit import Audit
from instruct_lab.data.base import Data, split_path, tables, write_flagged
from instruct_lab.data.conversation import Conversation, Supervision
from instruct_lab.data.remaining import (
    SEE_DROPPED,
    WARNINGS,
    NoRowsLeft,
    add_warning,
    describe_losses,
    warn_of_empty_splits,
)
from instruct_lab.data.split import SPLIT_NAMES, SamePrompt, SplitName, select_without_overlap
from instruct_lab.data.stages import audit_of, audited_stage
from instruct_lab.data.table import ConversationTable
from instruct_lab.data.writing import write_conversations
from instruct_lab.errors import Refusal

if TYPE_CHECKING:
    import numpy

Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@component
class Mixture(Data):
    """Several data sets that are mixed for training, and evaluated together and separately.

    The training rows of all parts are preprocessed together, each row once, and then interleaved. By default, an epoch
    uses every row once, and the order of the parts is random. With `epoch: smallest` or `largest`, a part is drawn for
    each position in an epoch with a probability in proportion to its weight, and supplies its next row. If no weights
    are set, the weight of a part is its number of rows (up to `max_rows`) to the power of 1 / `temperature`:
    temperature 1 draws in proportion to size, and a high temperature draws all parts almost equally often. Source:
    Raffel et al., T5, 2020, section 3.5.2 (temperature-scaled and examples-proportional mixing).

    Validation and test rows are not weighted; each is used once. If a prompt is in the validation or test split of one
    part, training rows of every part with this prompt are dropped by default (see `overlap`).
    """

    parts: dict[str, Data | None]  # named data sets; null removes a part
    weights: dict[str, Weight | None] = Field(default_factory=dict)  # share of a part, relative to the other parts
    temperature: Annotated[float, Field(ge=1)] = 1.0  # flattens shares by size; used if no weights are set
    max_rows: dict[str, Annotated[int, Field(ge=1)] | None] = Field(
        default_factory=dict
    )  # maximum number of training rows of a part, selected by content hash
    epoch: Literal["each_once", "smallest", "largest"] = "each_once"  # when an epoch over the mixture ends
    seed: Annotated[int, Field(ge=0)] = 0  # seed of the draws
    overlap: Literal["drop", "error", "allow"] = "drop"  # what happens to a prompt that is also in another split
    same_prompt: SamePrompt = "characters"  # compare prompts of all parts by all visible characters, or by their words

    def __post_init__(self) -> None:
        """Refuse fewer than two parts, settings for a part that does not exist, and weights that have no effect."""
        names = [name for name, part in self.parts.items() if part is not None]
        if len(names) < 2:
            raise Refusal("parts", "must name two parts or more")
        for field in ("weights", "max_rows"):
            for name in getattr(self, field):
                if name not in self.parts:
                    raise Refusal(f"{field}.{name}", "there is no such part", nearest(name, names))
        unweighed = [name for name in names if not self.weights.get(name)]
        if unweighed and len(unweighed) < len(names):
            raise Refusal(
                "weights",
                f"{unweighed[0]} has none, so shares cannot be compared: set the weights of all parts or of none",
            )
        if self.epoch == "each_once" and (self.temperature != 1 or any(self.weights.values())):
            field = "temperature" if self.temperature != 1 else "weights"
            reason = "has no effect with epoch=each_once, which uses every row once: choose epoch=smallest (ends "
            raise Refusal(field, reason + "when a part is used up) or epoch=largest (repeats the smaller parts)")

    @property
    def allowed_broken_share(self) -> float:
        """The largest proportion of broken rows that any of the parts accepts."""
        return max(part.allowed_broken_share for part in self._parts.values())

    @property
    def needs_reasoning_template(self) -> bool:
        """Whether any part requires a template that writes reasoning in `<think>` tags."""
        return any(part.needs_reasoning_template for part in self._parts.values())

    @property
    def gives(self) -> frozenset[Supervision]:
        """The kinds of supervision that the conversations of every part contain."""
        return frozenset.intersection(*(part.gives for part in self._parts.values()))

    def gives_any(self, needed: frozenset[Supervision]) -> bool:
        """Whether every part contains at least one of the needed kinds of supervision, not necessarily the same one."""
        return all(part.gives_any(needed) for part in self._parts.values())

    def source_names(self, split: SplitName) -> list[str]:
        """Return the names of the parts that have rows of the split."""
        return [name for name, part in self._parts.items() if part.source_names(split)]

    @property
    def by_source(self) -> bool:
        """Whether evaluation reports results for each source by default; always true for a mixture."""
        return True

    def cluster_of(self, conversation: Conversation) -> str:
        """Return `PART/CLUSTER`: the part from which a row comes, and its cluster of related rows in this part.

        The result is empty for a row that belongs to no cluster.
        """
        part = self._parts.get(conversation.source)
        cluster = "" if part is None else part.cluster_of(conversation)
        return f"{conversation.source}/{cluster}" if cluster else ""

    @property
    def _parts(self) -> dict[str, Data]:
        return {name: part for name, part in self.parts.items() if part is not None}

    def inputs(self, cache_path: Path) -> list[Input]:
        """Return the inputs of every part, such as files, each identified by a SHA-256."""
        return list(dict.fromkeys(found for part in self._parts.values() for found in part.inputs(cache_path)))

    def stage(self, cache_path: Path) -> Stage:
        """Return the stage that joins the rows of all parts. Each part has a stage and a cached result of its own."""
        stages = {name: part.stage(cache_path) for name, part in self._parts.items()}
        depends_on = {
            "parts": [[name, *chain_keys([stage])] for name, stage in stages.items()],
            "max_rows": {name: most for name, most in self.max_rows.items() if most is not None},
            "overlap": self.overlap,
            "same_prompt": self.same_prompt,
        }

        def build(_: Entry | None, folder: Path, audit: Audit) -> dict[str, Any]:
            entries = {name: Store(cache_path).result([stage]) for name, stage in stages.items()}
            for name, entry in entries.items():
                renamed = _rename_stages(audit_of(entry), name)
                for warning in renamed[WARNINGS]:
                    add_warning(audit, warning)
                audit.merge(renamed)
            return self._build_pooled({name: tables(entry) for name, entry in entries.items()}, folder, audit)

        return dataclasses.replace(
            audited_stage("mixture", depends_on, build, "joining the parts of the mixture"),
            joins=tuple(stages.values()),
        )

    def stage_after_preprocessing(self) -> Stage:
        """Return the stage that interleaves the training rows of the parts after preprocessing.

        Preprocessing may have made prompts of different splits equal. The stage therefore first treats such prompts
        as the setting `overlap` says.
        """
        order = [self.overlap, self.same_prompt, self.weights, self.temperature, self.epoch, self.seed]
        return audited_stage(
            "interleave", [*order, list(self._parts)], self._build_interleaved, "interleaving the parts of the mixture"
        )

    def _build_pooled(
        self, parts: dict[str, dict[str, ConversationTable]], folder: Path, audit: Audit
    ) -> dict[str, Any]:
        sizes = {}
        for split in SPLIT_NAMES:
            write_conversations(folder / f"all-{split}.arrow", self._rows(split, parts, audit))
        pools = {split: ConversationTable(folder / f"all-{split}.arrow") for split in SPLIT_NAMES}
        flags = self._select_rows(pools, audit, "data/overlap")
        for split, rows in pools.items():
            sizes[str(split)] = write_flagged(rows, flags[split], split_path(folder, split))
            rows.path.unlink()
        warn_of_empty_splits(audit, self.requested_splits, sizes, {name: len(rows) for name, rows in flags.items()})
        audit.facts["splits"] = sizes
        return {"splits": sizes}

    def _rows(
        self, split: SplitName, parts: dict[str, dict[str, ConversationTable]], audit: Audit
    ) -> Iterator[Conversation]:
        for name, splits in parts.items():
            rows = splits[split]
            most = self.max_rows.get(name) if split == "train" else None
            selected = rows.lowest_ids(most) if most is not None and most < len(rows) else None
            if selected is not None:
                audit.rows(f"data/limit/{name}", len(rows), len(selected))
            for index, conversation in enumerate(rows):
                if selected is None or index in selected:
                    yield dataclasses.replace(conversation, source=name)
                else:
                    audit.record(f"data/limit/{name}", "dropped", "more than max_rows", conversation)

    def _select_rows(
        self, splits: dict[SplitName, ConversationTable], audit: Audit, stage: str
    ) -> dict[SplitName, bytearray]:
        if self.overlap == "allow":
            return {split: bytearray(b"\1") * len(rows) for split, rows in splits.items()}
        return select_without_overlap(splits, self.overlap, audit, stage, self.same_prompt)

    def _build_interleaved(self, before: Entry | None, folder: Path, audit: Audit) -> dict[str, Any]:
        import numpy as np

        assert before is not None
        found = tables(before)
        flags = self._select_rows({split: found[split] for split in SPLIT_NAMES}, audit, "preprocessing/overlap")
        sizes = {}
        for split in SPLIT_NAMES:
            if split != "train":
                sizes[str(split)] = write_flagged(found[split], flags[split], split_path(folder, split))
        kept = np.flatnonzero(np.frombuffer(flags["train"], dtype=bool))
        names = found["train"].source_names()
        by_part = {name: kept[names[kept] == name] for name in self._parts}
        empty = [name for name, rows in by_part.items() if not len(rows)]
        if empty:
            losses = describe_losses(audit, "train")
            dropped = f"; dropped from all parts: {losses}" if losses else ""
            raise NoRowsLeft(
                f"No training row of {empty[0]} is left to mix{dropped}",
                audit,
                where=f"data.parts.{empty[0]}",
                do=f"{SEE_DROPPED}; or remove the part",
            )
        order = self._order(by_part)
        sizes["train"] = found["train"].write_rows(split_path(folder, "train"), order)
        drawn = {name: int(np.isin(order, rows).sum()) for name, rows in by_part.items()}
        audit.note("data/mixture", rows={name: len(rows) for name, rows in by_part.items()}, drawn=drawn)
        return {"splits": sizes}

    def _order(self, by_part: dict[str, numpy.ndarray]) -> numpy.ndarray:
        """Return the indices of the training rows in the order of one epoch over the mixture, as an int64 array.

        Args:
            by_part: for each part, the indices of its rows; they keep their order within the part.
        """
        import numpy as np

        source = np.random.RandomState(self.seed % 2**32)  # numpy guarantees that its numbers never change
        rows = list(by_part.values())
        sizes = np.array([len(part) for part in rows])
        if self.epoch == "each_once":
            parts = np.repeat(np.arange(len(rows)), sizes)
            source.shuffle(parts)
        else:
            parts = self._draws(list(by_part), sizes, source)
        order = np.empty(len(parts), dtype=np.int64)
        for index, part in enumerate(rows):
            positions = np.flatnonzero(parts == index)
            order[positions] = part[np.arange(len(positions)) % len(part)]
        return order

    def _draws(self, names: list[str], sizes: numpy.ndarray, source: numpy.random.RandomState) -> numpy.ndarray:
        """Draw a part for each position of the epoch, and return the indices of the parts as an int64 array.

        Args:
            names: the names of the parts.
            sizes: the number of rows of each part.
            source: the generator of random numbers.
        """
        import numpy as np

        weights = np.array([self.weights.get(name) or 0.0 for name in names])
        by_size = sizes ** (1 / self.temperature)
        shares = weights if weights.any() else by_size
        shares = shares / shares.sum()
        num_draws = sizes / shares  # expected number of draws until a part is used up
        expected = num_draws.min() if self.epoch == "smallest" else num_draws.max()
        draws = np.empty(0, dtype=np.int64)
        while True:
            more = source.choice(len(names), size=max(1024, math.ceil(expected / 4)), p=shares)
            draws = np.concatenate([draws, more])
            used_up = [_position_of(draws, index, size) for index, size in enumerate(sizes)]
            ends = [position + 1 for position in used_up if position is not None]
            if self.epoch == "smallest" and ends:
                return draws[: min(ends)]
            if self.epoch == "largest" and len(ends) == len(used_up):
                return draws[: max(ends)]


def leaves(data: Data, key: str = "data") -> Iterator[tuple[str, Data]]:
    """Yield each data set inside a mixture that is no mixture itself, with its config key.

    For data other than a mixture, yield only this data.
    """
    if not isinstance(data, Mixture):
        yield key, data
        return
    for name, part in data._parts.items():
        yield from leaves(part, f"{key}.parts.{name}")


def _position_of(draws: numpy.ndarray, part: int, count: int) -> int | None:
    """Return the position at which a part is drawn for the `count`-th time; `None` if it is drawn fewer times."""
    import numpy as np

    positions = np.flatnonzero(draws == part)
    return int(positions[count - 1]) if len(positions) >= count else None


def _rename_stages(audit: dict[str, Any], part: str) -> dict[str, Any]:
    """Insert a part's name into the stage names of an audit: `data/train/file` becomes `data/train/PART.file`."""

    def name(stage: str) -> str:
        package, _, rest = stage.partition("/")
        split, _, source = rest.partition("/")
        return f"{package}/{split}/{part}.{source}" if source else f"{package}/{split}/{part}"

    reasons = [{**reason, "stage": name(reason["stage"])} for reason in audit["reasons"]]
    return {
        "stages": {name(stage): counts for stage, counts in audit["stages"].items()},
        "reasons": reasons,
        "facts": {
            name(stage): facts
            for stage, facts in audit["facts"].items()
            if isinstance(facts, dict) and "unused_columns" in facts
        },
        WARNINGS: [f"data.parts.{part}: {warning}" for warning in audit["facts"].get(WARNINGS, ())],
    }

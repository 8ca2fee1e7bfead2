"""Trees of the prefixes that several rows of a batch share, so that a model can compute each prefix only once."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, device

PASS_POSITIONS = 40
"""Fixed cost of a forward and a backward pass, in positions; each level of a prefix tree needs such a pass.

Measured on a CPU: tests/benchmarks/shared_prefix.py."""

Cut = tuple[list[int], list[int]]
"""One level of a prefix tree: the index of each row's segment, and the position in that row where the segment ends."""


@dataclasses.dataclass(slots=True)  # not frozen, like `Batch`
class PrefixLevel:
    """The segments at one depth of a `PrefixTree`; a segment is a sequence of consecutive tokens of one or more rows.

    Args:
        input_ids: int64 `[segments, width]`, padded on the right to the length of the level's longest segment.
        attention_mask: int64 `[segments, width]`; 1 for tokens, 0 for padding.
        position_ids: int64 `[segments, width]`, positions of the tokens in the rows that contain them.
        parents: int64 `[segments]`, index of the segment of the previous level that each segment continues; all 0 in
            the first level.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    parents: Tensor


@dataclasses.dataclass(slots=True)
class PrefixTree:
    """The rows of a batch as paths through a tree of segments (sequences of tokens), in which rows share prefixes.

    Under a causal mask, the hidden states of a prefix are the same in every row that begins with it, so they need to be
    computed only once for all of these rows.

    Args:
        levels: the segments by depth. The segments of the last level are the remainders of the rows, in the order of
            the rows.
        index: int64 `[rows, seq]`, index of each token of the batch among the tokens of all levels, which are counted
            level by level and segment by segment; 0 for padding.
        is_used: whether a model has computed the prefixes once instead of in every row.
    """

    levels: list[PrefixLevel]
    index: Tensor
    is_used: bool = False

    def to(self, device: device | str, **options: Any) -> PrefixTree:
        """Copy the tree to a device."""

        def move(level: PrefixLevel) -> PrefixLevel:
            tensors = {field.name: getattr(level, field.name) for field in dataclasses.fields(level)}
            return PrefixLevel(**{name: tensor.to(device, **options) for name, tensor in tensors.items()})

        return PrefixTree([move(level) for level in self.levels], self.index.to(device, **options))

    @property
    def width(self) -> int:
        """The sum of the lengths to which the levels are padded: the tokens of a row in the tree, with padding."""
        return sum(level.input_ids.shape[1] for level in self.levels)

    @property
    def num_positions(self) -> int:
        """The number of tokens, including padding, in the segments of all levels: those that the model computes."""
        return sum(level.input_ids.numel() for level in self.levels)

    @property
    def num_saved(self) -> int:
        """The number of tokens that need not be computed: those of the padded batch minus those of the tree."""
        return self.index.numel() - self.num_positions


def share_prefixes(input_ids: Tensor, lengths: Tensor) -> PrefixTree | None:
    """Find the prefixes that the rows share, and return the tree with the least work.

    The work is the number of positions to compute, plus a fixed cost for each extra pass. The result is `None` if no
    tree needs less work than the padded rows.

    A tree has up to two levels of prefixes: the tokens that all rows begin with, and longer prefixes of groups of rows,
    such as the prompts of preference pairs. At least one token of each row remains in the last level.

    Args:
        input_ids: int64 `[rows, seq]`, padded on the right.
        lengths: int64 `[rows]`, number of tokens of each row.
    """
    if len(input_ids) < 2:
        return None
    sizes: list[int] = lengths.tolist()
    texts = [ids[:size] for ids, size in zip(input_ids.tolist(), sizes, strict=True)]
    order = sorted(range(len(texts)), key=texts.__getitem__)  # rows with a long common prefix become neighbours
    ordered = input_ids[order]
    equal: list[int] = (ordered[1:] == ordered[:-1]).long().cumprod(dim=1).sum(dim=1).tolist()
    neighbours = zip(equal, order[:-1], order[1:], strict=True)
    common = [min(count, sizes[one] - 1, sizes[other] - 1) for count, one, other in neighbours]
    whole = (list(range(len(texts))), sizes)
    root = [([0] * len(texts), [min(common)] * len(texts))] if min(common) > 0 else []
    groupings = [_groups(order, common, least, sizes) for least in sorted(set(common))[1:]]
    chains = [[whole], [*root, whole], *([*root, groups, whole] for groups in groupings if min(groups[1]) > 0)]
    best = min(chains, key=_work)
    return _tree(texts, best, input_ids.shape[1]) if len(best) > 1 else None


def _groups(order: list[int], common: list[int], least: int, sizes: list[int]) -> Cut:
    """Group neighbouring rows whose first `least` tokens are equal, and return a level of a prefix tree.

    All rows of a group have one segment, which is the longest prefix that they share. The segment of a row without a
    group is only its own; it is at most as long as the longest segment of a group.

    Args:
        order: indices of the rows, in the order in which rows with long common prefixes are neighbours.
        common: number of leading tokens that each row, in this order, shares with the next row.
        least: minimum number of tokens that the rows of a group share; a row that shares fewer with both neighbours is
            a group of its own.
        sizes: number of tokens of each row.
    """
    groups, shared = [[order[0]]], [max(sizes)]
    for row, count in zip(order[1:], common, strict=True):
        if count < least:
            groups.append([row])
            shared.append(max(sizes))
        else:
            groups[-1].append(row)
            shared[-1] = min(shared[-1], count)
    longest = max(end for group, end in zip(groups, shared, strict=True) if len(group) > 1)
    segments, ends = [0] * len(order), [0] * len(order)
    for segment, (group, end) in enumerate(zip(groups, shared, strict=True)):
        for row in group:
            segments[row], ends[row] = segment, end if len(group) > 1 else min(longest, sizes[row] - 1)
    return segments, ends


def _work(chain: list[Cut]) -> int:
    """Return the number of positions to compute for a tree with these levels, plus a fixed cost for the extra passes.

    Each level after the first needs an extra pass.
    """
    work, starts = PASS_POSITIONS * (len(chain) - 1), [0] * len(chain[0][0])
    for segments, ends in chain:
        work += (max(segments) + 1) * _width(starts, ends)
        starts = ends
    return work


def _width(starts: list[int], ends: list[int]) -> int:
    return max(end - start for start, end in zip(starts, ends, strict=True))


def _tree(texts: list[list[int]], chain: list[Cut], width: int) -> PrefixTree:
    import torch

    index = torch.zeros((len(texts), width), dtype=torch.int64)
    levels: list[PrefixLevel] = []
    parents, starts, offset = [0] * len(texts), [0] * len(texts), 0
    for segments, ends in chain:
        shape = (max(segments) + 1, _width(starts, ends))
        ids, mask, positions = (torch.zeros(shape, dtype=torch.int64) for _ in range(3))
        of_level = torch.zeros(shape[0], dtype=torch.int64)
        for row, (segment, start, end) in enumerate(zip(segments, starts, ends, strict=True)):
            size = end - start
            ids[segment, :size] = torch.tensor(texts[row][start:end])
            mask[segment, :size] = 1
            positions[segment, :size] = torch.arange(start, end)
            of_level[segment] = parents[row]
            first = offset + segment * shape[1]
            index[row, start:end] = torch.arange(first, first + size)
        levels.append(PrefixLevel(ids, mask, positions, of_level))
        parents, starts, offset = segments, ends, offset + shape[0] * shape[1]
    return PrefixTree(levels, index)

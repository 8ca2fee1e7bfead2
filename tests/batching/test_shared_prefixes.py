"""Trees of shared prefixes hold every token of every row, and need less work than the padded batch."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from instruct_lab.batching import Example, Padded, prefixes
from instruct_lab.batching.prefixes import share_prefixes


def batch_of(rows, **options):
    return Padded(**options).collate([Example(row, row, str(index)) for index, row in enumerate(rows)], 0)


def read(tree, row):
    """Read a row from the tree, from its last segment to the first; give the tokens with their positions."""
    found, segment = [], row
    for level in reversed(tree.levels):
        length = int(level.attention_mask[segment].sum())
        ids, positions = level.input_ids[segment][:length].tolist(), level.position_ids[segment][:length].tolist()
        found = [*zip(positions, ids, strict=True), *found]
        segment = int(level.parents[segment])
    return found


PROMPTS = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=12), min_size=1, max_size=4)
ROWS = PROMPTS.flatmap(
    lambda prompts: st.lists(
        st.builds(
            lambda prompt, answer: prompt + answer,
            st.sampled_from(prompts),
            st.lists(st.integers(1, 3), min_size=1, max_size=6),
        ),
        min_size=1,
        max_size=9,
    )
)


@pytest.mark.slow
@settings(max_examples=150)
@given(ROWS, st.sampled_from([0, 5]), st.integers(1, 4))
def test_a_tree_holds_every_token_at_its_position_and_needs_less_work(rows, pass_positions, multiple):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefixes, "PASS_POSITIONS", pass_positions)
        batch = batch_of(rows, pad_to_multiple_of=multiple)
    tree = batch.prefixes
    if tree is None:
        return
    assert [read(tree, row) for row in range(len(rows))] == [list(enumerate(row)) for row in rows]
    assert (tree.levels[-1].attention_mask.sum(dim=1) > 0).all()
    assert tree.num_saved > pass_positions * (len(tree.levels) - 1)
    joined = torch.cat([level.input_ids.flatten() for level in tree.levels])
    assert (joined[tree.index] * batch.attention_mask).equal(batch.input_ids)
    attended = torch.cat([level.attention_mask.flatten() for level in tree.levels])
    assert attended[tree.index][batch.attention_mask.bool()].all()


def widths(rows, patch):
    patch.setattr(prefixes, "PASS_POSITIONS", 1)
    tree = batch_of(rows).prefixes
    return None if tree is None else [tuple(level.input_ids.shape) for level in tree.levels]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1, 2, 3, 4], [1, 2, 5, 6], [1, 2, 7]], [(1, 2), (3, 2)]),
        ([[1, 1, 1, 5, 1], [2, 2, 2, 5, 2], [1, 1, 1, 5, 3], [2, 2, 2, 5, 4]], [(2, 4), (4, 1)]),  # pairs
        ([[9, 9, 1, 1, 1, 5], [9, 9, 2, 2, 2, 5], [9, 9, 1, 1, 1, 6], [9, 9, 2, 2, 2, 7]], [(1, 2), (2, 3), (4, 1)]),
        ([[1, 2, 3], [1, 2, 3], [1, 2, 3]], [(1, 2), (3, 1)]),  # equal rows keep a token each
        ([[1, 2, 3, 4], [5, 6, 7, 8], [9, 2, 3, 4]], None),
        ([[1, 2, 3, 4, 5, 6]], None),
        ([[1], [1, 2, 3], [1, 2, 3]], None),  # nothing is left to share but what a row of one token needs itself
    ],
)
def test_the_prefixes_of_all_rows_and_of_groups_of_rows_are_found(rows, expected, monkeypatch):
    assert widths(rows, monkeypatch) == expected


def test_short_prefixes_are_not_shared():
    row = list(range(1, 60))
    assert share_prefixes(torch.tensor([row, row]), torch.tensor([30, 30])) is None
    assert share_prefixes(torch.tensor([row, row]), torch.tensor([59, 59])) is not None


def test_sharing_can_be_turned_off_and_leaves_the_batch_as_it_is():
    rows = [[*range(1, 60), index] for index in range(4)]
    with_tree, without = batch_of(rows), batch_of(rows, share_prefix="off")
    assert with_tree.prefixes is not None
    assert without.prefixes is None
    assert with_tree.input_ids.equal(without.input_ids)
    assert with_tree.labels.equal(without.labels)
    assert with_tree.rows(0, 2).prefixes is None
    moved = with_tree.to("meta").prefixes
    assert {level.parents.device.type for level in moved.levels} == {moved.index.device.type} == {"meta"}

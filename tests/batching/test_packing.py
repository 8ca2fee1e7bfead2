"""Texts in packed rows: which of them share a row, and the batch that they make."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from instruct_lab.batching import Example, Packed, Packing, Padded
from instruct_lab.batching.efficiency import padding_share
from instruct_lab.batching.packing import best_fit

LENGTHS = st.lists(st.integers(1, 40), max_size=60)


@given(LENGTHS, st.integers(1, 60))
def test_every_text_is_in_one_row_and_rows_are_not_too_long(lengths, row_tokens):
    rows = best_fit(lengths, row_tokens)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(row for row in rows)
    for row in rows:
        assert sum(lengths[index] for index in row) <= row_tokens or len(row) == 1


@given(LENGTHS.filter(bool), st.integers(1, 60))
def test_each_text_goes_to_the_fullest_row_with_space(lengths, row_tokens):
    longest_first = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    row_of = {index: number for number, row in enumerate(best_fit(lengths, row_tokens)) for index in row}
    free = {}
    for index in longest_first:
        fitting = [space for space in free.values() if space >= lengths[index]]
        chosen = row_of[index]
        if fitting:
            assert free.get(chosen) == min(fitting)
        else:
            assert chosen not in free
        free[chosen] = free.get(chosen, max(row_tokens, lengths[index])) - lengths[index]


@given(LENGTHS.filter(bool), st.integers(1, 9))
def test_one_row_holds_all_texts_without_a_limit(lengths, multiple):
    rows, width = Packing(None, multiple).rows(lengths)
    assert rows == [list(range(len(lengths)))]
    assert sum(lengths) <= width < sum(lengths) + multiple
    assert width % multiple == 0


def test_the_order_of_examples_is_that_of_padded_batches():
    examples = [Example([3] * (1 + number % 11), [3] * (1 + number % 11), str(number)) for number in range(90)]
    orders = []
    for batching in (Padded(), Packed(), Packed(row_tokens=2000)):
        loader = batching.loader(examples, seed=3, pad_token_id=0)
        orders.append([batch.ids for _ in range(2) for batch in loader])
    assert orders[0] == orders[1] == orders[2]


@pytest.mark.parametrize(("options", "positions"), [({}, 60), ({"max_tokens": 40, "row_tokens": 45}, 86)])
def test_positions_are_those_of_the_rows(options, positions):
    examples = [Example([3] * length, [3] * length) for length in (40, 3, 17)]
    assert Packed(**options).collate(examples, 0).num_positions == positions
    assert Packed(**options, pad_to_multiple_of=50).collate(examples, 0).num_positions == 100
    assert Padded().collate(examples, 0).num_positions == 120


def test_parts_of_a_packed_batch_are_packed():
    examples = [Example([3] * length, [3] * length, str(length)) for length in (40, 3, 17)]
    (batch,) = Packed(row_tokens=2000).loader(examples, seed=0, pad_token_id=0)
    parts = list(batch.parts(2))
    assert [id_ for part in parts for id_ in part.ids] == batch.ids
    assert {part.packing for part in parts} == {Packing(2000, 1)} == {batch.chosen.packing}


def test_one_row_has_no_padding():
    import numpy as np

    lengths = np.array([40, 3, 17, 9, 1, 30, 30])
    assert padding_share(lengths, 3, Packed().packing) == 0
    limited = Packed(max_tokens=40, row_tokens=40).packing
    assert padding_share(lengths, 3, limited) == pytest.approx(1 - 130 / (2 * 40 + 40 + 30))
    assert [sorted(row) for row in limited.rows([40, 3, 17])[0]] == [[0], [1, 2]]


@pytest.mark.parametrize("max_tokens", [None, 100, 65])
def test_a_row_that_is_shorter_than_an_example_is_refused(max_tokens):
    with pytest.raises(ValidationError, match="longest example"):
        Packed(row_tokens=64, max_tokens=max_tokens)


def test_shared_prefixes_are_refused_with_the_reason():
    with pytest.raises(ValidationError, match="each text of a packed row is computed whole"):
        Packed(share_prefix="auto")

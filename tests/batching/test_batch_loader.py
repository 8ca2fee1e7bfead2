"""The order of batches, and resuming in it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_lab.batching import IGNORED, BatchLoader, Example, Padded
from instruct_lab.batching.token_budget import batches_by_length
from instruct_lab.errors import InstructLabError

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=60)


def examples_of(lengths):
    return [Example([index] * length, [index] * length, str(index)) for index, length in enumerate(lengths)]


def loader_of(lengths, collate=tuple, evaluates=False, **options):
    options = {"batch_size": 4, "seed": 0} | options
    if evaluates:  # batches of up to `batch_size` examples of the greatest length
        tokens, devices = 9 * options["batch_size"], options.get("world_size", 1)
        options["batches"] = batches_by_length(np.array(lengths), tokens, num_devices=devices)
    return BatchLoader(examples_of(lengths), collate, **options)


def position(loader):
    state = loader.state_dict()
    return state["epoch"], state["position"]


def real(batch):
    """The examples of a batch that have labels."""
    return [int(example.id) for example in batch if example.labels != [IGNORED] * len(example.labels)]


shapes = settings(max_examples=60)
options = {
    "lengths": LENGTHS,
    "batch_size": st.integers(1, 7),
    "evaluates": st.booleans(),
    "group_by_length": st.booleans(),
    "seed": st.integers(0, 5),
    "world_size": st.integers(1, 4),
}


@shapes
@given(**options)
def test_every_example_comes_once_an_epoch_over_all_devices(world_size, **settings):
    loaders = [loader_of(rank=rank, world_size=world_size, **settings) for rank in range(world_size)]
    for _ in range(2):
        given_out = [list(loader) for loader in loaders]
        assert {len(batches) for batches in given_out} == {len(loaders[0])}
        assert all(batch for batches in given_out for batch in batches)
        seen = [number for batches in given_out for batch in batches for number in real(batch)]
        assert sorted(seen) == list(range(len(settings["lengths"])))


@shapes
@given(position=st.integers(0, 200), **options)
def test_resuming_anywhere_equals_the_uninterrupted_order(position, world_size, **settings):
    uninterrupted = loader_of(world_size=world_size, **settings)
    batches = [real(batch) for _ in range(3) for batch in uninterrupted]
    position %= len(uninterrupted) * 2 + 1
    first = loader_of(world_size=world_size, **settings)
    taken = []
    while len(taken) < position:
        for batch in first:
            taken.append(real(batch))
            if len(taken) == position:
                break
    state = first.state_dict()
    second = loader_of(world_size=world_size, **settings)
    second.load_state_dict(state)
    assert len(second) == len(uninterrupted)
    rest = [real(batch) for batch in second]
    rest += [real(batch) for batch in second]
    expected = batches[position:]
    assert taken == batches[:position]
    assert rest[: len(expected)] == expected[: len(rest)]
    assert rest


@pytest.mark.slow
@shapes
@given(**options)
def test_devices_together_see_what_one_with_a_larger_batch_sees(world_size, **settings):
    size = settings.pop("batch_size")
    if settings.pop("evaluates"):  # the limit of tokens is that of a device, so these batches depend on the devices
        settings["batches"] = batches_by_length(np.array(settings["lengths"]), 9 * size, num_devices=world_size)
    one = loader_of(batch_size=size * world_size, **settings)
    many = [loader_of(batch_size=size, rank=r, world_size=world_size, **settings) for r in range(world_size)]
    for whole, *parts in zip(one, *many, strict=True):
        assert sorted(real(whole)) == sorted(number for part in parts for number in real(part))


@shapes
@given(**options)
def test_the_order_of_examples_does_not_depend_on_the_batch_size(world_size, **settings):
    del settings["batch_size"], settings["evaluates"]
    orders = [[n for batch in loader_of(batch_size=size, **settings) for n in real(batch)] for size in (1, 3, 8)]
    assert orders[0] == orders[1] == orders[2]


def test_orders_differ_by_epoch_and_seed_and_are_the_same_again():
    lengths = [1] * 50
    first, again, other = loader_of(lengths), loader_of(lengths), loader_of(lengths, seed=1)
    epochs = [[real(batch) for batch in first] for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert epochs == [[real(batch) for batch in again] for _ in range(2)]
    assert epochs[0] != [real(batch) for batch in other]


def test_evaluation_reads_the_same_batches_in_every_epoch_whatever_the_seed():
    lengths = [1 + (index * 7) % 9 for index in range(200)]
    loaders = [loader_of(lengths, evaluates=True, seed=seed) for seed in (0, 1)]
    epochs = [[real(batch) for batch in loader] for loader in loaders for _ in range(2)]
    assert all(epoch == epochs[0] for epoch in epochs)
    widths = [max(lengths[index] for index in batch) for batch in epochs[0]]
    assert sorted(widths, reverse=True) != widths != sorted(widths), "a limited number of batches is a fair sample"


def test_grouping_by_length_leaves_less_padding():
    lengths = [1 + (index * 37) % 101 for index in range(3000)]

    def width(**settings):
        loader = loader_of(lengths, batch_size=8, **settings)
        return sum(len(batch) * max(len(example.input_ids) for example in batch) for batch in loader)

    assert width(group_by_length=True) < 1.05 * sum(lengths)
    assert width(group_by_length=False) > 1.5 * sum(lengths)


def test_a_device_without_an_example_gets_one_without_a_target():
    batches = [next(iter(loader_of([2], rank=rank, world_size=3))) for rank in range(3)]
    assert [real(batch) for batch in batches] == [[0], [], []]
    assert batches[2][0].labels == [IGNORED, IGNORED]


def test_the_position_counts_yielded_batches():
    loader = loader_of([1] * 10)
    assert position(loader) == (0, 0)
    iterator = iter(loader)
    assert position(loader) == (0, 0)
    next(iterator)
    assert position(loader) == (0, 1)
    assert len(list(iterator)) == 2
    assert position(loader) == (0, 3)
    next(iter(loader))
    assert position(loader) == (1, 1)


def test_an_abandoned_epoch_restarts_and_an_untouched_iterator_leaves_no_trace():
    loader = loader_of([1] * 10)
    first = real(next(iter(loader)))
    assert real(next(iter(loader))) == first
    loader.load_state_dict({"epoch": 4, "position": 2})
    iter(loader)
    assert [real(batch) for batch in loader] == [real(batch) for batch in list(loader_of_epoch(4))[2:]]


def loader_of_epoch(epoch):
    loader = loader_of([1] * 10)
    loader.load_state_dict({"epoch": epoch, "position": 0})
    return loader


def test_an_announced_epoch_begins_once():
    loader = loader_of([1] * 10)
    loader.set_epoch(2)
    assert [real(batch) for batch in loader] == [real(batch) for batch in loader_of_epoch(2)]
    loader.set_epoch(3)
    loader.set_epoch(3)
    loader.set_epoch(4)  # no batch of the third was given out: it has not gone by
    assert [real(batch) for batch in loader] == [real(batch) for batch in loader_of_epoch(3)]


@pytest.mark.parametrize("state", [{"epoch": 0, "position": 4}, {"epoch": -1, "position": 0}])
def test_a_position_that_an_epoch_does_not_have_is_refused(state):
    with pytest.raises(InstructLabError, match="an epoch has 3 batches"):
        loader_of([1] * 10).load_state_dict(state)


def test_no_examples_make_no_batches():
    loader = loader_of([])
    assert len(loader) == 0
    assert list(loader) == []


def test_the_component_makes_a_loader_of_padded_tensors():
    loader = Padded(batch_size=2).loader(examples_of([3, 1, 2]), seed=0, pad_token_id=9)
    rows = [row for batch in loader for row in batch.input_ids[batch.attention_mask.bool()].tolist()]
    assert sorted(rows) == [0, 0, 0, 1, 2, 2]
    assert all(isinstance(batch.labels, torch.Tensor) for batch in loader)

"""Rows and predictions of several ranks are gathered to all, in the order of the examples."""

import math
import multiprocessing

import pytest

from instruct_lab.generation import Prediction
from instruct_lab.metrics.gathered_rows import GatheredRows

ROWS = [[0.1 * index, math.inf, float(index % 2)] for index in range(7)]
PREDICTIONS = [Prediction(str(index), "test", "p", "answer 中\ud800" * index, ("a", "b")) for index in range(7)]


def test_one_process_has_its_rows_in_order():
    gathered = GatheredRows()
    assert gathered.rows() == {}
    gathered.update([4, 2], [ROWS[4], ROWS[2]])
    gathered.update([0], ["text"])
    assert list(gathered.rows().items()) == [(0, "text"), (2, ROWS[2]), (4, ROWS[4])]
    gathered.reset()
    gathered.update([1], [{"row": ROWS[1], "prediction": PREDICTIONS[1]}])
    assert gathered.rows() == {1: {"row": ROWS[1], "prediction": PREDICTIONS[1]}}


def test_every_index_has_a_value():
    with pytest.raises(ValueError, match="zip"):
        GatheredRows().update([0, 1], ["a"])


def _gather(rank: int, address: str, results) -> None:
    import torch
    import torch.distributed

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    shares = {
        "unequal": [[0, 3], [1, 2, 4, 5, 6]][rank],
        "empty": [[], list(range(7))][rank],
        "nothing": [],
        "overlapping": [[0, 2, 4, 6], [1, 3, 5, 6]][rank],
    }
    found = {}
    for name, indices in shares.items():
        gathered = GatheredRows()
        for index in reversed(indices):
            gathered.update([index], [(ROWS[index], PREDICTIONS[index])])
        found[name] = list(gathered.rows().items())
        gathered.update([99], ["of this rank only"])
        found[f"{name}, one more"] = len(gathered.rows())
    results.put(found)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_rows_of_both(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    address = f"file://{tmp_path / 'rendezvous'}"
    workers = [context.Process(target=_gather, args=(rank, address, results)) for rank in range(2)]
    for worker in workers:
        worker.start()
    found = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    assert found[0] == found[1]
    whole = list(enumerate(zip(ROWS, PREDICTIONS, strict=True)))
    assert found[0]["unequal"] == found[0]["empty"] == found[0]["overlapping"] == whole
    assert found[0]["nothing"] == []
    assert (found[0]["unequal, one more"], found[0]["nothing, one more"]) == (8, 1)

"""The examples of a step stay the same on another number of devices."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruct_lab.errors import InstructLabError
from instruct_lab.experiment.check import check
from instruct_lab.training.processes import divide_steps


@pytest.fixture(scope="module")
def experiment():
    return check(["model=tiny_random"]).or_refuse().experiment


@given(size=st.integers(1, 64), recorded=st.integers(1, 16), now=st.integers(1, 16))
def test_a_step_takes_as_many_examples_as_before_or_the_run_is_refused(experiment, size, recorded, now):
    started = dataclasses.replace(experiment, batching=dataclasses.replace(experiment.batching, batch_size=size))
    if size * recorded % now:
        with pytest.raises(InstructLabError, match="cannot be divided evenly"):
            divide_steps(started, recorded, now)
    else:
        assert divide_steps(started, recorded, now).batching.batch_size * now == size * recorded


def test_a_new_run_keeps_its_batches(experiment):
    assert divide_steps(experiment, None, 8) is experiment

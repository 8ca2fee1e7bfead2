"""Sweeps over many values are checked in seconds, and those that no machine could run are refused."""

import pytest
from support.hanging import no_hang

from instruct_lab import cli

FIRST = ["model=tiny_random", "tracker=none"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "code", "printed"),
    [
        (["tuning.r=range(1,10001)"], 0, "10000 runs"),
        (["seed=range(0,300)", "tuning.r=range(1,301)"], 0, "90000 runs"),
        (["tuning.r=range(-5,10000)"], 2, "tuning.r = -5"),
        (["tuning.r=" + ",".join(["eight" if index == 3210 else str(index) for index in range(1, 5000)])], 2, "eight"),
        (["tuning.r=range(1,1000000000)"], 2, "more than 100,000 values"),
        (["seed=range(0,1001)", "tuning.r=range(1,1001)"], 2, "1,001,000 points"),
        (["seed=range(0,1001)", "tuning.r=range(1,1001)", "hydra/sweeper=random", "sweep.num_points=3"], 0, "3 runs"),
        (["seed=range(0,1000)", f"optimizer.eps={'9' * 400}"], 2, "optimizer.eps"),
    ],
)
def test_a_large_sweep_is_checked_in_seconds(overrides, code, printed, capsys):
    with no_hang():
        assert cli.main(["check", "-m", *FIRST, *overrides]) == code
    output = capsys.readouterr()
    assert printed in output.out + output.err
    assert len(output.out) + len(output.err) < 10_000

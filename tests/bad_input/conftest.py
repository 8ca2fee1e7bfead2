"""Fixtures of the tests with bad input."""

import pytest
from support.refusals import Refusals


@pytest.fixture
def refused(lab, capsys):
    """Run a command in the `lab` and check that it is refused; see `support.refusals.Refusals.run`."""
    return Refusals(lab, capsys).run

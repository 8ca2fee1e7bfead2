"""Cases of a parametrized test that take long and add little to the others; they run with `pytest -m exhaustive`."""

import pytest

MARKS = (pytest.mark.slow, pytest.mark.exhaustive)


def exhaustive(*values, **settings):
    """Give the values of a further case, as `pytest.param` does, marked as `slow` and `exhaustive`."""
    return pytest.param(*values, marks=MARKS, **settings)

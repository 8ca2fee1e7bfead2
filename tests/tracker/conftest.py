"""Each test has a folder of runs of its own, and trackio reads its folder when it is imported."""

import sys

import pytest


@pytest.fixture(autouse=True)
def trackio_is_imported_by_each_test(monkeypatch):
    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, name)

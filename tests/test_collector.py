"""The garbage collector runs less often while libraries load, and as often as usual while a model trains."""

import gc
import subprocess
import sys
import weakref

import pytest

from instruct_lab import cli, collector


@pytest.fixture(autouse=True)
def restored():
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


class Node:
    def __init__(self):
        self.own = self


def leave_cycles(count):
    return [weakref.ref(Node()) for _ in range(count)]


def test_cycles_wait_until_usual_collections():
    with collector.rare_collections():
        references = leave_cycles(3_000)
        assert all(reference() is not None for reference in references)
        collector.usual_collections()
        assert gc.get_threshold() == collector.USUAL
        later = leave_cycles(3_000)
        assert sum(reference() is None for reference in later) > 1_000


def test_an_error_restores_the_thresholds_and_blocks_may_be_nested():
    gc.set_threshold(500, 5, 5)
    with collector.rare_collections():
        with pytest.raises(ValueError, match="inner"), collector.rare_collections():
            raise ValueError("inner")
        assert gc.get_threshold() == collector.RARE
    assert gc.get_threshold() == (500, 5, 5)


@pytest.mark.parametrize("thresholds", [collector.USUAL, (500, 5, 5), (0, 10, 10)])
def test_nothing_changes_in_a_process_that_did_not_ask_for_rare_collections(thresholds):
    gc.set_threshold(*thresholds)
    frozen = gc.get_freeze_count()
    collector.usual_collections()
    assert (gc.get_threshold(), gc.get_freeze_count()) == (thresholds, frozen)


def test_a_command_collects_rarely_and_its_caller_as_before(monkeypatch, capsys):
    seen = []
    gc.set_threshold(500, 5, 5)
    monkeypatch.setattr(cli, "check_working_directory", lambda: seen.append(gc.get_threshold()))
    assert cli.main(["list", "optimizer"]) == 0
    assert (seen, gc.get_threshold()) == ([collector.RARE], (500, 5, 5))


@pytest.mark.slow
@pytest.mark.parametrize(("command", "is_skipped"), [("list optimizer", True), ("runs", True), ("resume none", False)])
def test_short_commands_end_without_a_collection_and_runs_with_one(tmp_path, command, is_skipped):
    code = (
        "import atexit, gc, sys; from instruct_lab import cli\n"
        "phases = []; gc.callbacks.append(lambda phase, info: phases.append(info['generation']))\n"
        "atexit.register(lambda: print('collected', [one for one in phases if one], gc.get_freeze_count() > 0))\n"
        f"sys.argv[1:] = {command.split()}\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == f"collected [] {is_skipped}"

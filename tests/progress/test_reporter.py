"""The reporter: plain lines in a pipe, a live line in a terminal, and other output beside it."""

import io
import re
import sys
import time

import pytest
from support.hanging import wait_until

from instruct_lab.progress import advance, ensure_reporting, reporter, reporting, stage


class Screen(io.StringIO):
    """A stream that says whether it is a terminal."""

    encoding = "utf-8"

    def __init__(self, is_terminal):
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self):
        return self.is_terminal

    def visible_lines(self):
        """The lines that a user sees, after carriage returns and erasures are applied."""
        return [re.split(r"\r\x1b\[2K", line)[-1] for line in self.getvalue().split("\n")]


@pytest.fixture
def open_screen(monkeypatch):
    """Replace standard error by a screen, and shorten the times of the reporter."""
    monkeypatch.delenv("TERM", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    for name, seconds in {"REDRAW_SECONDS": 0.01, "FIRST_LINE_SECONDS": 0.1, "LINE_SECONDS": 0.25}.items():
        monkeypatch.setattr(reporter, name, seconds)

    def replace(is_terminal=False):
        screen = Screen(is_terminal)
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr(sys, "stdout", screen if is_terminal else Screen(False))
        return screen

    return replace


def test_nothing_is_reported_outside_a_block(open_screen):
    screen = open_screen()
    with stage("loading", 3) as loading:
        advance()
        loading.advance()
    assert screen.getvalue() == ""
    assert loading.done == 1  # `advance` counts only for a reported stage


def test_the_first_stage_of_an_announced_command_is_written_at_once(open_screen):
    screen = open_screen()
    with reporting(is_announced=True), stage("composing the config"):
        assert screen.getvalue() == "composing the config\n"


def test_stages_that_end_soon_get_no_line(open_screen):
    screen = open_screen()
    with reporting():
        for _ in range(5):
            with stage("short"):
                pass
    assert screen.getvalue() == ""


def test_a_stage_that_takes_long_gets_a_line_and_later_another(open_screen):
    screen = open_screen()
    with reporting(), stage("reading", unit="row"):
        wait_until(lambda: "reading" in screen.getvalue())
        started = time.monotonic()
        advance(7)
        wait_until(lambda: screen.getvalue().count("\n") == 2)
        assert time.monotonic() - started >= 0.2
    assert screen.getvalue().splitlines()[-1].startswith("reading: 7 rows")


@pytest.mark.slow
def test_other_output_counts_as_a_sign_of_life(open_screen):
    screen = open_screen()
    with reporting(), stage("reading"):
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            print("a message", file=sys.stderr)
            time.sleep(0.01)
        assert "reading" not in screen.getvalue()


def test_a_line_that_a_stage_asks_for_comes_earlier(open_screen, monkeypatch):
    screen = open_screen()
    monkeypatch.setattr(reporter, "LINE_SECONDS", 1000.0)
    with reporting(is_announced=True), stage("training", 9, "step") as training:
        training.update(5)
        training.wants_line = True
        wait_until(lambda: "5/9 steps" in screen.getvalue())


def test_in_a_pipe_there_are_no_control_characters(open_screen):
    screen = open_screen()
    with reporting(is_announced=True), stage("outer"), stage("inner", 3):
        wait_until(lambda: "outer: inner: 0/3" in screen.getvalue())
    assert "\x1b" not in screen.getvalue()
    assert "\r" not in screen.getvalue()


def test_the_live_line_is_drawn_again_and_erased_at_the_end(open_screen):
    screen = open_screen(is_terminal=True)
    with reporting(), stage("training", 4, "step") as training:
        wait_until(lambda: "0/4 steps" in screen.getvalue())
        training.advance()
        wait_until(lambda: "1/4 steps" in screen.getvalue())
    assert screen.visible_lines() == [""]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_stands_above_the_live_line(open_screen, stream):
    screen = open_screen(is_terminal=True)
    with reporting(is_announced=True), stage("training"):
        print("step 1", file=getattr(sys, stream))
        wait_until(lambda: screen.visible_lines()[-1].startswith("training"))
        print("step 2", file=getattr(sys, stream))
    assert screen.visible_lines() == ["step 1", "step 2", ""]


def test_the_live_line_waits_while_a_prompt_stands_in_the_line(open_screen):
    screen = open_screen(is_terminal=True)
    with reporting(is_announced=True):
        sys.stdout.write("you> ")
        with stage("answering"):
            time.sleep(0.1)
            sys.stdout.write("Hello")
            time.sleep(0.1)
            assert screen.getvalue() == "you> Hello"
            print()
            wait_until(lambda: "answering" in screen.getvalue())


def test_results_in_a_pipe_hold_no_progress(open_screen, monkeypatch):
    screen = open_screen(is_terminal=True)
    pipe = Screen(False)
    monkeypatch.setattr(sys, "stdout", pipe)
    with reporting(is_announced=True), stage("training"):
        print("result")
        wait_until(lambda: "training" in screen.getvalue())
    assert pipe.getvalue() == "result\n"


def test_an_error_leaves_no_line_behind(open_screen):
    screen = open_screen(is_terminal=True)
    with pytest.raises(ValueError, match="x"), reporting(is_announced=True), stage("training"):
        raise ValueError("x")
    stage("never closed").__enter__()
    time.sleep(0.1)
    assert screen.visible_lines() == [""]
    assert sys.stderr is screen


def test_a_block_inside_another_has_its_own_stages_and_stream(open_screen, monkeypatch):
    screen = open_screen()
    with reporting(is_announced=True):
        with stage("planning"):
            pass
        inner = Screen(False)
        monkeypatch.setattr(sys, "stderr", inner)
        with reporting(is_announced=True), stage("trial"):
            pass
    assert inner.getvalue() == "trial\n"
    assert screen.getvalue() == "planning\n"


def test_a_run_of_a_python_program_reports_too(open_screen):
    screen = open_screen()
    with ensure_reporting(), stage("training"):
        wait_until(lambda: "training" in screen.getvalue())
        with ensure_reporting():
            assert reporter._current.stages[0].name == "training"  # the same reporter
    assert reporter._current is None


def test_only_the_first_process_of_a_run_reports(open_screen, monkeypatch):
    screen = open_screen()
    monkeypatch.setenv("LOCAL_RANK", "1")
    with reporting(is_announced=True), stage("training"):
        time.sleep(0.3)
    assert screen.getvalue() == ""

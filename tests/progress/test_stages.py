"""The text of a stage: counts, speed and the estimate of the remaining time."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruct_lab.progress.line import format_line
from instruct_lab.progress.stages import Stage, describe, format_seconds


class Clock:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3000, "50 min"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize("each", [0.5, 4.0, 45.0, 400.0])
def test_the_remaining_time_survives_slow_steps(clock, each):
    stage = Stage("training", 20, "step")
    assert stage.seconds_left() is None
    clock.now += 10 * each  # the first step also starts the libraries
    stage.advance()
    for _ in range(9):
        clock.now += each
        stage.advance()
    assert stage.seconds_each == pytest.approx(each)
    assert stage.seconds_left() == pytest.approx(10 * each)
    clock.now += each / 2  # in the middle of a step
    assert stage.seconds_left() == pytest.approx(9.5 * each)
    clock.now += 5 * each  # a step that takes longer than the others
    assert stage.seconds_left() == pytest.approx(9 * each)


@given(st.lists(st.floats(0.3, 100), min_size=3, max_size=40), st.integers(0, 30), st.integers(1, 50))
def test_the_remaining_time_is_the_mean_of_what_was_measured(durations, done_before, left):
    clock, patch = Clock(), pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(time, "monotonic", clock)
        stage = Stage("training", done_before + len(durations) + left, "step")
        stage.start_at(done_before)
        for seconds in durations:
            clock.now += seconds
            stage.advance()
        assert stage.done == done_before + len(durations)
        mean = sum(durations[1:]) / len(durations[1:])
        assert stage.seconds_left() == pytest.approx(mean * left)


def test_parts_of_a_unit_count_for_the_remaining_time_only(clock):
    stage = Stage("answers", 64)
    for token in range(1, 5):
        clock.now += 1
        stage.update(0, ahead=32 * token / 8, note=f"token {token} of at most 8")
    assert stage.describe() == "answers: 0/64, token 4 of at most 8, 12 s left"


def test_a_slow_unit_is_reported_in_seconds_each(clock):
    stage = Stage("training", 4, "step")
    for _ in range(3):
        clock.now += 32.04
        stage.advance()
    stage.note = "loss 1.5"
    assert stage.describe() == "training: 3/4 steps, loss 1.5, 32.0 s/step, 32 s left"


def test_a_stage_without_a_total_shows_what_is_done_and_its_time(clock):
    stage = Stage("reading the data", unit="row")
    assert stage.describe() == "reading the data"
    clock.now += 12
    stage.advance(12_400)
    assert stage.describe() == "reading the data: 12,400 rows, 12 s"


def test_stages_inside_each_other_are_one_text(clock):
    stages = [Stage("training", 64, "step"), Stage("validation", 3, "batch")]
    stages[0].advance(16)
    assert describe(stages) == "training: 16/64 steps: validation: 0/3 batches"


def test_a_name_reaches_no_terminal_as_control_characters():
    assert describe([Stage("loading \x1b[2J")]) == "loading ␛[2J"


@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=60), st.integers(0, 10**7), st.integers(1, 10**7)),
        min_size=1,
        max_size=3,
    ),
    st.integers(8, 200),
)
def test_the_live_line_fits_every_width(described, width):
    from rich.cells import cell_len

    stages = [Stage(name, max(done, total), "step") for name, done, total in described]
    for stage, (_, done, _) in zip(stages, described, strict=True):
        stage.advance(done)
    line = format_line(stages, width)
    assert cell_len(line) < width
    assert "\n" not in line


@pytest.mark.parametrize(("done", "bar"), [(0, "-" * 20), (16, "#" * 5 + "-" * 15), (64, "#" * 20)])
def test_the_bar_is_filled_by_the_share_that_is_done(done, bar):
    stage = Stage("training", 64, "step")
    stage.start_at(done)
    assert format_line([stage], 80, ("#", "-")).startswith(f"{bar} training: {done}/64 steps")
    assert not format_line([stage], 40, ("#", "-")).startswith(bar)

"""Warnings of libraries go to the log of a run; warnings of other code are shown."""

import sysconfig
import warnings
from pathlib import Path

import pytest

from instruct_lab import cli, library_warnings

LIBRARY = str(Path(sysconfig.get_path("purelib")) / "optuna" / "samplers.py")


def warn(text, filename=LIBRARY):
    """Issue a warning as the file would."""
    warnings.warn_explicit(text, FutureWarning, filename, 7)


@pytest.fixture(autouse=True)
def every_warning(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        yield


@pytest.mark.parametrize("filename", [LIBRARY, warnings.__file__])
def test_a_librarys_warning_goes_to_the_log(capsys, filename):
    log = []
    with library_warnings.off_screen(), library_warnings.logged(log.append):
        warn("experimental\n  feature", filename)
    assert log == [f"FutureWarning: experimental feature ({filename}, line 7)"]
    assert "experimental" not in capsys.readouterr().err


def test_warnings_from_before_the_log_are_written_once():
    log = []
    with library_warnings.off_screen():
        for text in ("first", "second", "first"):
            warn(text)
        with library_warnings.logged(log.append):
            warn("third")
    assert [line.split()[1] for line in log] == ["first", "second", "third"]


def test_the_inner_log_gets_the_warnings_of_a_trial():
    sweep, trial = [], []
    with library_warnings.off_screen(), library_warnings.logged(sweep.append):
        with library_warnings.logged(trial.append):
            warn("of the trial")
        warn("of the sweep")
    assert ["trial" in line for line in trial] == [True]
    assert ["sweep" in line for line in sweep] == [True]


def test_a_warning_of_the_users_own_code_is_shown(tmp_path, recwarn):
    log = []
    with library_warnings.off_screen(), library_warnings.logged(log.append):
        warn("my metric has no rows", str(tmp_path / "my_metric.py"))
    assert log == []
    assert [str(one.message) for one in recwarn] == ["my metric has no rows"]


@pytest.mark.slow
def test_optunas_warnings_are_in_the_sweeps_log(lab, capsys):
    sweep = ["-m", "tuning.r=choice(2,4)", "hydra/sweeper=tpe", "sweep.num_points=1", "evaluation.before=false"]
    tiny = ["model=tiny_random", "data=mine", "tracker=none", "generation.max_new_tokens=2", "trainer.max_epochs=1"]
    assert cli.main(["train", *tiny, *sweep]) == 0
    printed = capsys.readouterr()
    assert "Experimental" not in printed.out + printed.err
    (database,) = (lab / "runs").glob("*/*/optuna.db")
    log = database.with_name("log.txt")
    assert "ExperimentalWarning" in log.read_text(encoding="utf-8")

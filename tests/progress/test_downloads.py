"""Downloads of huggingface_hub, reported as a stage."""

import importlib

import pytest

from instruct_lab.progress import Stage
from instruct_lab.progress.downloads import download_bar


def test_bytes_are_reported_in_megabytes_and_nothing_is_drawn(capsys):
    report = Stage("downloading", unit="MB")
    with download_bar(report)(unit="B", unit_scale=True, total=5_400_000, desc="model.safetensors", name="hub") as bar:
        bar.update(2_500_000)
        assert report.describe().startswith("downloading: 2/5 MB")
        bar.update(2_900_000)
    assert (report.done, report.total) == (5, 5)
    assert capsys.readouterr() == ("", "")


def test_a_total_that_grows_is_followed():
    report = Stage("downloading", unit="MB")
    bar = download_bar(report)(unit="B", total=0, desc="Reconstructing (incomplete total...)")
    bar.update(1_000_000)
    assert report.total is None
    bar.total = 9_000_000
    bar.update(1_000_000)
    assert (report.done, report.total) == (2, 9)


@pytest.mark.parametrize(
    "settings", [{"total": 7, "desc": "Fetching 7 files"}, {"unit": "B", "desc": "Downloading bytes"}]
)
def test_bars_that_count_something_else_are_not_reported(settings):
    report = Stage("downloading", unit="MB")
    download_bar(report)(**settings).update(3_000_000)
    assert (report.done, report.total) == (0, None)


def test_the_bar_suits_the_hubs_library():
    hub = importlib.import_module("huggingface_hub.utils.tqdm")  # the package's name `tqdm` is that of a class
    report = Stage("downloading", unit="MB")
    bar = hub._create_progress_bar(
        cls=download_bar(report), log_level=20, name="x", unit="B", total=2_000_000, desc="f"
    )
    bar.update(2_000_000)
    assert (report.done, report.total) == (2, 2)

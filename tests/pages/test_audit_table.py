"""The audit in the terminal: one row a stage that did something, few lines, nothing of the data taken for markup."""

import io

import pytest
from rich.console import Console

from instruct_lab.data.audit import Audit
from instruct_lab.pages.audit_stages import read_stages
from instruct_lab.pages.audit_table import show
from instruct_lab.pages.format import format_percent
from instruct_lab.pages.histogram import BLOCKS, sparkline

TOKENS = {
    "examples": 510,
    "tokens": 25_746,
    "target_tokens": 7_502,
    "target_share": 0.2914,
    "truncated": 3,
    "longest": 179,
    "padding_share": 0.072,
    "lengths": {"bounds": [0, 10, 20, 30], "counts": [1, 8, 4]},
    "target_lengths": {"bounds": [0, 10, 20], "counts": [12, 1]},
}


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.26, "26.0 %"), (0.0434, "4.34 %"), (1.0, "100 %"), (0.9999, "100 %"), (0.94, "94.0 %"), (0, "0 %")],
)
def test_shares_have_three_significant_digits(share, text):
    assert format_percent(share) == text


def printed(audit, width=100, encoding="utf-8"):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    show(Console(file=stream, width=width), audit)
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


def default_run():
    """As the default data set gives it: three sources, three splits."""
    audit = Audit()
    for split, source, rows in (("train", "horizon", 3255), ("train", "wagtail", 1892), ("test", "django", 863)):
        stage = f"data/{split}/{source}"
        for reason in ("plural entry", "same text and translation as before"):
            audit.record(stage, "dropped", reason, "row")
        audit.rows(stage, rows, rows - 2)
    audit.record("data/overlap", "dropped", "train prompt also in test", "row")
    audit.record("data/overlap", "dropped", "validation prompt also in test", "row")
    audit.rows("data/overlap", 6004, 6002)
    audit.rows("data/limit/train", 4011, 512)
    audit.rows("data/limit/validation", 499, 128)
    for split, rows in (("train", 512), ("validation", 128), ("test", 811)):
        for step in ("normalize", "clean"):
            audit.rows(f"preprocessing/{split}/{step}", rows, rows)
        audit.record(f"preprocessing/{split}/clean", "changed", "white space or control characters", "a ", "a")
    audit.record("preprocessing/train/deduplicate", "dropped", "same conversation as before", "row")
    audit.rows("preprocessing/train/deduplicate", 512, 511)
    for split in ("train", "test"):
        audit.record("batching", "dropped", f"{split}: longer than 1024 tokens", "row")
    audit.rows("batching", 1450, 1448)
    audit.facts["tokens"] = dict.fromkeys(("train", "validation", "test"), TOKENS)
    return audit.to_json()


def test_the_three_splits_of_a_step_are_one_row():
    (line,) = [line for line in printed(default_run()).splitlines() if line.startswith("clean")]
    assert "512 / 128 / 811" in line
    assert "changed 3 white space or control characters" in line


def test_rows_in_and_out_stand_beside_the_reasons():
    lines = printed(default_run()).splitlines()
    (deduplicate,) = [line for line in lines if line.startswith("deduplicate")]
    assert "512→511" in deduplicate
    assert "dropped 1 same conversation as before" in deduplicate
    (limit,) = [line for line in lines if line.startswith("limit")]
    assert "left out 3,870" in limit


def test_a_stage_that_did_nothing_is_left_out():
    assert "normalize" not in printed(default_run())


def test_the_splits_that_batching_names_in_its_reasons_are_added_up():
    assert "dropped 2 longer than 1024 tokens" in printed(default_run())


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_default_run_fits_a_screen_whatever_the_width(width):
    lines = printed(default_run(), width).splitlines()
    assert len(lines) <= 25 + (width < 100) * 3
    assert all(len(line) <= width for line in lines)
    for split in ("train", "validation", "test"):
        assert any(line.startswith(split) and "29.1 %" in line and "179" in line for line in lines)


def test_two_hundred_sources_and_thirty_reasons_fit_a_screen_too():
    audit = Audit()
    for number in range(200):
        for reason in range(5):
            audit.record(f"data/train/source{number}", "dropped", f"reason {reason}", "row")
        audit.rows(f"data/train/source{number}", 100, 95)
    for step in range(30):
        for reason in range(4):
            audit.record(f"preprocessing/train/step{step}", "dropped", f"reason {step}.{reason}", "row")
        audit.rows(f"preprocessing/train/step{step}", 1000, 996)
    text = printed(audit.to_json())
    assert len(text.splitlines()) <= 25
    assert "200 sources" in text
    assert "20,000→19,000" in text
    assert "more stages" in text


def test_nothing_done_is_one_line():
    audit = Audit()
    audit.rows("data/train/mine", 510, 510)
    audit.facts["tokens"] = {"train": TOKENS}
    (line,) = printed(audit.to_json(), width=40).splitlines()
    assert "every row kept as it was" in line
    assert "510 examples" in line
    assert printed({"stages": {}, "reasons": [], "facts": {}}).splitlines() == ["data: every row kept as it was"]


def test_text_of_the_data_is_no_markup_and_no_escape_sequence():
    audit = Audit()
    audit.record("data/train/[red]mine[/red]", "dropped", "reason [bold]x[/bold] \x1b[31m :smile:", "row")
    text = printed(audit.to_json())
    assert "[red]mine[/red]" in text
    assert "[bold]x[/bold] ␛[31m :smile:" in text
    assert "\x1b" not in text


def test_a_terminal_without_unicode_is_served():
    audit = Audit()
    audit.record("data/train/mine", "dropped", "文字", "row")
    audit.rows("data/train/mine", 3, 2)
    audit.facts["tokens"] = {"train": TOKENS}
    text = printed(audit.to_json(), encoding="ascii")
    assert "3->2" in text
    assert "\\u6587" in text


def test_stages_keep_the_order_in_which_rows_came_to_them():
    names = [stage.name for stage in read_stages(default_run())]
    assert names == [
        *("source horizon", "source wagtail", "source django", "overlap", "limit", "normalize", "clean"),
        *("deduplicate", "batching"),
    ]


def test_a_source_and_a_split_of_the_same_name_are_not_confused():
    audit = Audit()
    audit.rows("data/train/train", 5, 4)
    audit.rows("data/train/limit", 4, 4)
    audit.rows("data/limit/train", 4, 3)
    stages = {stage.name: stage.counts for stage in read_stages(audit.to_json())}
    assert stages == {"source train": {"train": (5, 4)}, "source limit": {"train": (4, 4)}, "limit": {"train": (4, 3)}}


def test_a_sparkline_shows_every_bin_that_holds_something():
    assert sparkline([0, 1, 1000]) == f" {BLOCKS[0]}{BLOCKS[-1]}"
    assert len(sparkline(range(30), 15)) == 15
    assert sparkline([1, 2], ascii_only=True).isascii()
    assert sparkline([]) == ""


def test_warnings_stand_below_the_tables_as_they_are():
    audit = default_run()
    audit["facts"]["warnings"] = ["train: [bold] 3 of 10 texts"]
    assert "warning: train: [bold] 3 of 10 texts" in printed(audit).splitlines()[-1]


def test_columns_that_are_not_used_are_one_line() -> None:
    unused = {"data/train/a": {"unused_columns": {"id": 3, "[bold]": 1}}, "data/test/a": {"unused_columns": {"id": 1}}}
    lines = printed({"stages": {}, "reasons": [], "facts": unused}).splitlines()
    assert lines[1:] == ["columns not used: id, [bold] (kept as metadata)"]

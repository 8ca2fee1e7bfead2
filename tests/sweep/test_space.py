"""What varies: Hydra's syntax, conditions, points; and what is refused."""

import pytest

from instruct_lab.sweep.corners import at_equal_distances, corners
from instruct_lab.sweep.space import SpaceError, dimension_of, points_dimension, space_of


def overrides(*dimensions):
    space = space_of(dimensions)
    return [space.overrides(point) for point in space.grid()]


def test_a_grid_has_every_combination_with_the_last_dimension_varying_fastest():
    found = overrides(dimension_of("tuning.r", "4,8"), dimension_of("optimizer.lr", "choice(1e-4, 3e-4)"))
    assert found == [
        ["tuning.r=4", "optimizer.lr=0.0001"],
        ["tuning.r=4", "optimizer.lr=0.0003"],
        ["tuning.r=8", "optimizer.lr=0.0001"],
        ["tuning.r=8", "optimizer.lr=0.0003"],
    ]


@pytest.mark.parametrize(
    ("entry", "labels"),
    [
        ("1,2,3", ["1", "2", "3"]),
        ("range(1, 8, 3)", ["1", "4", "7"]),
        ([4, 0.5, True, None, "a b", "it's"], ["4", "0.5", "True", "null", "a\\ b", '"it\'s"']),
        ("'a,b','c'", ["'a,b'", "'c'"]),
        ("[a,b],[c]", ["[a,b]", "[c]"]),
        (8, ["8"]),
    ],
)
def test_choices(entry, labels):
    assert list(dimension_of("key", entry).choices) == labels


def test_glob_selects_options_of_a_group():
    labels = list(dimension_of("tuning", "glob(*lora*, exclude=[olora, qlora, *plus])").choices)
    assert labels == ["lora", "rslora"]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("interval(0, 1)", (0.0, 1.0, False, False)),
        ("interval(0.0, 1.0)", (0.0, 1.0, False, False)),
        ("tag(log, interval(1e-5, 1e-3))", (1e-5, 1e-3, True, False)),
        ("tag(log, int(interval(4, 64)))", (4, 64, True, True)),
    ],
)
def test_intervals(entry, expected):
    found = dimension_of("key", entry)
    assert (found.low, found.high, found.log, found.is_integer) == expected
    assert found.is_interval


def test_a_condition_removes_the_dimension_elsewhere_and_no_point_occurs_twice():
    method = dimension_of("tuning", "lora,full")
    rank = dimension_of("tuning.r", {"values": "4,8", "when": "tuning=lora"})
    assert overrides(method, rank) == [["tuning=lora", "tuning.r=4"], ["tuning=lora", "tuning.r=8"], ["tuning=full"]]


def test_points_are_combined_with_what_varies():
    points = points_dimension(["tuning=zero_shot", ["tuning=full", "optimizer.lr=2e-5"]])
    assert overrides(points, dimension_of("data", "a,b")) == [
        ["tuning=zero_shot", "data=a"],
        ["tuning=zero_shot", "data=b"],
        ["tuning=full", "optimizer.lr=2e-5", "data=a"],
        ["tuning=full", "optimizer.lr=2e-5", "data=b"],
    ]


def test_corners_contain_every_choice_and_bound():
    space = space_of(
        [
            dimension_of("tuning", "lora,full,ia3"),
            dimension_of("tuning.r", {"values": "interval(4, 64)", "when": "tuning=lora"}),
            dimension_of("optimizer.lr", "tag(log, interval(1e-5, 1e-3))"),
        ]
    )
    found = list(corners(space))
    assert {corner["tuning"] for corner in found} == {"lora", "full", "ia3"}
    assert {corner["tuning.r"] for corner in found if "tuning.r" in corner} == {4, 64}
    assert {corner["optimizer.lr"] for corner in found} == {1e-5, 1e-3}


@pytest.mark.slow
def test_corners_of_a_long_dimension_hold_its_extremes_and_kinds():
    values = [str(index) for index in range(5000)]
    values[1234], values[1235], values[1236], values[1237] = "-7", "99999.5", "null", "[4]"
    found = [corner["tuning.r"] for corner in corners(space_of([dimension_of("tuning.r", ",".join(values))]))]
    assert {"0", "4999", "-7", "99999.5", "null", "[4]"} <= set(found)
    assert len(found) < 50
    assert len(set(found)) == len(found)


def test_corners_hold_all_combinations_of_options():
    dimensions = [dimension_of("tuning", "lora,full,ia3"), dimension_of("data", "a,b,c"), dimension_of("seed", "1,2")]
    found = {(corner["tuning"], corner["data"]) for corner in corners(space_of(dimensions))}
    assert len(found) == 9


@pytest.mark.slow
def test_corners_hold_every_option_that_long_lists_of_points_set():
    points = [[f"seed={index}", "tuning=ia3" if index == 777 else "tuning=lora"] for index in range(1000)]
    found = [corner["points"] for corner in corners(space_of([points_dimension(points)]))]
    assert any("tuning=ia3" in label for label in found)
    assert len(found) < 40


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: dimension_of("key", "interval(1, 1)"), "not above its start"),
        (lambda: dimension_of("key", "tag(log, interval(0, 1))"), "above 0"),
        (lambda: dimension_of("key", "tag(lag, interval(1, 2))"), "tag lag"),
        (lambda: dimension_of("key", "shuffle(1,2)"), "shuffle"),
        (lambda: dimension_of("key", "1,1"), "twice"),
        (lambda: dimension_of("key", "glob(*)"), "group"),
        (lambda: dimension_of("tuning", "glob(nothing*)"), "no value"),
        (lambda: dimension_of("key", {"value": "1,2"}), "values and when"),
        (lambda: dimension_of("key", "choice(1"), "choice"),
        (lambda: dimension_of("key", "range(0, 1000000000)"), "values"),
        (lambda: space_of([dimension_of(key, "range(0, 400)") for key in ("a", "b")]).grid(), "160,000 points"),
        (lambda: points_dimension(["a=1", "a=1"]), "twice"),
        (lambda: points_dimension(["a=1,2"]), "one value"),
        (lambda: space_of([dimension_of("a", {"values": "1,2", "when": "b=1"})]), "depends on b"),
        (
            lambda: space_of([dimension_of("b", "1,2"), dimension_of("a", {"values": "1,2", "when": "b=3"})]),
            "not one of its values",
        ),
        (lambda: space_of([points_dimension(["a=1", "a=2"]), dimension_of("a", "1,2")]), "a is set by"),
        (lambda: space_of([dimension_of("a", "interval(1, 2)")]).grid(), "interval"),
    ],
)
def test_an_invalid_space_is_refused_with_the_reason(make, reason):
    with pytest.raises(SpaceError, match=reason):
        make()


def test_items_at_equal_distances_begin_with_the_first_and_end_with_the_last():
    items = list(range(10))
    assert at_equal_distances(items, 4) == [0, 3, 6, 9]
    assert at_equal_distances(items, 1) == [0]
    assert at_equal_distances(items, 20) == items

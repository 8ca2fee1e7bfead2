"""Labels name what differs between runs, shortly and in a stable order."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruct_lab.records import RunRecord
from instruct_lab.records.labels import MAX_VALUE, Label, label_runs, label_typed
from instruct_lab.records.run_settings import RunSettings

LORA = {"tuning._target_": "instruct_lab.tuning.LoRA", "tuning.r": 8, "tuning.alpha": 16, "optimizer.lr": 2e-4}
FULL = {"tuning._target_": "instruct_lab.tuning.Full", "optimizer.lr": 2e-5}


def settings(tuning="lora", typed=(), derived=(), choices=(), **values):
    named = {key.replace("__", "."): value for key, value in values.items()}
    start = LORA if tuning == "lora" else FULL
    return RunSettings({"tuning": tuning, **dict(choices)}, {**start, **named}, frozenset(typed), frozenset(derived))


def texts(*runs, **arguments):
    return [str(label) for label in label_runs(runs, **arguments)]


TYPED = ("tuning", "tuning.r", "optimizer.lr")
CASES = {
    "choices and typed values": (
        [settings(typed=TYPED), settings(typed=TYPED, tuning__r=4, optimizer__lr=0.01), settings("full", typed=TYPED)],
        ["lora r=8 lr=0.0002", "lora r=4 lr=0.01", "full lr=2e-05"],
    ),
    "what follows from an option is left out": ([settings(), settings("full"), settings()], ["lora", "full", "lora"]),
    "typed values that vary together are all named": (
        [settings(typed=TYPED), settings(typed=TYPED, tuning__r=4, optimizer__lr=0.01)],
        ["r=8 lr=0.0002", "r=4 lr=0.01"],
    ),
    "a value that follows from a typed one is left out": (
        [settings(typed=TYPED), settings(typed=TYPED, tuning__r=4, tuning__alpha=8)],
        ["r=8", "r=4"],
    ),
    "a derived value is left out": (
        [settings(derived=["optimizer.lr"], x=1), settings(derived=["optimizer.lr"], x=2, optimizer__lr=3.0)],
        ["x=1", "x=2"],
    ),
    "a key of a newer version is no difference": (
        [settings(x=1), settings(x=1, new=True), settings(x=2)],
        ["x=1", "x=1", "x=2"],
    ),
    "a study stands for what it sets": (
        [settings(choices={"experiments": "first", "data": "a"}), settings(choices={"experiments": "b", "data": "c"})],
        ["first", "b"],
    ),
    "runs without a study": (
        [settings(choices={"experiments": "first"}, x=2), settings(x=3)],
        ["first", "no experiments"],
    ),
    "equal last parts get more parts": (
        [settings(typed=["a.lr", "b.lr"], a__lr=1, b__lr=2), settings(typed=[], a__lr=2, b__lr=1)],
        ["a.lr=1 b.lr=2", "a.lr=2 b.lr=1"],
    ),
    "an option that is no name of its own": (
        [settings(choices={"pruner": "none"}), settings(choices={"pruner": "median"})],
        ["pruner=none", "pruner=median"],
    ),
    "only as many digits as needed": (
        [settings(typed=TYPED, optimizer__lr=3.6912345e-4), settings(typed=TYPED, optimizer__lr=3.6918e-4)],
        ["lr=0.0003691", "lr=0.0003692"],
    ),
    "classes by their names": (
        [settings(optimizer___target_="torch.optim.Adam"), settings(optimizer___target_="torch.optim.SGD")],
        ["optimizer=Adam", "optimizer=SGD"],
    ),
    "lists": ([settings(x=["a", "b"]), settings(x=[0.9, 0.95])], ["x=a+b", "x=[0.9,0.95]"]),
    "a damaged run": ([settings(), RunSettings(), settings("full")], ["lora", "", "full"]),
    "equal runs": ([settings(), settings()], ["", ""]),
    "one run": ([settings(typed=TYPED)], [""]),
}


@pytest.mark.parametrize("name", CASES)
def test_labels(name):
    runs, expected = CASES[name]
    for order in itertools.permutations(range(len(runs))):
        assert texts(*(runs[index] for index in order)) == [expected[index] for index in order]


def test_the_seed_is_last_and_can_be_left_out():
    runs = [settings(seed=seed, typed=["seed", "optimizer.lr"], optimizer__lr=seed % 2) for seed in range(3)]
    assert texts(*runs) == ["lr=0 seed=0", "lr=1 seed=1", "lr=0 seed=2"]
    assert texts(*runs, with_seed=False) == ["lr=0", "lr=1", "lr=0"]


def test_long_values_stay_different():
    paths = [f"/data/{'deep/' * 9}{name}/rows/all/of/them/rows.jsonl" for name in "ab"]
    ends = [f"/data/{'deep/' * 9}{name}.jsonl" for name in "ab"]
    for values in (paths, ends):
        found = texts(*(settings(path=path) for path in values))
        assert len(set(found)) == 2
        assert all(len(label) <= len("path=#1") + MAX_VALUE for label in found)
    assert texts(*(settings(path=path) for path in ends))[0].endswith("a.jsonl")


@pytest.mark.parametrize(
    ("width", "expected"),
    [(18, "lora r=8 lr=0.0002"), (17, "lora r=8 +1"), (11, "lora r=8 +1"), (8, "lora +2"), (5, "lora"), (3, "lo…")],
)
def test_a_label_is_cut_between_its_parts(width, expected):
    assert Label(("lora", "r=8", "lr=0.0002")).fit(width) == expected


@pytest.mark.parametrize(
    ("width", "expected"),
    [(28, "model lora r=8 lr=0.1 seed=1"), (27, "r=8 seed=1"), (9, "r=8 +1"), (3, "r=8"), (2, "r…")],
)
def test_a_label_that_is_cut_shows_what_few_runs_share(width, expected):
    assert Label(("model", "lora", "r=8", "lr=0.1", "seed=1"), frozenset({0, 1, 3})).fit(width) == expected


def test_what_most_runs_share_is_known():
    runs = [settings(typed=TYPED, optimizer__lr=lr) for lr in (0.1, 0.1, 0.1, 0.2)]
    assert [label.common for label in label_runs(runs)] == [{0}, {0}, {0}, set()]
    assert [label.common for label in label_runs(runs[2:])] == [set(), set()]


@given(st.lists(st.text("abc=", min_size=1, max_size=9), max_size=6), st.sets(st.integers(0, 5)), st.integers(1, 60))
def test_a_label_is_never_wider_than_asked(parts, common, width):
    label = Label(tuple(parts), frozenset(index for index in common if index < len(parts)))
    assert len(label.fit(width)) <= width
    assert label.fit(len(str(label))) == str(label)


def test_one_run_is_labelled_by_what_was_typed(tmp_path):
    config = {"tuning": {"r": 4}, "optimizer": {"lr": 0.01}, "name": "x", "seed": 3}
    overrides = ["tuning=lora", "+tuning.r=4", "optimizer.lr=0.01", "name=x", "seed=3", "tracker=wandb"]
    choices = {"tuning": "lora", "data": "mine", "tracker": "wandb"}
    record = RunRecord.create(tmp_path, "x", config, overrides, choices=choices)
    assert str(label_typed(RunSettings.read(record))) == "lora r=4 lr=0.01 seed=3"
    assert str(label_typed(settings())) == ""


def test_settings_are_read_from_the_config_if_it_was_edited(tmp_path):
    record = RunRecord.create(tmp_path, "x", {"tuning": {"r": 4}}, [], sweep={"values": {"tuning.r": 4}})
    assert RunSettings.read(record).values["tuning.r"] == 4
    assert RunSettings.read(record).typed == {"tuning.r"}
    (record.path / "settings.json").unlink()
    assert RunSettings.read(RunRecord.open(record.path)).values["tuning.r"] == 4


WORDS = st.text(st.characters(categories=["L", "N"]), max_size=60)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
RUN = st.fixed_dictionaries({"a.x": st.integers(-5, 5), "b.x": FLOATS, "c.y.z": WORDS})


@given(st.lists(RUN, min_size=1, max_size=5), st.randoms())
def test_labels_are_equal_exactly_if_the_typed_settings_are(values, source):
    runs = [RunSettings({}, one, frozenset(one)) for one in values]
    labels = label_runs(runs)
    for (first, one), (second, other) in itertools.combinations(zip(values, labels, strict=True), 2):
        assert (one == other) == (repr(sorted(first.items())) == repr(sorted(second.items())))
    order = list(range(len(runs)))
    source.shuffle(order)
    assert label_runs([runs[index] for index in order]) == [labels[index] for index in order]

"""Several data sets in one run: shares, caps, ends of an epoch, prompts kept apart."""

import dataclasses
import json
from collections import Counter

import pydantic
import pytest
from support.data import load_splits

from instruct_lab.cache import Store
from instruct_lab.data import DataSet, Files, HashSplit, Mixture, PlainText, Preference, PromptCompletion
from instruct_lab.data.base import tables
from instruct_lab.data.stages import audit_of
from instruct_lab.errors import InstructLabError


@pytest.fixture
def part(tmp_path):
    def make(name, count, prompts=None, **fields):
        lines = [json.dumps({"prompt": prompt, "completion": name}) for prompt in prompts or numbered(name, count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
        return DataSet(train={"file": Files(path=str(tmp_path / f"{name}.jsonl"))}, format=PromptCompletion(), **fields)

    return make


def numbered(name, count):
    return [f"{name} {number}" for number in range(count)]


def mixed(tmp_path, **fields):
    data = Mixture(**fields)
    stages = [data.stage(tmp_path / "cache"), data.stage_after_preprocessing()]
    entry = Store(tmp_path / "cache").result(stages)
    return tables(entry), audit_of(entry)


def test_each_row_once_in_an_order_by_seed(tmp_path, part) -> None:
    parts = {"a": part("a", 300), "b": part("b", 100)}
    found, _ = mixed(tmp_path, parts=parts)
    assert Counter(c.source for c in found["train"]) == {"a": 300, "b": 100}
    assert len({c.id for c in found["train"]}) == 400
    halves = [Counter(c.source for c in half)["b"] for half in (found["train"][:200], found["train"][200:])]
    assert min(halves) > 30, "interleaved, not one after the other"
    for name in "ab":
        own = [c.messages[0].content for c in found["train"] if c.source == name]
        assert own == numbered(name, len(own)), "a part's rows keep their order"
    again, _ = mixed(tmp_path, parts=parts)
    assert list(again["train"]) == list(found["train"])
    other, _ = mixed(tmp_path, parts=parts, seed=1)
    assert [c.id for c in other["train"]] != [c.id for c in found["train"]]


def test_prompts_of_all_parts_are_compared_as_same_prompt_says(tmp_path, part) -> None:
    parts = {
        "a": part("a", 0, prompts=["Save:", "Open", "Close"]),
        "b": part("b", 0, prompts=["Print"], test={"held": part("held", 0, prompts=["save"]).train["file"]}),
    }
    for same_prompt, kept in (("characters", 4), ("words", 3)):
        found, _ = mixed(tmp_path, parts=parts, same_prompt=same_prompt)
        assert len(found["train"]) == kept


def test_the_epoch_ends_with_the_smallest_or_the_largest_part(tmp_path, part) -> None:
    parts = {"a": part("a", 400), "b": part("b", 100)}
    found, audit = mixed(tmp_path, parts=parts, weights={"a": 1, "b": 1}, epoch="smallest")
    counts = Counter(c.source for c in found["train"])
    assert counts["b"] == 100
    assert found["train"][-1].source == "b"
    assert counts["a"] == pytest.approx(100, abs=40)
    assert audit["facts"]["data/mixture"] == {"rows": {"a": 400, "b": 100}, "drawn": dict(counts)}
    found, _ = mixed(tmp_path, parts=parts, weights={"a": 1, "b": 1}, epoch="largest")
    counts = Counter(c.source for c in found["train"])
    assert counts["a"] == 400
    assert found["train"][-1].source == "a"
    assert counts["b"] == pytest.approx(400, abs=90), "repeated four times or so"
    assert set(Counter(c.id for c in found["train"] if c.source == "b").values()) <= {3, 4, 5}, "one after the other"


def test_temperature_evens_the_shares_by_size(tmp_path, part) -> None:
    parts = {"a": part("a", 1600), "b": part("b", 100)}
    shares = []
    for temperature in (1, 2, 100):
        found, _ = mixed(tmp_path, parts=parts, temperature=temperature, epoch="largest")
        counts = Counter(c.source for c in found["train"])
        shares.append(counts["b"] / counts.total())
    assert shares[0] == pytest.approx(1 / 17, abs=0.02)
    assert shares[1] == pytest.approx(1 / 5, abs=0.04)
    assert shares[2] == pytest.approx(1 / 2, abs=0.04)


def test_a_part_is_capped_by_content(tmp_path, part) -> None:
    parts = {"a": part("a", 50), "b": part("b", 10)}
    found, audit = mixed(tmp_path, parts=parts, max_rows={"a": 20, "b": None})
    kept = [c for c in found["train"] if c.source == "a"]
    assert len(kept) == 20
    assert audit["stages"]["data/limit/a"] == {"in": 50, "out": 20}
    everything, _ = mixed(tmp_path, parts=parts)
    lowest = sorted(c.id for c in everything["train"] if c.source == "a")[:20]
    assert sorted(c.id for c in kept) == lowest


def test_a_prompt_that_one_part_is_tested_on_leaves_the_training_of_the_other(tmp_path, part) -> None:
    tested = part("tested", 200, split=HashSplit(validation=0, test=0.5))
    splits = load_splits(tested, tmp_path / "cache")
    prompt = splits["test"][0].messages[0].content
    parts = {"tested": tested, "other": part("other", 0, prompts=[f" {prompt}\n", "free"])}
    found, audit = mixed(tmp_path, parts=parts)
    assert [c.messages[0].content for c in found["train"] if c.source == "other"] == ["free"]
    assert any(reason["reason"] == "train prompt also in test" for reason in audit["reasons"])
    allowed, _ = mixed(tmp_path, parts=parts, overlap="allow")
    assert f" {prompt}\n" in [c.messages[0].content for c in allowed["train"]]
    with pytest.raises(InstructLabError, match="also in test"):
        mixed(tmp_path, parts=parts, overlap="error")


def test_the_audit_names_the_part_of_every_source(tmp_path, part) -> None:
    found, audit = mixed(tmp_path, parts={"a": part("a", 5), "b": part("b", 6)})
    assert audit["stages"]["data/train/a.file"] == {"in": 5, "out": 5}
    assert audit["stages"]["data/train/b.file"] == {"in": 6, "out": 6}
    assert audit["facts"]["splits"] == {"train": 11, "validation": 0, "test": 0}
    assert found["train"].sources() == {"a": 5, "b": 6}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"parts": {}}, "two parts"),
        ({"weights": {"aa": 1, "a": 1, "b": 1}}, "no such part"),
        ({"max_rows": {"c": 1}}, "no such part"),
        ({"weights": {"a": 0}}, "weights"),
        ({"weights": {"a": 1, "b": 2}}, "has no effect with epoch=each_once"),
        ({"weights": {"a": 1}, "epoch": "largest"}, "b has none"),
        ({"temperature": 2}, "has no effect with epoch=each_once"),
        ({"temperature": 0.5}, "temperature"),
        ({"epoch": "all"}, "epoch"),
    ],
)
def test_mixtures_that_cannot_be_meant_are_refused(part, fields, expected) -> None:
    with pytest.raises(pydantic.ValidationError, match=expected):
        Mixture(**{"parts": {"a": part("a", 2), "b": part("b", 2)}, **fields})


def test_a_changed_weight_reads_no_row_again(tmp_path, part) -> None:
    parts = {"a": part("a", 20), "b": part("b", 20)}
    mixed(tmp_path, parts=parts, weights={"a": 1, "b": 1}, epoch="largest")
    before = {entry.key for entry in Store(tmp_path / "cache").entries()}
    mixed(tmp_path, parts=parts, weights={"a": 1, "b": 2}, epoch="largest")
    new = [entry for entry in Store(tmp_path / "cache").entries() if entry.key not in before]
    assert [entry.manifest["name"] for entry in new] == ["interleave"]


def test_a_mixture_gives_what_every_part_gives(part) -> None:
    def gives(*formats):
        parts = {str(n): dataclasses.replace(part("a", 1), format=chosen) for n, chosen in enumerate(formats)}
        return Mixture(parts=parts).gives

    assert gives(Preference(), Preference()) == {"pairs", "answers"}
    assert gives(Preference(), PromptCompletion()) == {"answers"}
    assert gives(PromptCompletion(), PlainText()) == frozenset()

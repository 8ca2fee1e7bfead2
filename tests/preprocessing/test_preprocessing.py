"""The pipeline: order of steps, their splits and needs, and the presets."""

import dataclasses
import functools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_lab.cache import Store
from instruct_lab.config import component
from instruct_lab.data import Audit, Conversation, DataSet, Files, Message, PromptCompletion
from instruct_lab.data.base import tables
from instruct_lab.data.stages import audit_of
from instruct_lab.experiment.check import check
from instruct_lab.preprocessing import DeduplicateExact, Length, Normalize, Preprocessing, Step
from instruct_lab.preprocessing.preprocessing import RunTokenizer


@component
class Mark(Step):
    """Adds a letter to every answer."""

    letter: str

    def apply(self, conversations, context):
        for conversation in conversations:
            marked = conversation.map_text(lambda role, text: text + self.letter if role == "assistant" else text)
            context.count_changed("marked", conversation, marked)
            yield marked


@component
class Look(Step):
    """Keeps what it was given."""

    needs = frozenset({"splits", "tokenizer", "rows", "data"})
    seen = {}

    def apply(self, conversations, context):
        Look.seen[context.split] = {name: len(rows) for name, rows in context.splits.items()}
        assert len(conversations) == len(list(conversations)) == len(list(conversations))
        assert context.tokenizer() == "the tokenizer"
        yield from conversations

    def data_fingerprint(self, cache_path):
        return "fingerprint"


def run(tmp_path, steps, rows=("a", "b"), tokenizer=None, **given_splits):
    def source(name, prompts):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(json.dumps({"prompt": p, "completion": "x"}) for p in prompts))
        return {"file": Files(path=str(path))}

    splits = {name: source(name, prompts) for name, prompts in {"train": rows, **given_splits}.items()}
    data = DataSet(**splits, format=PromptCompletion())
    preprocessing = Preprocessing(steps=steps)
    stages = [data.stage(tmp_path / "cache"), *preprocessing.stages(tmp_path / "cache", tokenizer)]
    entry = Store(tmp_path / "cache").result(stages)
    return tables(entry), audit_of(entry)


def answers(table):
    return [conversation.answers[0] for conversation in table]


def test_steps_run_in_the_order_of_the_config(tmp_path) -> None:
    found, audit = run(tmp_path, {"first": Mark(letter="1"), "gone": None, "second": Mark(letter="2")})
    assert answers(found["train"]) == ["x12", "x12"]
    assert [stage for stage in audit["stages"] if "/train/" in stage and "pre" in stage] == [
        "preprocessing/train/first",
        "preprocessing/train/second",
    ]


def test_a_weight_moves_a_step(tmp_path) -> None:
    steps = {"first": Mark(letter="1"), "second": Mark(letter="2", weight=-1), "third": Mark(letter="3", weight=-1)}
    assert answers(run(tmp_path, steps)[0]["train"]) == ["x231"] * 2


def test_a_step_passes_over_the_splits_it_names(tmp_path) -> None:
    found, audit = run(tmp_path, {"mark": Mark(letter="1", splits=["test"])}, test=["c"], validation=["d"])
    assert [answers(found[name]) for name in ("train", "validation", "test")] == [["x", "x"], ["x"], ["x1"]]
    assert [stage for stage in audit["stages"] if stage.startswith("preprocessing")] == ["preprocessing/test/mark"]
    assert audit["stages"]["preprocessing/test/mark"] == {"in": 1, "out": 1}


def test_a_step_gets_its_declared_needs(tmp_path) -> None:
    tokenizer = RunTokenizer(lambda: "the tokenizer", lambda: "its fingerprint")
    run(tmp_path, {"look": Look()}, tokenizer=tokenizer, test=["c"])
    assert Look.seen["train"] == {"train": 2, "validation": 0, "test": 1}


@pytest.mark.parametrize("changed", ["tokenizer", "data"])
def test_declared_needs_are_part_of_the_key(tmp_path, monkeypatch, changed) -> None:
    def keys(fingerprint="its fingerprint"):
        tokenizer = RunTokenizer(lambda: "the tokenizer", lambda: fingerprint)
        stages = Preprocessing(steps={"mark": Mark(letter="1"), "look": Look()}).stages(tmp_path, tokenizer)
        return [json.dumps(stage.depends_on, default=str) for stage in stages]

    before = keys()
    if changed == "data":
        monkeypatch.setattr(Look, "data_fingerprint", lambda self, cache_path: "another")
    after = keys("another" if changed == "tokenizer" else "its fingerprint")
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_a_step_without_the_declaration_gets_no_tokenizer(tmp_path) -> None:
    @component
    class Greedy(Step):
        """Asks for what it did not declare."""

        def apply(self, conversations, context):
            assert not context.splits
            context.tokenizer()
            yield from conversations

    with pytest.raises(RuntimeError, match="does not list"):
        run(tmp_path, {"greedy": Greedy()})


def preset(name, *overrides):
    return check([f"preprocessing={name}", *overrides]).or_refuse().experiment.preprocessing


@pytest.mark.slow
@pytest.mark.parametrize("name", ["none", "standard", "strict", "classic_nlp"])
def test_a_preset_is_built_and_a_step_can_be_added_switched_off_and_moved(name) -> None:
    steps = preset(name).active_steps
    added = preset(name, "preprocessing/step=[length]", "preprocessing.steps.length.weight=-2")
    assert list(added.active_steps) == ["length", *steps]
    for step in steps:
        assert step not in preset(name, f"preprocessing.steps.{step}=null").active_steps


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["", " ", "a\x00", "é", "e\u0301"]
)


@functools.cache
def standard_steps():
    return preset("standard").active_steps


@pytest.mark.slow
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=12))
@settings(max_examples=40)
def test_what_standard_has_cleaned_it_leaves_unchanged(pairs) -> None:
    from instruct_lab.preprocessing.base import Context

    rows = [Conversation((Message("user", q), Message("assistant", a)), str(n)) for n, (q, a) in enumerate(pairs)]
    audits = [Audit(), Audit()]
    for audit in audits:
        for name, step in standard_steps().items():
            rows = list(step.apply(rows, Context(name, audit)))
    assert [tally for tally in audits[1].tallies.values() if tally.count and tally.action != "reported"] == []


@pytest.mark.parametrize(("damaged", "expected"), [("U\u00cc\x80", "\u00d9"), ("e\x00\u0301", "\u00e9")])
def test_a_repaired_text_stays_in_its_unicode_form(damaged, expected) -> None:
    """The repair of a combining accent (Ì and a control character), or what stood between it and its letter."""
    from instruct_lab.preprocessing.base import Context

    row = Conversation((Message("user", "q"), Message("assistant", damaged)))
    for name, step in standard_steps().items():
        (row,) = step.apply([row], Context(name, Audit()))
    assert row.messages[1].content == expected


def test_steps_reach_the_rejected_answer_too() -> None:
    from instruct_lab.preprocessing.base import Context

    pair = Conversation((Message("user", "q"), Message("assistant", "a")), rejected=(Message("assistant", "e\u0301 "),))
    for name, step in preset("standard").active_steps.items():
        (pair,) = step.apply([pair], Context(name, Audit()))
    assert pair.rejected[0].content == "é"


def test_steps_are_frozen_declarations() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Normalize().form = "NFKC"
    assert {Length, DeduplicateExact} < {*Step.__subclasses__()}

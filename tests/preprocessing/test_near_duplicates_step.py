"""Near duplicates: found by sketches, proved by exact comparison, against a brute force over all pairs."""

import itertools
import random
import subprocess
import sys

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.preprocessing.base import Context
from instruct_lab.preprocessing.duplicates import Decontaminate, NearDuplicates

STAGE = "preprocessing/train/near_duplicates"
VOCABULARY = [f"w{number}" for number in range(3000)]


def talk(*contents: str, **fields) -> Conversation:
    roles = ("user", "assistant")
    return Conversation(tuple(Message(roles[n % 2], text) for n, text in enumerate(contents)), **fields)


def run(step: NearDuplicates, rows, split="train", **splits):
    audit = Audit()
    kept = list(step.apply(rows, Context(STAGE, audit, split=split, splits=splits)))
    return kept, {tally.reason: tally.count for tally in audit.tallies.values()}, audit.facts[STAGE]


def grams(text: str, n: int = 5) -> set[tuple[str, ...]]:
    tokens = text.split()
    return {tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)}


def jaccard(one: str, other: str) -> float:
    return len(grams(one) & grams(other)) / len(grams(one) | grams(other))


def edited(text: str, low: float, high: float, source: random.Random) -> str:
    """A copy with words replaced, one by one, until its similarity is within bounds."""
    while True:
        tokens = text.split()
        for index in source.sample(range(len(tokens)), len(tokens)):
            tokens[index] = source.choice(VOCABULARY)
            copy = " ".join(tokens)
            if low <= jaccard(text, copy) <= high and source.random() < 0.5:
                return copy
            if jaccard(text, copy) < low:
                break


@pytest.fixture(scope="module")
def planted() -> list[str]:
    source = random.Random(7)
    texts = [" ".join(source.choices(VOCABULARY, k=source.randint(40, 150))) for _ in range(400)]
    texts += [edited(text, 0.8, 0.99, source) for text in texts[:120]]
    texts += [edited(text, 0.6, 0.75, source) for text in texts[120:240]]
    source.shuffle(texts)
    return texts


@pytest.mark.slow
def test_recall_and_precision_on_a_planted_set_against_all_pairs(planted) -> None:
    sets = [grams(text) for text in planted]
    pairs = {
        (a, b): len(sets[a] & sets[b]) / len(sets[a] | sets[b])
        for a, b in itertools.combinations(range(len(planted)), 2)
        if not sets[a].isdisjoint(sets[b])
    }
    similar = {pair for pair, similarity in pairs.items() if similarity >= 0.8}
    hard = {pair for pair, similarity in pairs.items() if 0.6 <= similarity <= 0.75}
    assert len(similar) >= 120
    assert len(hard) >= 100
    rows = [talk(text, id=str(number)) for number, text in enumerate(planted)]
    kept, counts, facts = run(NearDuplicates(), rows)
    dropped = {*range(len(rows))} - {int(row.id) for row in kept}
    recall = sum(bool(dropped & {*pair}) for pair in similar) / len(similar)
    precision = len(dropped & {row for pair in similar for row in pair}) / len(dropped)
    assert recall >= 0.95
    assert precision == 1.0
    assert counts == {"near duplicate of an earlier row": len(dropped)}
    assert facts["clusters"]["num_rows"] - facts["clusters"]["num_clusters"] == len(dropped)


@pytest.mark.slow
def test_every_dropped_row_is_similar_to_an_earlier_one(planted) -> None:
    rows = [talk(text, id=str(number)) for number, text in enumerate(planted)]
    kept = {int(row.id) for row in run(NearDuplicates(), rows)[0]}
    sets = [grams(text) for text in planted]
    for row in set(range(len(planted))) - kept:
        assert max(len(sets[row] & known) / len(sets[row] | known) for known in sets[:row]) >= 0.8


BASE = " ".join(f"word{number}" for number in range(60))
NEAR = BASE.replace("word59", "other")  # 55 of 57 n-grams: 0.96
FAR = BASE.replace("word30", "x").replace("word10", "y")  # 46 of 66: 0.70

MIDDLE = " ".join([*BASE.split()[:56], *"abcd"])  # 52 of 60: 0.87
BEYOND = " ".join([*"efgh", *MIDDLE.split()[4:]])  # as like to it, and 0.75 to the first


def texts_of(rows) -> list[str]:
    return [row.messages[0].content for row in rows]


def test_the_threshold_decides() -> None:
    rows = [talk(BASE), talk(NEAR), talk(FAR)]
    assert texts_of(run(NearDuplicates(), rows)[0]) == [BASE, FAR]
    assert texts_of(run(NearDuplicates(threshold=0.6), rows)[0]) == [BASE]
    assert texts_of(run(NearDuplicates(threshold=1.0), rows)[0]) == [BASE, NEAR, FAR]


def test_n_decides() -> None:
    rows = [talk(BASE), talk(FAR)]
    assert len(run(NearDuplicates(n=1), rows)[0]) == 1, "58 of 62 words are the same"


def test_a_pair_exactly_at_the_threshold_is_a_near_duplicate() -> None:
    one, other = (" ".join(f"w{number}" for number in range(start, start + 9)) for start in (0, 1))
    assert len(run(NearDuplicates(n=1, threshold=0.8), [talk(one), talk(other)])[0]) == 1, "8 of 10 words"
    assert len(run(NearDuplicates(n=1, threshold=0.81), [talk(one), talk(other)])[0]) == 2


def test_clusters_join_through_a_row_in_between() -> None:
    assert jaccard(BASE, BEYOND) < 0.8 < jaccard(BASE, MIDDLE) == jaccard(MIDDLE, BEYOND)
    kept, _, facts = run(NearDuplicates(), [talk(text) for text in (BASE, MIDDLE, BEYOND)])
    assert texts_of(kept) == [BASE]
    assert facts["clusters"]["sizes"] == {"3": 1}
    assert facts["clusters"]["largest"][0]["rows"] == 3
    assert facts["clusters"]["largest"][0]["sample"].startswith("word0 word1")


def test_the_longest_is_kept_with_keep_longest() -> None:
    rows = [talk(NEAR), talk("unlike all of the others here"), talk(BASE + " one two"), talk(BASE)]
    kept, counts, _ = run(NearDuplicates(keep="longest"), rows)
    assert texts_of(kept) == ["unlike all of the others here", BASE + " one two"]
    assert counts == {"near duplicate of a longer row": 2}


def test_the_part_that_is_named_is_compared() -> None:
    rows = [talk(BASE, "yes it is so"), talk(NEAR, "no it is not that"), talk("who?", "yes it is so")]
    assert len(run(NearDuplicates(by="prompt"), rows)[0]) == 2
    assert len(run(NearDuplicates(by="answer"), rows)[0]) == 2
    assert len(run(NearDuplicates(by="answer"), [talk("a"), talk("b")])[0]) == 2, "rows without an answer stay"


def test_short_texts_have_to_be_the_same_words() -> None:
    rows = [talk(text) for text in ("Save it", "save  it!", "Save", "Save that", "!", "!")]
    assert texts_of(run(NearDuplicates(), rows)[0]) == ["Save it", "Save", "Save that", "!", "!"]


def test_chinese_is_compared_by_character() -> None:
    one = "机器学习是人工智能的一个分支，它研究计算机怎样从数据中学习规律，并用这些规律做出预测和决定。"
    other = one.replace("决定。", "决策")
    unlike = "今天天气很好，我们一起去公园散步，看到了很多漂亮的花和可爱的小动物，大家都非常开心。"
    assert texts_of(run(NearDuplicates(), [talk(one), talk(other), talk(unlike)])[0]) == [one, unlike]


def test_rows_of_protected_splits_win_and_join_no_cluster() -> None:
    own = [talk(MIDDLE), talk(BEYOND), talk(MIDDLE), talk("nothing like it at all in here")]
    splits = {"train": own, "validation": [], "test": [talk(BASE)]}
    kept, counts, _ = run(NearDuplicates(), own, **splits)
    assert texts_of(kept) == [BEYOND, own[3].messages[0].content], "the other is only like a row that leaves"
    assert counts == {"near duplicate of a test row": 2}
    assert texts_of(run(NearDuplicates(across=["validation"]), own, **splits)[0]) == [
        MIDDLE,
        own[3].messages[0].content,
    ]
    assert len(run(NearDuplicates(), [talk(BASE)], "test", **splits)[0]) == 1
    assert NearDuplicates().needs == {"rows", "splits"}
    assert NearDuplicates(across=[]).needs == {"rows"}


def test_bands_follow_from_the_threshold_the_recall_and_the_size_of_a_sketch() -> None:
    for step in (NearDuplicates(), NearDuplicates(threshold=0.5), NearDuplicates(num_permutations=32)):
        bands, rows = step.bands
        assert bands * rows <= step.num_permutations
        assert 1 - (1 - step.threshold**rows) ** bands >= step.recall
    assert NearDuplicates().bands == (16, 6)
    assert NearDuplicates(num_permutations=512).bands[1] > 6
    assert NearDuplicates(recall=0.9).bands[1] > 6
    with pytest.raises(pydantic.ValidationError, match="num_permutations"):
        NearDuplicates(threshold=0.05, num_permutations=8)
    facts = run(NearDuplicates(recall=0.9), [talk(BASE), talk(NEAR)])[2]
    assert facts["bands"] == {"bands": 13, "rows": 8}
    assert facts["pairs"] == {"compared": 1, "passed over": 0}


def test_another_seed_makes_other_candidates() -> None:
    source = random.Random(3)
    rows = [talk(edited(BASE, 0.55, 0.75, source)) for _ in range(40)]
    compared = {seed: run(NearDuplicates(seed=seed), rows)[2]["pairs"]["compared"] for seed in (0, 1, 0)}
    assert compared[0] != compared[1]


@pytest.mark.slow
def test_another_process_with_another_hash_seed_drops_the_same_rows() -> None:
    code = (
        "import random; from instruct_lab.data import *; from instruct_lab.preprocessing.base import Context;"
        "from instruct_lab.preprocessing import NearDuplicates; s = random.Random(1);"
        "base = [str(s.random()) for _ in range(50)];"
        "rows = [Conversation((Message('user', ' '.join(base[:s.randrange(20, 50)])),), str(n)) for n in range(60)];"
        "a = Audit(); print([row.id for row in NearDuplicates().apply(rows, Context('s', a))], a.facts)"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1] != ""


def test_equal_rows_are_compared_once_each_and_not_in_all_pairs() -> None:
    facts = run(NearDuplicates(), [talk(BASE)] * 500)[2]
    assert facts["pairs"]["compared"] == 499
    assert facts["clusters"]["sizes"] == {"100 to 999": 1}


@pytest.mark.slow
def test_a_long_row_and_an_empty_set_go_through() -> None:
    long = " ".join(f"w{number % 5000}" for number in range(200_000))
    assert len(run(NearDuplicates(), [talk(long), talk(long + " end"), talk("short")])[0]) == 2
    assert run(NearDuplicates(), [])[0] == []


def test_the_temporary_file_goes_to_the_cache_and_leaves_nothing(tmp_path) -> None:
    context = Context(STAGE, Audit(), cache_path=tmp_path)
    assert len(list(NearDuplicates().apply([talk(BASE), talk(NEAR)], context))) == 1
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=40)
@given(st.lists(st.text(max_size=30), max_size=12))
def test_any_text_is_accepted_and_a_second_pass_keeps_all(texts) -> None:
    rows = [talk(text, id=str(number)) for number, text in enumerate(texts)]
    kept, counts, _ = run(NearDuplicates(), rows)
    assert len(kept) + sum(counts.values()) == len(rows)
    assert run(NearDuplicates(), kept)[0] == kept


@pytest.mark.parametrize(
    "texts",
    [
        ("Evaluate in Python: 0 < 1", "Evaluate in Python: 0 > 1", "Evaluate in Python: 0 <= 1"),
        ("What is 7 + 5", "What is 7 - 5", "What is 7 * 5", "What is 7 / 5", "What is 7-5/2"),
        ("Say hello in C", "Say hello in C++", "Say hello in C#"),
        ("The absolute value of -5", "The absolute value of 5"),
        ("How much is 5 € today", "How much is 5 $ today"),
        ("Sentiment: 👍", "Sentiment: 👎"),
    ],
    ids=lambda texts: texts[0],
)
def test_rows_that_differ_in_a_symbol_are_neither_near_duplicates_nor_contaminated(texts) -> None:
    rows = [Conversation((Message("user", text), Message("assistant", "True"))) for text in texts]
    audit = Audit()
    assert list(NearDuplicates(across=[]).apply(rows, Context("s", audit))) == rows
    splits = {"train": rows[1:], "validation": [], "test": rows[:1]}
    assert list(Decontaminate().apply(rows[1:], Context("s", audit, splits=splits))) == rows[1:]
    assert not audit.count("dropped")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Open the file.", "open THE file!"),
        ("# Title\n\n* a\n* **b**", "Title: (a, b)"),
        ("well-known “word”", "Well known word"),
    ],
    ids=str,
)
def test_rows_that_differ_in_case_punctuation_or_markdown_are_near_duplicates(one, other) -> None:
    rows = [Conversation((Message("user", text), Message("assistant", "True"))) for text in (one, other)]
    assert list(NearDuplicates(across=[]).apply(rows, Context("s", Audit()))) == rows[:1]

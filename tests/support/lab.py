"""A user's own folder with a small data set, and the overrides of a short run in it."""

import contextlib
import json

import pytest
import yaml

WORDS = """
red green blue small large old new warm cold quick slow
bright dark quiet loud open closed early late
""".split()


def instruction_rows(count):
    """Distinct instructions with answers of several lengths."""
    rows = []
    for index in range(count):
        first, second = WORDS[index % len(WORDS)], WORDS[(index * 7 + index // len(WORDS)) % len(WORDS)]
        answer = " ".join(reversed([first, second, *WORDS[: index % 4]]))
        rows.append({"instruction": f"Turn around number {index}", "input": f"{first} {second}", "output": answer})
    return rows


def write_lab(folder):
    """Write a local JSONL file, and a data option for it."""
    (folder / "conf" / "data").mkdir(parents=True)
    rows = "".join(json.dumps(row) + "\n" for row in instruction_rows(60))
    (folder / "rows.jsonl").write_text(rows, encoding="utf-8")
    write_data(folder, "mine", data_set("rows.jsonl", validation=0.15, test=0.15))


def data_set(train, *, held_out=None, row_format="Alpaca", validation=0.0, test=0.0):
    """The config of a data set of local files; the shares of the hash split are taken from the training file."""
    part = "instruct_lab.data."
    config = {
        "_target_": f"{part}DataSet",
        "train": {"mine": {"_target_": f"{part}Files", "path": train}},
        "format": {"_target_": part + row_format},
        "split": {"_target_": f"{part}HashSplit", "validation": validation, "test": test},
    }
    if held_out is not None:
        config["test"] = {"mine": {"_target_": f"{part}Files", "path": held_out}}
    return config


def mixture(**parts):
    """The config of a mixture of data sets."""
    return {"_target_": "instruct_lab.data.Mixture", "parts": parts}


@contextlib.contextmanager
def new_lab(folder):
    """Write a lab into a folder, and run commands there with a cache of its own, as in the fixture `lab`."""
    write_lab(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("INSTRUCT_LAB_CACHE", str(folder / "cache"))
        yield folder


def write_data(folder, name, config):
    """Write a data option."""
    text = f"# {name}: local files\n{yaml.safe_dump(config, sort_keys=False)}"
    (folder / "conf" / "data" / f"{name}.yaml").write_text(text, encoding="utf-8")


TINY = ["data=mine", "model=tiny_random", "tracker=none", "evaluation.max_examples=4", "generation.max_new_tokens=6"]
"""A run of a few seconds."""

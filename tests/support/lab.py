"""A user's own folder with a small data set, and the overrides of a short run in it."""

import json

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
    (folder / "conf" / "data" / "mine.yaml").write_text(
        """# mine: a local file
_target_: instruct_lab.data.DataSet
train:
  mine:
    _target_: instruct_lab.data.Files
    path: rows.jsonl
format:
  _target_: instruct_lab.data.Alpaca
split:
  _target_: instruct_lab.data.HashSplit
  validation: 0.15
  test: 0.15
""",
        encoding="utf-8",
    )


TINY = ["data=mine", "model=tiny_random", "tracker=none", "evaluation.max_examples=4", "generation.max_new_tokens=6"]
"""A run of a few seconds."""

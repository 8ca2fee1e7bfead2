"""The pages about own data, models, studies, methods and schedules: their files and commands work in a lab."""

import csv
import json

import pytest
from support.documentation import ROOT, commands, named_files
from support.lab import instruction_rows

from instruct_lab import cli

pytestmark = pytest.mark.slow
PAGES = ("own-data", "own-model", "sweeps", "own-method", "own-schedule")
REMOTE = ("hub:", "train -m")
"""Parts of commands that need a network, other processes or many runs; other tests have them."""
SHORT = [
    *("tracker=none", "trainer.max_steps=1", "trainer.val_check_interval=null", "callbacks.checkpoint.every_steps=1"),
    *("generation.max_new_tokens=2", "evaluation.max_examples=2", "evaluation.during_examples=0", "sweep.seeds=1"),
]
TINY = ["model=tiny_random"]
SMALL = ["data=path:chat.jsonl", "data.limit.train=8"]


def turns(row):
    return [{"role": "user", "content": row["instruction"]}, {"role": "assistant", "content": row["output"]}]


def write_rows(path, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the data and the models that the pages name."""
    path = tmp_path_factory.mktemp("own")
    rows = instruction_rows(40)
    for name in ("chat.jsonl", "huge.jsonl", "rows/train.jsonl", "parts/a.jsonl", "parts/b.jsonl"):
        write_rows(path / name, [{"messages": turns(row)} for row in rows])
    with (path / "qa.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["question", "answer"], *([row["instruction"], row["output"]] for row in rows)])
    pairs = [{"prompt": row["instruction"], "chosen": row["output"], "rejected": "no"} for row in rows]
    (path / "pairs.json").write_text(json.dumps(pairs), encoding="utf-8")
    labelled = [{"prompt": row["instruction"], "completion": row["output"], "label": True} for row in rows]
    write_rows(path / "labels.jsonl", labelled)
    write_rows(path / "odd.jsonl", [{"headline": row["instruction"], "story": row["output"]} for row in rows])
    (path / "book.txt").write_text("\n".join(row["instruction"] for row in rows), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setenv("INSTRUCT_LAB_CACHE", str(path / "cache"))
        patch.setenv("XDG_CONFIG_HOME", str(path / "settings"))
        model = ["model=tiny_random", "tokenizer=train", "model.tokenizer.vocab_size=400"]
        assert cli.main(["train", "data=path:chat.jsonl", *model, *SHORT, "evaluation.before=false"]) == 0
        assert cli.main(["export", "latest", "DIR"]) == 0
        assert cli.main(["export", "latest", "exported", "--format", "gguf"]) == 0
        next((path / "exported").glob("*.gguf")).rename(path / "FILE.gguf")
        yield path


@pytest.mark.parametrize("page", PAGES)
def test_the_page_can_be_followed(page, files):
    page = ROOT / "docs" / f"{page}.md"
    for name, content in named_files(page).items():
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_text(content, encoding="utf-8")
    typed = [one for one in commands(page) if not any(part in " ".join(one) for part in REMOTE)]
    assert len(typed) >= 3
    typed.sort(key=lambda one: one[0] in ("watch", "resume", "compare"))  # these need the sweep of the page's study
    for arguments in typed:
        verb, names = arguments[0], {one.partition("=")[0] for one in arguments}
        more = SHORT if verb == "train" else []
        more = more + TINY * (verb in ("train", "inspect") and "model" not in names)
        more = more + SMALL * (verb == "train" and "data" not in names)
        assert cli.main([*arguments, *more]) == 0, arguments

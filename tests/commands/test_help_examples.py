"""Every example of every `--help` runs, with a tiny model and few rows, in a lab with the files that it names."""

import argparse
import contextlib
import importlib
import io
import json
import shlex
import shutil
import sys
import types

import pytest
import yaml
from support.chat_tokenizers import byte_level
from support.lab import instruction_rows, write_lab
from support.records import newest_run
from support.upload_hub import upload_hub

from instruct_lab import cli
from instruct_lab.records import RunRecord

pytestmark = pytest.mark.slow

SMALL = [
    *("model=tiny_random", "model.tokenizer.source=tokenizer", "tracker=none", "evaluation.baselines=false"),
    *("data.limit.train=8", "data.limit.validation=2", "data.limit.test=2", "batching.batch_size=4"),
    *("trainer.max_epochs=1", "lr_scheduler=constant", "generation.max_new_tokens=2", "evaluation.during_examples=0"),
]
FEW = ["evaluation.max_examples=2", "evaluation.baselines=false"]
ADDED = {"train": [*SMALL, FEW[0]], "inspect": SMALL, "evaluate": FEW, "plan": SMALL}
"""Overrides that follow those of an example, so that it takes a second."""
AXOLOTL = {
    "base_model": "acme/tiny",
    "datasets": [{"path": "rows.jsonl", "type": "alpaca"}],
    "adapter": "lora",
    "lora_r": 8,
    "micro_batch_size": 2,
}


def help_examples():
    """Return the examples of each verb, and those of the command line itself, as lists of arguments."""
    parser = cli._parser()
    (commands,) = (one for one in parser._actions if one.dest == argparse.SUPPRESS and one.choices)
    listed = {name: sub.epilog for name, sub in commands.choices.items()} | {parser.prog: parser.epilog}
    lines = {name: text.splitlines()[1:] for name, text in listed.items()}
    return {name: [shlex.split(line)[1:] for line in of_verb] for name, of_verb in lines.items()}


EXAMPLES = help_examples()


ALL = [example for of_verb in EXAMPLES.values() for example in of_verb]


class Stage:
    """A lab in which examples run; words in capital letters in them are replaced by the ids of its records.

    Args:
        path: the folder of the lab.
    """

    def __init__(self, path):
        self.path = path
        self.words = {}
        self.outputs = {}

    def run(self, example):
        """Run an example, and keep what it prints on standard output."""
        typed = [self.words.get(word, word) for word in example] + ADDED.get(example[0], [])
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = cli.main(typed)
        assert code == 0, typed
        self.outputs[shlex.join(example)] = output.getvalue()


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A lab with the runs and the sweep of the examples of `train`, and the files that other examples name."""
    path = tmp_path_factory.mktemp("examples")
    write_lab(path)
    byte_level("chatml").save_pretrained(path / "tokenizer")  # GGUF files need merges
    (path / "config.yaml").write_text(yaml.safe_dump(AXOLOTL), encoding="utf-8")
    rows = "".join(json.dumps(row) + "\n" for row in instruction_rows(12))
    (path / "questions.jsonl").write_text(rows, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setenv("INSTRUCT_LAB_CACHE", str(path / "cache"))
        patch.setenv("XDG_CONFIG_HOME", str(path / "settings"))
        for module in ("instruct_lab.experiment.check", "instruct_lab.editors.schema"):
            patch.setattr(
                importlib.import_module(module), "GROUPS", ("batching", "tracker")
            )  # others are tested elsewhere
        stage = Stage(path)
        first, *others = EXAMPLES["train"]
        stage.run(first)
        RunRecord.open(newest_run(path)).write_manifest(status="interrupted")
        stage.run(EXAMPLES["resume"][0])
        for example in others:
            stage.run(example)
        sweep = newest_run(path).parent / newest_run(path).name.rpartition("-")[0]
        runs = sorted(sweep.parent.glob(f"{sweep.name}-*"))
        for example in EXAMPLES["instruct-lab"]:
            stage.run(example)
        stage.words |= {"SWEEP_ID": sweep.name, "RUN_ID": runs[0].name, "OTHER_RUN_ID": runs[1].name}
        stage.words |= {"runs/first/RUN_ID": str(runs[0]), "runs/second/RUN_ID": str(runs[1])}
        stage.run(["export", "RUN_ID", "my_model"])
        stage.run(["evaluate", "SWEEP_ID", "data=stdlib_functions", "--name", "stdlib_functions"])
        stage.run(["init", "my_lab"])
        yield stage


@pytest.fixture
def surroundings(example, monkeypatch):
    """What examples need besides files: a person who types, servers that end, a hub, few groups of options."""
    from instruct_lab.chat.server import ChatServer
    from instruct_lab.tracker import dashboard

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", io.StringIO("Save all\n/quit\n"))
    monkeypatch.setattr("webbrowser.open", lambda _: True)
    monkeypatch.setattr(ChatServer, "serve_forever", interrupt)
    server = types.SimpleNamespace(should_exit=False)  # the real one is tested in tests/tracker/test_dashboard.py
    monkeypatch.setattr(dashboard, "_start", lambda *_: (server, "http://127.0.0.1:7861/"))
    monkeypatch.setattr(dashboard, "time", types.SimpleNamespace(sleep=interrupt))
    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, name)
    with upload_hub(monkeypatch) if example[0] == "push" else contextlib.nullcontext():
        yield


@pytest.mark.parametrize("example", ALL, ids=shlex.join)
def test_the_example_runs(example, stage, surroundings):
    if shlex.join(example) not in stage.outputs:
        for word in example if example[0] in ("export", "init") else ():
            shutil.rmtree(stage.path / word, ignore_errors=True)  # the name of a new folder
        stage.run(example)
        for record in stage.path.glob("runs/model-*"):
            shutil.rmtree(record)  # a model that was evaluated is not the `latest` of the next examples
    output = stage.outputs[shlex.join(example)]
    assert output
    if "--json" in example:
        json.loads(output)

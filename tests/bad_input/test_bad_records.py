"""A damaged file of a run record is refused by its name, and the other records stay readable."""

import json
import shutil

import pytest
from support.lab import TINY, new_lab
from support.records import newest_run
from support.refusals import Refusals

from instruct_lab import cli

HEALTHY, DAMAGED = "20260101-000000-aaaaaa", "20260102-000000-bbbbbb"
HEALTHY_ROW = ["aaaaaa", "finished"]  # the short id and the status, with which a table of runs begins
DEEP = "[" * 100_000 + "]" * 100_000
FORMS = {
    "nothing": "",
    "bytes": bytes(range(128, 256)),
    "latin-1": '{"é": 1}'.encode("latin-1"),
    "a truncated object": '{"id": "a", "status": ',
    "a list": "[1, 2]",
    "a number": "5",
    "a text": '"text"',
    "values nested 100,000 deep": DEEP,
    "a number of 5,000 digits": '{"id": ' + "9" * 5000 + "}",
}
ENTRIES = {
    "manifest.json": {
        "a list as status": {"status": ["finished"]},
        "an unknown status": {"status": "elsewhere"},
        "choices that are a list": {"choices": [1]},
        "packages that are a number": {"packages": 5},
        "inputs that are a text": {"inputs": "files"},
        "inputs of numbers": {"inputs": [1, 2]},
        "a sweep that is a text": {"sweep": "mine"},
        "an exception that is a list": {"exception": [1]},
        "seconds that are a text": {"seconds": "long"},
        "warnings that are numbers": {"warnings": [1]},
    },
    "summary.json": {
        "metrics that are a list": {"metrics": [1]},
        "systems that are a text": {"metrics": {"test/chrf": "good"}},
        "a value that is a text": {"metrics": {"test/chrf": {"after": {"value": "good"}}}},
        "a value that is a list": {"metrics": {"test/chrf": {"after": {"value": [1]}}}},
        "seconds that are an object": {"seconds": {}},
    },
}
DAMAGE = [
    *((name, form, content) for name in ENTRIES for form, content in FORMS.items()),
    *((name, form, json.dumps(content)) for name, forms in ENTRIES.items() for form, content in forms.items()),
    *(("config.yaml", form, content) for form, content in FORMS.items() if form != "a number of 5,000 digits"),
    ("config.yaml", "another class", "_target_: os.system\ncommand: touch ran\n"),
    ("config.yaml", "an unclosed list", "data: [1, 2\n"),
    ("config.yaml", "a key that is a list", "? [a, b]\n: 1\n"),
    ("predictions.jsonl", "odd types", '{"id": [1], "split": 5, "scores": "good", "references": {}}\n'),
    ("predictions.jsonl", "damaged lines", f'{DEEP}\n[1]\n5\n{{"id": \n'),
    ("metrics.jsonl", "odd types", '{"step": "x", "val/loss": [1], "seconds": {}}\n'),
    ("metrics.jsonl", "damaged lines", f'{DEEP}\n[1]\n5\n{{"val/loss": 1}}\n'),
]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The record of a finished run; made once, in a folder like that of the fixture `lab`."""
    with new_lab(tmp_path_factory.mktemp("recorded")) as folder:
        assert cli.main(["train", *TINY, "trainer.max_steps=2"]) == 0
    return newest_run(folder)


@pytest.fixture
def records(lab, recorded):
    """The folder of two copies of the finished run, of which a test damages the second."""
    for name in (HEALTHY, DAMAGED):
        copied = lab / "runs" / "mine" / name
        shutil.copytree(recorded, copied)
        config = copied / "config.yaml"  # the copy is of a run in this folder, with the cache of this folder
        config.write_text(config.read_text("utf-8").replace(str(recorded.parents[2]), str(lab)), "utf-8")
        manifest = json.loads((copied / "manifest.json").read_text(encoding="utf-8"))
        (copied / "manifest.json").write_text(json.dumps({**manifest, "id": name, "name": "mine"}), encoding="utf-8")
    return lab / "runs" / "mine"


def _rows_of(short_id, table):
    return [row[:2] for row in map(str.split, table.splitlines()) if row[:1] == [short_id]]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form", "content"), DAMAGE, ids=[f"{name}: {form}" for name, form, _ in DAMAGE])
def test_a_damaged_file_is_named_and_breaks_nothing_else(records, refused, name, form, content):
    file = records / DAMAGED / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in (["runs"], ["runs", "seed=0"], ["runs", "--sort", "test/chrf"]):
        assert _rows_of(HEALTHY_ROW[0], refused(*command, codes=(0,)).out) == [HEALTHY_ROW]
    refused("compare", HEALTHY, DAMAGED, codes=(0, 2), names=["", name])
    refused("compare", HEALTHY, HEALTHY, codes=(0, 2))
    refused("resume", DAMAGED, names=[name, DAMAGED, "data", "_target_"])
    if name == "config.yaml":
        for command in (["reproduce", DAMAGED], ["export", DAMAGED, "exported"], ["generate", DAMAGED, "text"]):
            refused(*command, names=[name, "_target_"])


WEIGHTS = {
    "nothing": "",
    "bytes": bytes(range(128, 256)),
    "an empty object": "{}",
    "a list": "[1]",
    "a path that is a number": '{"path": 5, "step": 1}',
    "a path that leads out": '{"path": "../../elsewhere", "step": 1}',
    "an absolute path": '{"path": "/etc", "step": 1}',
    "a step that is a text": '{"path": "last-000002", "step": "x"}',
    "values nested 100,000 deep": DEEP,
}


@pytest.mark.slow
@pytest.mark.parametrize("content", WEIGHTS.values(), ids=WEIGHTS)
def test_a_damaged_list_of_weights_is_named(records, refused, content):
    for file in (records / DAMAGED / "checkpoints").glob("*.json"):
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused("export", DAMAGED, "exported", names=["best.json", "last.json"])
    refused("generate", DAMAGED, "text", names=["best.json", "last.json"])


@pytest.mark.slow
def test_the_records_are_good_without_damage(records, lab, capsys):
    run = Refusals(lab, capsys).run
    assert len(_rows_of("bbbbbb", run("runs", "status=finished", codes=(0,)).out)) == 1
    run("compare", HEALTHY, DAMAGED, codes=(0,))
    run("resume", DAMAGED, names=["is finished"])
    run("generate", DAMAGED, "red green", codes=(0,))

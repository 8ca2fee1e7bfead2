"""Data of pinned packages, and the Hub's data sets that people use, with rows of their documented shape."""

import gzip
import hashlib
import json
import zipfile
from pathlib import Path

import datasets
import pydantic
import pytest
from support.data import load_splits

from instruct_lab.assets import PackageAsset
from instruct_lab.data import Audit, BrokenRow, Dialogues, PackageRows, RuffRules
from instruct_lab.data.sources import ruff_rules
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment.check import check

CACHE = Path("~/.cache/instruct_lab").expanduser()


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """Makes a wheel of files in the cache, as if it had been downloaded."""

    def make(path=None, **files):
        content = tmp_path / "fake-1.0-py3-none-any.whl"
        with zipfile.ZipFile(content, "w") as archive:
            for name, data in files.items():
                archive.writestr(name.replace("__", "/").replace("_DOT_", "."), data)
        sha = hashlib.sha256(content.read_bytes()).hexdigest()
        folder = tmp_path / "cache" / "packages" / sha
        folder.mkdir(parents=True)
        content.rename(folder / content.name)
        return PackageAsset(package="fake", version="1.0", sha256=sha, path=path)

    return make


def read(source, tmp_path, audit=None):
    return list(source.read(tmp_path / "cache", audit or Audit(), "data/train/fake"))


@pytest.mark.parametrize("packed", [False, True])
def test_rows_of_a_wheel_get_columns_by_patterns(wheel, tmp_path, packed) -> None:
    lines = b'{"prompt": "def f():", "answer": "pass", "n": 3}\n{"prompt": "x"}\n'
    path = "data/rows.jsonl.gz" if packed else "data/rows.jsonl"
    files = {path.replace("/", "__").replace(".", "_DOT_"): gzip.compress(lines) if packed else lines}
    source = PackageRows(asset=wheel(path, **files), add={"output": "{answer} # {n}"})
    first, second = read(source, tmp_path)
    assert first.columns == {"prompt": "def f():", "answer": "pass", "n": 3, "output": "pass # 3"}
    assert isinstance(second, BrokenRow), "the pattern's column is not there"
    (found,) = source.inputs(tmp_path / "cache")
    assert found.name == f"fake-1.0/{path}"


def test_an_asset_without_a_file_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match=r"asset\.path"):
        PackageRows(asset=PackageAsset(package="fake", version="1", sha256="0" * 64))


def test_dialogues_take_turns(wheel, tmp_path) -> None:
    dialogues = [["Hi", "Ho"], ["What?", 42, "And?"], ["Alone"], ["Hi", "Ho"]]
    text = f"categories: [a]\nconversations: {json.dumps(dialogues)}\n"
    asset = wheel(en__a_DOT_yml=text, fr__b_DOT_yml="conversations:\n- [Salut, Oui]\n", en__c_DOT_yml="- no\n")
    audit = Audit()
    rows = read(Dialogues(asset=asset, patterns=["en/*.yml"]), tmp_path, audit)
    good = [row for row in rows if not isinstance(row, BrokenRow)]
    assert [[turn["content"] for turn in row.columns["messages"]] for row in good] == [
        ["Hi", "Ho"],
        ["What?", "42"],
        ["Hi", "Ho"],
    ]
    assert [turn["role"] for turn in good[0].columns["messages"]] == ["user", "assistant"]
    assert len(rows) - len(good) == 2
    assert audit.count("changed") == 1
    assert Dialogues.keeps_one_of_equal_rows
    with pytest.raises(InstructLabError, match="no file that matches"):
        read(Dialogues(asset=asset, patterns=["de/*"]), tmp_path)


RULES = [
    {
        "name": "mutable-default",
        "code": "B006",
        "linter": "bugbear",
        "summary": "Do not share defaults",
        "explanation": "## What it does\nChecks.\n\n## Why is this bad?\nShared.\n\n"
        "## Example\n```python\nf(a=[])\n```\n\nUse instead:\n```python\nf(a=None)\n```\n",
    },
    {
        "name": "named",
        "code": None,
        "linter": None,
        "summary": "Rename `{name}`",
        "explanation": "## What it does\nLooks.\n\n## Why is this bad?\nSee {name}.\n",
    },
]


@pytest.fixture
def ruff(monkeypatch):
    text = json.dumps(RULES).encode()
    monkeypatch.setattr(ruff_rules, "output", lambda: text)


@pytest.mark.parametrize(
    ("task", "answer", "dropped"),
    [
        ("why", "Shared.", "placeholder in the answer"),
        ("summary", "Do not share defaults", "placeholder in the answer"),
        ("repair", "f(a=None)", "rule without what repair asks for"),
    ],
)
def test_a_rule_has_three_tasks_and_placeholders_are_dropped(ruff, tmp_path, task, answer, dropped) -> None:
    audit = Audit()
    (row,) = read(RuffRules(task=task), tmp_path, audit)
    assert row.columns["output"] == answer
    assert row.columns["code"] == "B006"
    assert set(row.columns) == set(RuffRules(task=task).known_columns())
    assert [tally.reason for tally in audit.tallies.values()] == [dropped]


def test_another_program_or_version_is_refused(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(ruff_rules, "program", lambda: None)
    ruff_rules.output.cache_clear()
    with pytest.raises(InstructLabError, match="not installed"):
        RuffRules().inputs(tmp_path)
    assert "not installed" in next(iter(RuffRules().problems())).reason
    other = tmp_path / "ruff"
    other.write_text("#!/bin/sh\necho '[]'\n")
    other.chmod(0o755)
    monkeypatch.setattr(ruff_rules, "program", lambda: other)
    with pytest.raises(InstructLabError, match="other rules"):
        RuffRules().inputs(tmp_path)
    ruff_rules.output.cache_clear()


def test_the_installed_ruff_s_rules_are_those_pinned() -> None:
    ruff_rules.output.cache_clear()
    try:
        ruff_rules.output()
    except InstructLabError:
        pytest.skip("another ruff is installed")
    rows = list(RuffRules(task="repair").rows(CACHE, Audit(), "s"))
    assert len(rows) == 845


TURNS = [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"}]
HUB = {
    "openassistant_hub": ({"messages": TURNS, "prompt_id": "x"}, "Q1", "A1"),
    "tulu3_hub": ({"messages": TURNS, "id": "x", "source": "s"}, "Q1", "A1"),
    "flan_hub": ({"inputs": "Q1", "targets": "A1", "task": "t"}, "Q1", "A1"),
    "natural_instructions_hub": (
        {"task_name": "t", "id": "i", "definition": "Do.", "inputs": "Q1", "targets": "A1"},
        "Do.\n\nQ1",
        "A1",
    ),
    "wmt14_hub": ({"translation": {"en": "Q1", "fr": "A1"}}, "Translate to French: Q1", "A1"),
    "cnn_dailymail_hub": ({"article": "Q1", "highlights": "A1", "id": "x"}, "Summarise this article.\n\nQ1", "A1"),
    "xsum_hub": ({"document": "Q1", "summary": "A1", "id": "x"}, "Summarise this article in one sentence.\n\nQ1", "A1"),
    "squad_hub": (
        {
            "id": "i",
            "title": "t",
            "context": "C",
            "question": "Q1",
            "answers": {"text": ["A1", "B"], "answer_start": [0, 1]},
        },
        "Answer from the passage.\n\nC\n\nQuestion: Q1",
        "A1",
    ),
    "samsum_hub": ({"id": "i", "dialogue": "Q1", "summary": "A1"}, "Summarise this dialogue.\n\nQ1", "A1"),
    "mbpp_hub": ({"task_id": 1, "text": "Q1", "code": "A1", "test_list": ["assert f()"]}, "Q1", "A1"),
    "ultrafeedback_hub": (
        {
            "prompt": "Q1",
            "prompt_id": "x",
            "chosen": TURNS,
            "rejected": [TURNS[0], {"role": "assistant", "content": "B1"}],
            "messages": TURNS,
            "score_chosen": 8.0,
            "score_rejected": 5.5,
        },
        "Q1",
        "A1",
    ),
}


def numbered(value, number):
    """The row again, with another question."""
    return json.loads(json.dumps(value).replace("Q1", f"Question {number}"))


@pytest.mark.slow
@pytest.mark.parametrize("option", HUB)
def test_a_hub_option_maps_rows_of_its_documented_shape(option, monkeypatch, tmp_path) -> None:
    row, prompt, answer = HUB[option]
    asked = []

    def load(repository, configuration, *, split, revision, **options):
        asked.append((repository, split))
        offset = 100 * len({name for _, name in asked[: asked.index((repository, split))]})
        return [numbered(row, offset + number) for number in range(60)]

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setenv("INSTRUCT_LAB_CACHE", str(tmp_path))
    experiment = check([f"data={option}"]).or_refuse().experiment
    splits = load_splits(experiment.data, tmp_path)
    found = splits["train"][0]
    assert "Question" in found.prompt[-1].content
    expected = prompt.replace("Q1", "Question ")
    assert found.prompt[-1].content.startswith(expected.partition("Question ")[0])
    assert found.answers[0] == answer
    assert sum(map(len, splits.values())) == 60 * len(set(asked)), "no row is lost"
    if option == "squad_hub":
        assert found.references == ("A1", "B")
    if option == "mbpp_hub":
        assert found.metadata["test_list"] == ["assert f()"]
    if option == "ultrafeedback_hub":
        assert found.rejected[0].content == "B1"
        assert found.metadata["margin"] == 2.5


PACKAGED = {
    "chatterbot_dialogue": (746, 76, 76),
    "jupyterlab_fr": (2528, 340, 329),
    "interface_translation": (4771, 549, 811),
}


@pytest.mark.slow
@pytest.mark.parametrize("option", PACKAGED)
def test_the_sizes_in_an_option_s_comment_are_those_of_its_packages(option, tmp_path) -> None:
    data = check([f"data={option}"]).or_refuse().experiment.data
    sources = [source for split in (data.train, data.test) for source in split.values()]
    if not all((CACHE / "packages" / source.asset.sha256).is_dir() for source in sources):
        pytest.skip("the packages are not in the cache")
    (tmp_path / "packages").symlink_to(CACHE / "packages")
    splits = load_splits(data, tmp_path)
    assert tuple(map(len, splits.values())) == PACKAGED[option]

"""A regular expression of a config or of data that needs years is stopped after seconds, with its name."""

import json
from pathlib import Path

import pytest
import yaml
from support.records import newest_run
from test_architecture import components

from instruct_lab import cli
from instruct_lab.config import Regex, regular_expressions
from instruct_lab.config.fields import fields_of
from instruct_lab.errors import InstructLabError
from instruct_lab.generation import Prediction
from instruct_lab.metrics import InstructionFollowing

EXPENSIVE = "(?:(?:.{1,50}){1,50}){1,50}[§¶]"
LONG = "quick red foxes and slow blue hares run, jump and rest"
STEP = "+preprocessing.steps.mine={_target_: instruct_lab.preprocessing."
KEYS = {
    "extra": STEP + "Redact, extra: {MINE: 'PATTERN'}}",
    "refusal_patterns": STEP + "Clean, refusals: drop, refusal_patterns: ['PATTERN']}",
    "boilerplate_patterns": STEP + "Clean, boilerplate: report, boilerplate_patterns: ['PATTERN']}",
    "no_decay": "optimizer.no_decay='PATTERN'",
    "lr_factors": "optimizer=mine",  # a key of a mapping, which an override cannot quote
    "target_modules": "tuning.target_modules='PATTERN'",
    "exclude_modules": "tuning.exclude_modules='PATTERN'",
}


@pytest.fixture
def chosen(lab, tiny, monkeypatch):
    """A short run whose texts and names are long enough for an expensive search."""
    monkeypatch.setattr(regular_expressions, "MAX_SECONDS", 0.3)
    rows = [{"instruction": f"{LONG} {index}", "input": "", "output": f"{index} {LONG}"} for index in range(40)]
    (lab / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [*tiny, "debug=fast"]


def with_pattern(field, pattern):
    """Return an override that sets a field to a pattern, in a file if necessary."""
    if field == "lr_factors":
        option = {"_target_": "instruct_lab.optimizer.AdamW", field: {pattern: 2.0}}
        Path("conf/optimizer").mkdir(exist_ok=True)
        Path("conf/optimizer/mine.yaml").write_text("# mine: mine\n" + yaml.safe_dump(option))
    return KEYS[field].replace("PATTERN", pattern)


@pytest.mark.slow
@pytest.mark.parametrize("field", KEYS)
def test_an_invalid_expression_is_refused_by_check(chosen, capsys, field):
    assert cli.main(["check", *chosen, with_pattern(field, "(unclosed")]) == 2
    printed = "".join(capsys.readouterr())
    assert field in printed
    assert "is not a regular expression" in printed


@pytest.mark.slow
@pytest.mark.parametrize("field", KEYS)
def test_an_expensive_expression_ends_the_run_with_its_name(chosen, capsys, field):
    arguments = [*chosen, with_pattern(field, EXPENSIVE)]
    assert cli.main(["check", *arguments]) == 0
    capsys.readouterr()
    assert cli.main(["train", *arguments]) in (1, 2)
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    assert EXPENSIVE in printed
    assert field in printed
    if KEYS[field].startswith(STEP):
        assert "preprocessing/train/mine" in printed
        assert "rows.jsonl" in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("instruction", "arguments"),
    [
        ("keywords:existence", {"keywords": ["PATTERN"]}),
        ("keywords:frequency", {"keyword": "PATTERN", "frequency": 2, "relation": "at least"}),
        ("keywords:forbidden_words", {"forbidden_words": ["PATTERN"]}),
        ("detectable_content:postscript", {"postscript_marker": "PATTERN"}),
        ("detectable_format:multiple_sections", {"section_spliter": "PATTERN", "num_sections": 2}),
    ],
)
def test_an_expression_of_the_data_is_limited_and_names_its_row(monkeypatch, instruction, arguments):
    monkeypatch.setattr(regular_expressions, "MAX_SECONDS", 0.3)
    for pattern, refusal in ((EXPENSIVE, "needs more than"), ("(", "is not a regular expression")):
        given = json.loads(json.dumps(arguments).replace("PATTERN", pattern))
        columns = {"instruction_id_list": [instruction], "kwargs": [given]}
        prediction = Prediction("row-7", "test", "", LONG, (), columns)
        with pytest.raises(InstructLabError, match=f"{refusal}.*row-7"):
            InstructionFollowing().of_prediction(prediction)


@pytest.mark.slow
def test_every_field_for_a_regular_expression_has_its_type():
    described = {
        f"{kind.__name__}.{field.name}": kind
        for kind in set(components())
        for field in fields_of(kind)
        if "regular expression" in field.comment
    }
    assert len(described) > 10
    for name, kind in described.items():
        info = kind.__pydantic_fields__[name.partition(".")[2]]
        assert repr(Regex.__metadata__[0]) in repr((info.annotation, info.metadata)), name


@pytest.mark.slow
def test_a_saved_adapter_of_a_stranger_is_refused_if_it_is_expensive_or_imports_modules(chosen, lab, capsys):
    assert cli.main(["train", *[text for text in chosen if text != "debug=fast"], "trainer.max_steps=2"]) == 0
    record = newest_run(lab)
    files = {file: json.loads(file.read_text()) for file in record.rglob("adapter_config.json")}
    assert files
    changes = [
        ({"target_modules": EXPENSIVE}, EXPENSIVE),
        ({"target_modules": ["q_proj"], "exclude_modules": EXPENSIVE}, EXPENSIVE),
        ({"rank_pattern": {EXPENSIVE: 4}}, EXPENSIVE),
        ({"modules_to_save": [EXPENSIVE]}, EXPENSIVE),
        ({"layers_to_transform": [0], "layers_pattern": EXPENSIVE}, EXPENSIVE),
        ({"megatron_config": {"x": 1}, "megatron_core": "evil"}, "megatron_config"),
    ]
    (lab / "evil.py").write_text("open('owned', 'w')")
    for change, found in changes:
        for file, config in files.items():
            file.write_text(json.dumps({**config, **change}))
        capsys.readouterr()
        assert cli.main(["generate", record.name, "hello"]) in (1, 2)
        printed = capsys.readouterr().err
        assert "adapter_config.json" in printed
        assert found in printed
    assert not (lab / "owned").exists()

"""Override values that Hydra refuses are answered with the line to type, quoted for Hydra and for bash."""

import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruct_lab import cli
from instruct_lab.config.compose import compose
from instruct_lab.config.quoting import (
    parse_or_none,
    quote_for_shell,
    quote_value,
    quoted_override,
    several_values,
    to_hydra,
)
from instruct_lab.experiment.check import check

REFUSED = {  # value as it reaches the program, and the value that is meant
    "Q: {question}": "Q: {question}",
    "{answers.text[0]}": "{answers.text[0]}",
    "{question} {answer}": "{question} {answer}",
    "<|im_end|>": "<|im_end|>",
    "[<tool>]": ["<tool>"],
    "[<tool>,</tool>]": ["<tool>", "</tool>"],
    "[Q: {q}, b]": ["Q: {q}", "b"],
    "[1, <x>]": [1, "<x>"],
    "[[<x>, 2], {y}]": [["<x>", 2], "{y}"],
    "{k: {x}}": {"k": "{x}"},
    "{k: <x>, n: 3}": {"k": "<x>", "n": 3},
    "{question": "{question",
    "x=y": "x=y",
    "http://host/path?a=b&c=d": "http://host/path?a=b&c=d",
    "Answer (short)": "Answer (short)",
    "f(x)": "f(x)",
    "(a+)+$": "(a+)+$",
    "#1": "#1",
    "a # b": "a # b",
    "$x{": "$x{",
    "x${y": "x${y",
    "été": "été",
    "日本 語": "日本 語",
    "it's": "it's",
    'say "x"': 'say "x"',
    'don\'t say "x\\"': 'don\'t say "x\\"',
    "C:\\new (1)\\": "C:\\new (1)\\",
    "~/rows.jsonl": "~/rows.jsonl",
    "a;b": "a;b",
    "!important": "!important",
    "`x`": "`x`",
    "two\nlines": "two\nlines",
    "[a,b": "[a,b",
    "a]": "a]",
    "a, b: {c}": "a, b: {c}",
    "😀": "😀",
    "\u202eabc": "\u202eabc",
    "\x1b[31m": "\x1b[31m",
}


def read_by_bash(line):
    return subprocess.run(["bash", "-c", f"printf %s {line}"], capture_output=True, check=True).stdout.decode()


@pytest.mark.parametrize(("value", "meant"), REFUSED.items(), ids=map(ascii, REFUSED))
def test_the_line_to_type_gives_the_value_that_is_meant(value, meant):
    assert parse_or_none(f"key={value}") is None
    line = quote_for_shell(quoted_override(f"key={value}"))
    typed = read_by_bash(line)
    assert not typed.startswith("'")
    override = parse_or_none(typed)
    assert override.key_or_group == "key"
    expected = meant if meant != "x${y" else "x\\${y"  # OmegaConf's escape; the next test reads the composed value
    assert override.value() == expected


def test_the_composed_config_holds_the_value_that_is_meant():
    lines = [quoted_override(f"+meant.k{index}={value}") for index, value in enumerate(REFUSED)]
    assert None not in lines
    composed = compose(lines)
    assert composed.problems == []
    assert [composed.config.meant[f"k{index}"] for index in range(len(lines))] == list(REFUSED.values())


printable = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30)
hostile = st.text(st.sampled_from("ab \\\"'{}[](),:=<>#$%|&;~!*?`\n\té"), max_size=15)


@given(printable | hostile)
def test_any_text_is_quoted_to_itself(text):
    override = parse_or_none(f"key={quote_value(text)}")
    assert override is not None
    if "${" not in text:
        assert override.value() == text
        assert isinstance(override.value(), str)


@given(printable | hostile)
def test_any_argument_is_quoted_for_the_shell(text):
    line = quote_for_shell(text)
    assert line.isprintable()
    if line.startswith("$'"):
        assert line[2:-1].encode().decode("unicode_escape").encode("latin-1").decode() == text
    else:
        assert shlex.split(line) == [text]


@pytest.mark.slow
@given(hostile)
def test_a_refused_value_is_repaired_to_something_that_parses(text):
    quoted = quoted_override(f"key={text}")
    assert quoted is not None
    override = parse_or_none(quoted)
    assert override.key_or_group == "key"
    if parse_or_none(f"key={text}") is None and not text.strip().startswith(("[", "{", "choice(")) and "${" not in text:
        assert override.value() == text.strip(" \t")


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.floats(0.1, 9) | hostile.filter(lambda text: "${" not in text),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c d"]), inner, max_size=3),
    max_leaves=6,
)


@given(plain)
def test_a_value_is_written_in_hydras_syntax(value):
    override = parse_or_none(f"key={to_hydra(value)}")
    assert override is not None
    assert override.value() == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a={x},<y>", 'a="{x}","<y>"'),
        ("a=1,(2)", 'a=1,"(2)"'),
        ("a=b", None),
        ("a=[{x},y]", None),
    ],
)
def test_values_of_a_sweep_are_quoted_one_by_one(text, expected):
    assert several_values(text) == expected


def test_a_refused_value_is_one_problem_and_the_config_has_what_was_meant(lab):
    (lab / "rows.jsonl").write_text('{"question": "a", "answers": {"text": ["b"]}}\n' * 20, encoding="utf-8")
    overrides = [
        "data=local_columns",
        "data.train.file.path=rows.jsonl",
        "data.format.prompt=Q: {question}",
        "data.format.completion={answers.text[0]}",
        "model=tiny_random",
        "model.tokenizer.extra_special_tokens=[<tool>]",
        "tracker=none",
    ]
    problems = check(overrides).problems
    assert [problem.key for problem in problems] == [override.partition("=")[0] for override in overrides[2:4]] + [
        "model.tokenizer.extra_special_tokens"
    ]
    lines = [problem.reason.removeprefix("type ").partition(" (Hydra")[0] for problem in problems]
    typed = [read_by_bash(line) for line in lines]
    assert check([*overrides[:2], *typed, "model=tiny_random", "tracker=none"]).problems == []


def test_a_required_value_that_was_refused_is_not_reported_as_missing():
    for text in ("rows,more.jsonl", "rows (1).jsonl", "<rows>"):
        problems = check(["data=local_alpaca", f"data.train.file.path={text}", "tracker=none"]).problems
        assert "a value is required" not in " ".join(problem.reason for problem in problems)
        assert problems[0].key == "data.train.file.path"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "typed"),
    [
        ("data.format.my column=a{b}", "'data.format={my column: \"a{b}\"}'"),
        ("tuning.r = 8(", "'tuning.r=\"8(\"'"),
        ("name=a,b", "'name=\"a,b\"'"),
        ("metrics=text,translation", "'metrics=[text,translation]'"),
        ("lora", "tuning=lora"),
        ("tuning", "tuning=OPTION"),
        ("nothing_known", "KEY=VALUE"),
        ("data.train[0]=x", "KEY=[a,b]"),
        ("é=1", "letters, digits"),
    ],
)
def test_the_message_says_what_to_type(override, typed, capsys):
    assert cli.main(["check", override]) == 2
    assert typed in capsys.readouterr().err


@pytest.mark.parametrize("value", ["true", "5", "1.5"])
def test_a_text_that_yaml_reads_as_another_type_is_to_be_quoted(value, lab):
    file = lab / "conf" / "data" / "mine.yaml"
    file.write_text(file.read_text(encoding="utf-8") + f"language: {value}\n", encoding="utf-8")
    reasons = [problem.reason for problem in check(["data=mine", "tracker=none"]).problems]
    assert any("unless they are in quotes" in reason for reason in reasons)

"""`list GROUP OPTION` and `show --all`: everything about an option, from its file and its classes."""

import json

import pytest

from instruct_lab import cli
from instruct_lab.config.options import GROUPS, options
from instruct_lab.experiment.reference import describe, join_paragraphs


def described(capsys, *arguments):
    assert cli.main(["list", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_an_option_of_every_group_is_described(group):
    option = options(group)[-1]
    description = describe(option)
    assert description["comment"][0] == option.comment
    assert description["problems"] == []
    assert description["components"] or description["sets"] or option.name == "none"
    for component in description["components"]:
        assert component["docstring"]


@pytest.mark.slow
def test_a_field_is_described_with_type_bounds_default_and_comment(capsys):
    (lora,) = described(capsys, "tuning", "lora")["components"]
    fields = {field["name"]: field for field in lora["fields"]}
    assert fields["r"]["type"] == "int"
    assert (fields["r"]["bounds"], fields["r"]["default"]) == ("≥ 1", 16)
    assert fields["r"]["comment"] == "rank of the update"
    assert fields["neftune_alpha"]["type"] == "float | null"  # inherited, from the base's own source
    assert "noise" in fields["neftune_alpha"]["comment"]
    assert "Hu et al., 2021" in lora["docstring"]


@pytest.mark.slow
def test_what_the_option_sets_stands_beside_the_default(capsys):
    text = cli.main(["list", "tuning", "qlora"]) or capsys.readouterr().out
    assert "tuning: instruct_lab.tuning.LoRA" in text
    (component, *_) = describe(next(o for o in options("metrics") if o.name == "text"))["components"][3:]
    variant = next(field for field in component["fields"] if field["name"] == "variant")
    assert (variant["value"], variant["default"]) == ("rouge1", "rougeL")


def test_a_class_of_another_library_is_described_by_its_signature(capsys):
    (stopping,) = described(capsys, "callbacks", "early_stopping")["components"]
    fields = {field["name"]: field for field in stopping["fields"]}
    assert fields["monitor"]["required"]
    assert (fields["patience"]["type"], fields["patience"]["default"]) == ("int", 3)
    assert stopping["docstring"].startswith("Monitor a metric")


@pytest.mark.slow
def test_what_an_option_works_with_follows_the_rules(capsys):
    works = described(capsys, "objective", "reward")["works_with"]
    assert works["families"] == ["decoder", "encoder"]
    assert "lora" in works["tuning"]
    assert "few_shot" not in works["tuning"]
    assert described(capsys, "metrics", "text")["works_with"]["families"] == ["decoder", "encoder-decoder"]
    assert "reward" not in described(capsys, "metrics", "text")["works_with"]["objective"]


def test_a_misspelt_option_names_the_nearest(capsys):
    assert cli.main(["list", "tuning", "lorra"]) == 2
    assert "choose lora" in capsys.readouterr().err


@pytest.mark.parametrize("typed", [["tuning=lora"], ["tuning/lora"], ["preprocessing/step=clean"]])
def test_an_option_can_be_named_as_in_an_override(typed, capsys):
    assert cli.main(["list", *typed]) == 0
    assert f"{typed[0].replace('tuning/', 'tuning=')}  (" in capsys.readouterr().out


def test_paragraphs_are_joined_and_tables_are_not():
    long = "  " + "word " * 20
    lines = [
        long.rstrip(),
        "  end.",
        "",
        "  short",
        "  next",
        long.rstrip(),
        "    deeper",
        "  r: 16  int" + " " * 80 + "x",
    ]
    assert list(join_paragraphs(lines)) == [f"{long.rstrip()} end.", *lines[2:]]


@pytest.mark.slow
def test_show_all_shows_what_nothing_sets(capsys):
    assert cli.main(["show", "--all", "--json", "tuning.r=4"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["config"]["tuning"]["neftune_alpha"] is None
    assert shown["origins"]["tuning.neftune_alpha"] == "default of LoRA"
    assert shown["origins"]["tuning.r"] == "override"
    assert shown["config"]["trainer"]["benchmark"] is None  # an argument of Lightning's
    assert cli.main(["show", "--all"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "neftune_alpha" in line)
    assert line.startswith("  neftune_alpha: null")
    assert line.endswith("# default of LoRA")

"""Option files, overrides and records that exhaust time or memory are refused in seconds, with the culprit's name."""

import json

import pytest
from support.exhaustive import exhaustive
from support.hanging import no_hang
from support.special_files import SPECIAL, make_special

from instruct_lab import cli

HEAD = "_target_: instruct_lab.data.DataSet\n"


def doubling(first, line, count):
    return first + "".join(line.format(last=index - 1, index=index) for index in range(1, count))


BOMBS = {
    "aliases of lists": doubling("a0: &a0 [x, x]\n", "a{index}: &a{index} [*a{last}, *a{last}, *a{last}]\n", 30),
    "aliases of mappings": doubling("a0: &a0 {x: 1}\n", "a{index}: &a{index} {{p: *a{last}, q: *a{last}}}\n", 40),
    "merge keys": doubling("a0: &a0 {x: 1}\n", "a{index}: &a{index} {{p: {{<<: *a{last}}}, q: *a{last}}}\n", 40),
    "an alias of itself": "a: &a [*a]\n",
    "an alias inside its own mapping": "a: &a {b: {c: *a}}\n",
    "nested lists": "a: " + "[" * 3000 + "]" * 3000 + "\n",
    "nested mappings": "a: " + "{b: " * 400 + "1" + "}" * 400 + "\n",
    "many values": "a: [" + "1, " * 30000 + "1]\n",
    "a large file": "# " + "x" * 3_000_000 + "\na: 1\n",
    "not UTF-8": "a: \u4f60\n".encode("gbk"),
    "UTF-16": "a: 1\n".encode("utf-16"),
    "a list": "- 1\n- 2\n",
    "one value": "5\n",
    "nothing": "",
}


def run(capsys, *arguments):
    with no_hang():
        code = cli.main(list(arguments))
    printed = capsys.readouterr()
    assert len(printed.out) + len(printed.err) < 120_000
    assert "Traceback" not in printed.err
    return code, printed


@pytest.mark.slow
@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_a_bomb_in_an_option_file_is_refused_with_its_name(lab, capsys, content):
    bomb = content if isinstance(content, bytes) else content.encode()
    (lab / "conf" / "data" / "bomb.yaml").write_bytes(bomb)
    for command in (["check"], ["show"], ["inspect"], ["train"]):
        code, printed = run(capsys, *command, "data=bomb")
        assert code == 2
        assert "bomb.yaml" in printed.err
    code, printed = run(capsys, "list", "data")
    assert code == 0
    assert "bomb" in printed.out
    code, printed = run(capsys, "list", "data", "bomb")
    assert code in (0, 2)


CHAINS = {
    "doubled texts": doubling("  x0: abc\n", "  x{index}: ${{data.x{last}}}${{data.x{last}}}\n", 40),
    "doubled mappings": doubling(
        "  x0: {{v: 1}}\n".format(), "  x{index}: {{p: '${{data.x{last}}}', q: '${{data.x{last}}}'}}\n", 40
    ),
    "doubled lists": doubling("  x0: [1, 2]\n", "  x{index}: ['${{data.x{last}}}', '${{data.x{last}}}']\n", 40),
    "wide lists": "  x0: [" + "1, " * 5000 + "1]\n  x1: [" + "'${data.x0}', " * 3000 + "1]\n",
    "a cycle": "  x0: ${data.x1}\n  x1: ${data.x0}\n",
    "a cycle through a resolver": "  x0: ${oc.select:data.x1}\n  x1: ${oc.select:data.x0}\n",
    "itself": "  x0: ${data.x0}\n",
    "a long chain": "  x0: 1\n" + "".join(f"  x{index}: ${{data.x{index - 1}}}\n" for index in range(1, 300)),
    "nested names": "  k: 0\n  x0: abc\n"
    + "".join(
        f"  x{index}: ${{data.x{index - 1}}}${{data.${{oc.select:data.n{index}}}}}\n  n{index}: x{index - 1}\n"
        for index in range(1, 40)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("lines", CHAINS.values(), ids=CHAINS)
def test_interpolations_that_multiply_are_refused(lab, capsys, lines):
    text = "# @package _global_\n# bomb: a study\ndata:\n" + lines
    (lab / "experiments").mkdir()
    (lab / "experiments" / "bomb.yaml").write_text(text, encoding="utf-8")
    for command in ("check", "show", "train"):
        code, printed = run(capsys, command, "data=mine", "model=tiny_random", "experiments=bomb")
        assert code == 2
        assert "data.x" in printed.err
        assert printed.err.count("too many values") <= 1


def test_ordinary_aliases_and_interpolations_are_taken(lab, capsys):
    text = "# fine: a study\nname: &n mine\nruns_path: *n\nseed: ${evaluation.show_samples}\n"
    (lab / "experiments").mkdir()
    (lab / "experiments" / "fine.yaml").write_text(text, encoding="utf-8")
    code, printed = run(capsys, "show", "--json", "data=mine", "model=tiny_random", "tracker=none", "experiments=fine")
    assert code == 0
    config = json.loads(printed.out)["config"]
    assert (config["name"], config["runs_path"], config["seed"]) == ("mine", "mine", "${evaluation.show_samples}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "count"), [("tuning", 9000), exhaustive("trainer", 1500), ("", 1500), ("data.split", 1500)]
)
def test_thousands_of_unknown_keys_are_summed_up(lab, capsys, place, count):
    indent, lines = "", []
    for part in place.split(".") if place else []:
        lines.append(f"{indent}{part}:")
        indent += "  "
    lines += [f"{indent}unknown_key_{index}: {index}" for index in range(count)]
    (lab / "experiments").mkdir()
    (lab / "experiments" / "many.yaml").write_text("# many: a study\n" + "\n".join(lines), encoding="utf-8")
    code, printed = run(capsys, "check", "data=mine", "tracker=none", "experiments=many")
    assert code == 2
    assert f"{count - 20:,} more keys here are unknown" in printed.err
    assert "unknown_key_0 = 0" in printed.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "override",
    [
        "seed=" + "[" * 5000 + "]" * 5000,
        "seed=" + "{a:" * 5000,
        "seed=" + "choice(" * 500 + ")" * 500,
        "name=" + "x" * 300_000,
        ".".join(["a"] * 3000) + "=1",
        "seed=" + "9" * 6000,
        "name=${oc.env:" + "${a:" * 300 + "}" * 300,
    ],
    ids=lambda text: text[:12],
)
def test_an_override_that_is_too_much_is_refused(override, capsys):
    code, printed = run(capsys, "check", override)
    assert code == 2
    assert len(printed.err) < 5000


DEFAULTS = {
    "a number": "defaults: 5\n",
    "a mapping": "defaults: {a: b}\n",
    "a list of numbers": "defaults: [5]\n",
    "itself": "defaults: [bomb]\n",
    "another that names it": "defaults: [other]\n",
    "what is not there": "defaults: [nowhere]\n",
    "null": "defaults: [null]\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("text", DEFAULTS.values(), ids=DEFAULTS)
def test_wrong_defaults_are_refused(lab, capsys, text):
    (lab / "conf" / "data" / "bomb.yaml").write_text(f"# bomb: hostile\n{text}{HEAD}", encoding="utf-8")
    (lab / "conf" / "data" / "other.yaml").write_text("# other: hostile\ndefaults: [bomb]\n", encoding="utf-8")
    code, printed = run(capsys, "check", "data=bomb")
    assert code == 2
    assert "data" in printed.err


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPECIAL)
def test_an_option_that_is_no_file_is_refused_and_the_others_are_listed(lab, capsys, kind):
    make_special(lab / "conf" / "data" / "odd.yaml", kind)
    code, printed = run(capsys, "check", "data=odd")
    assert code == 2
    assert "odd.yaml" in printed.err
    code, printed = run(capsys, "check", "data=owner/name")  # the files are searched for this repository
    assert code == 2
    assert "hub:owner/name" in printed.err
    code, printed = run(capsys, "list", "data")
    assert code == 0
    assert "interface_fr" in printed.out
    assert "mine" in printed.out
    code, printed = run(capsys, "check", "data=mine", "model=tiny_random", "tracker=none")
    assert code == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPECIAL)
def test_lab_settings_that_are_no_file_allow_nothing(lab, capsys, kind):
    make_special(lab / "lab.yaml", kind)
    code, printed = run(capsys, "check", "data=mine", "model=tiny_random", "tracker=none")
    assert code == 2
    assert "lab.yaml" in printed.err

"""A lab's own Python runs only if the user allows it."""

import json
from pathlib import Path

import pytest

from instruct_lab import cli
from instruct_lab.config import lab_code, permissions
from instruct_lab.experiment.check import check

SOURCE = '''
from pathlib import Path
from instruct_lab.config import component
from instruct_lab.tuning import Full

Path("it_ran").touch()


@component
class Mine(Full):
    """Mine."""

    strength: float = 1.0  # how strong
'''


@pytest.fixture
def option(lab, request):
    """A tuning option whose class is in a module beside `conf/`; gives the module's name, another for each test."""
    module = f"lab_module_{abs(hash(request.node.name))}"
    (lab / f"{module}.py").write_text(SOURCE, encoding="utf-8")
    (lab / "conf" / "tuning").mkdir()
    text = f"# mine: mine\n_target_: {module}.Mine\nstrength: 0.5\n"
    (lab / "conf" / "tuning" / "mine.yaml").write_text(text, encoding="utf-8")
    return module


@pytest.mark.slow
def test_without_permission_nothing_of_it_runs(lab, option, capsys):
    (problem,) = check(["data=mine", "tuning=mine"]).problems
    assert problem.key == "tuning._target_"
    assert f"{option}.py" in problem.reason
    assert "--allow-lab-code" in problem.reason
    assert "instruct-lab allow ." in problem.reason
    assert problem.kind == "permission"
    for command in (["check"], ["train"], ["show"], ["inspect"]):
        assert cli.main([*command, "data=mine", "tuning=mine"]) == 2
    assert cli.main(["list", "tuning", "mine"]) == 0
    assert "which runs only if you allow it" in capsys.readouterr().out
    assert not (lab / "it_ran").exists()


@pytest.mark.slow
def test_the_lab_cannot_allow_itself(lab, option):
    (lab / "lab.yaml").write_text("python: true\n")
    assert cli.main(["check", "data=mine", "tuning=mine"]) == 2
    assert not (lab / "it_ran").exists()


def test_a_lab_without_python_runs_none(lab, option, lab_code_allowed):
    (lab / "lab.yaml").write_text("python: false\n")
    (problem,) = check(["data=mine", "tuning=mine"]).problems
    assert "does not say `python: true`" in problem.reason
    assert not (lab / "it_ran").exists()


@pytest.mark.slow
def test_the_user_allows_this_lab_in_the_settings(lab, option, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(lab / "settings"))
    assert cli.main(["allow", "."]) == 0
    assert str(lab) in capsys.readouterr().out
    checked = check(["data=mine", "tuning=mine"])
    assert checked.problems == []
    assert checked.experiment.tuning.strength == 0.5
    assert check(["data=mine", "tuning=mine", "tuning.strenght=2"]).problems[0].suggestion == "strength"
    assert cli.main(["allow", "--remove", "."]) == 0
    assert [problem.kind for problem in check(["data=mine", "tuning=mine"]).problems] == ["permission"]


@pytest.mark.slow
def test_the_command_line_allows_it_for_one_command(lab, option, capsys):
    assert cli.main(["check", "data=mine", "tuning=mine", "--allow-lab-code"]) == 0
    assert cli.main(["check", "data=mine", "tuning=mine"]) == 2
    capsys.readouterr()
    assert cli.main(["list", "tuning", "mine", "--allow-lab-code", "--json"]) == 0
    (component,) = json.loads(capsys.readouterr().out)["components"]
    assert component["fields"][-1]["comment"] == "how strong"


def test_processes_inherit_the_permission(monkeypatch):
    monkeypatch.delenv(permissions.VARIABLE)
    with permissions.allow("lab-code"):
        assert permissions.inherited()[permissions.VARIABLE] == "lab-code"
    assert permissions.VARIABLE not in permissions.inherited()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "key", "suggestion"),
    [
        ("python: yes please\n", "lab.yaml: python", None),
        ("pyhton: true\n", "lab.yaml: pyhton", "python"),
        ("[python", "lab.yaml", None),
        ("- python\n", "lab.yaml", None),
    ],
)
def test_a_mistake_in_lab_yaml_allows_nothing(lab, option, lab_code_allowed, text, key, suggestion):
    (lab / "lab.yaml").write_text(text)
    problems = {problem.key: problem for problem in check(["data=mine", "tuning=mine"]).problems}
    assert problems[key].suggestion == suggestion
    assert "tuning._target_" in problems
    assert not (lab / "it_ran").exists()


@pytest.mark.slow
def test_code_that_cannot_be_imported_is_a_problem_with_its_line(lab, option, lab_code_allowed):
    path = lab / f"{option}.py"
    path.write_text(f"import no_such_library\n{SOURCE}")
    (problem,) = check(["data=mine", "tuning=mine"]).problems
    assert "no_such_library" in problem.reason
    assert f"{option}.py, line 1" in problem.reason
    path.write_text("class Mine(:\n")
    (problem,) = check(["data=mine", "tuning=mine"]).problems
    assert "line 1: not valid Python" in problem.reason


def test_an_installed_library_is_never_lab_code(lab):
    (lab / "json.py").write_text("raise SystemExit\n")
    assert lab_code.lab_source("json") is None


@pytest.mark.slow
@pytest.mark.parametrize("annotation", ["NoSuchType", "list[NoSuchType]", "Annotated[int, Ge('x')]", "int[str]", "1 +"])
def test_a_class_with_a_broken_annotation_is_refused_with_its_name(lab, option, lab_code_allowed, annotation):
    imports = "from __future__ import annotations\nfrom typing import Annotated\nfrom annotated_types import Ge\n"
    source = imports + SOURCE.replace("strength: float = 1.0", f"strength: {annotation!r} = 0.5")
    (lab / f"{option}.py").write_text(source, encoding="utf-8")
    (problem,) = check(["data=mine", "tuning=mine"]).problems
    assert option in problem.reason
    assert problem.key == "tuning._target_"
    assert problem.value == f"{option}.Mine"


def test_a_checkout_of_this_package_is_no_module_of_a_lab(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(lab_code.__file__).parents[2])
    assert lab_code.lab_source("instruct_lab.data") is None
    (tmp_path / "instruct_lab.py").touch()
    monkeypatch.chdir(tmp_path)
    assert lab_code.lab_source("instruct_lab.data") is None

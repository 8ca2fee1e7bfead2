"""The design, held by tests: groups and rooms mirror each other, declarations are light, imports flow one way."""

import dataclasses
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import instruct_lab
from instruct_lab.config import Component
from instruct_lab.config.options import GROUPS, options, packaged_conf
from instruct_lab.experiment import Experiment
from instruct_lab.experiment.check import check_all

ROOT = Path(__file__).parent.parent
ROOMS = sorted(module.name for module in pkgutil.iter_modules(instruct_lab.__path__) if module.ispkg)
PACKAGE_OF_GROUP = {
    "tokenizer": "model",
    "trainer": "training",
    "debug": "training",
    "experiments": "experiment",
    "preprocessing/step": "preprocessing",
    "pruner": "sweep",
    "hydra/sweeper": "sweep",
    "hydra/launcher": "sweep",
}
HEAVY = ("torch", "transformers", "datasets", "peft", "wandb", "pytorch_lightning", "torchmetrics", "pyarrow", "numpy")


def option_files():
    return [*sorted((ROOT / "conf").rglob("*.yaml")), *sorted((ROOT / "experiments").rglob("*.yaml"))]


NO_GROUP = {"cache", "commands", "comparison", "config", "evaluation", "export", "inspection", "pages", "records"}
"""Packages that a user does not choose an option of: named for what they do."""


def test_every_group_has_its_package_and_every_package_its_group():
    folders = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()}
    assert folders | {"experiments"} == {group for group in GROUPS if "/" not in group} | {"hydra"}
    assert all((ROOT / "conf" / group).is_dir() for group in GROUPS if "/" in group)
    assert {PACKAGE_OF_GROUP.get(group, group) for group in GROUPS} == set(ROOMS) - NO_GROUP


def test_every_group_but_the_optional_ones_is_a_field_of_the_experiment():
    fields = {field.name for field in dataclasses.fields(Experiment)}
    assert {group for group in GROUPS if "/" not in group} - {"debug", "experiments", "tokenizer", "pruner"} <= fields


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_loads_no_heavy_library(room):
    code = f"import sys, instruct_lab.{room}; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_checking_a_config_loads_no_heavy_library():
    code = (
        "import sys; from instruct_lab.cli import main; code = main(['check']); "
        f"print(code, [m for m in {HEAVY!r} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "0 []"


def test_every_option_of_every_group_and_every_study_is_built():
    results = check_all()
    assert {(r.group, r.option): [str(p) for p in r.problems] for r in results if r.problems} == {}
    files = [path for path in option_files() if path != ROOT / "conf" / "train.yaml"]
    assert len(results) == len(files)  # found recursively: no file is overlooked
    assert len(results) >= NUM_OPTIONS


NUM_OPTIONS = 50


def test_an_option_in_a_folder_below_its_group_is_found(lab):
    nested = lab / "conf" / "data" / "more" / "nested.yaml"
    nested.parent.mkdir()
    nested.write_text((lab / "conf" / "data" / "mine.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    assert "more/nested" in [option.name for option in options("data")]


@pytest.mark.parametrize("path", option_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_an_option_file_opens_with_its_comment(path):
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("# @package")]
    assert lines[0].startswith("# ")
    if path.parent != packaged_conf():
        assert lines[0].startswith(f"# {path.stem}: "), "the comment begins with the option's name"
    yaml.safe_load(path.read_text(encoding="utf-8"))


def components():
    for module in pkgutil.walk_packages(instruct_lab.__path__, "instruct_lab."):
        room = importlib.import_module(module.name) if "._" not in module.name and _is_light(module.name) else None
        for kind in vars(room).values() if room else ():
            if isinstance(kind, type) and issubclass(kind, Component) and kind.__module__ == module.name:
                yield kind


def _is_light(name):
    heavy = ("instruct_lab.training.", "instruct_lab.callbacks.")
    return not name.startswith(heavy) or name.endswith(".components")


@pytest.mark.parametrize("kind", sorted(set(components()), key=lambda k: k.__name__), ids=lambda k: k.__name__)
def test_a_component_has_a_docstring_and_is_frozen(kind):
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}("), "the docstring is dataclass's own"
    if dataclasses.is_dataclass(kind) and not inspect.isabstract(kind):
        assert kind.__dataclass_params__.frozen


def test_imports_flow_one_way():
    lint = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run([str(lint), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:]


def test_code_is_formatted_and_linted():
    for command in (["check"], ["format", "--check"]):
        result = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", "."],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-3000:]


def test_types_hold():
    command = [sys.executable, "-m", "mypy", "--cache-dir", "/dev/null"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:]


def test_files_stay_small_enough_to_read():
    long = {p.name: n for p in (ROOT / "instruct_lab").rglob("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert long == {}

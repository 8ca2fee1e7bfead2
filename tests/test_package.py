"""An installed copy works away from the clone: the wheel holds every option, study and example."""

import ast
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from support.packaging import build

from instruct_lab.config.options import GROUPS, options

ROOT = Path(__file__).parent.parent
PACKAGED = "instruct_lab/_packaged/"
# Declared packages that another library imports.
USED_BY = {
    "cmaes": "optuna's sampler",
    "mkdocs": "the documentation's site",
    "mkdocs-material": "the theme of the documentation's site",
    "mlflow": "Lightning's logger",
    "scikit-learn": "optuna's importance of parameters",
    "scipy": "optuna's Gaussian process",
    "sentencepiece": "transformers' Marian tokenizer",
    "tensorboard": "Lightning's logger",
    "trl": "the measurements beside other trainers",
}


ASSETS = {
    "instruct_lab/py.typed",
    "instruct_lab/__init__.pyi",
    "instruct_lab/pages/templates/page.html",
    "instruct_lab/_packaged/conf/train.yaml",
    "instruct_lab/_packaged/experiments/dry_run.yaml",
}
"""Some of the files that are no modules, to show that the comparison with the tree compares something."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build("wheel", tmp_path_factory.mktemp("wheel"))


def contents(wheel):
    """Return the bytes of each packed file of the package by its path."""
    with zipfile.ZipFile(wheel) as packed:
        names = [name for name in packed.namelist() if name.startswith("instruct_lab/")]
        return {name: packed.read(name) for name in names}


@pytest.mark.slow
def test_the_wheel_holds_exactly_the_files_of_the_tree(wheel):
    expected = {}
    for folder, prefix in [("instruct_lab", ""), ("conf", PACKAGED), ("experiments", PACKAGED)]:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                expected[prefix + path.relative_to(ROOT).as_posix()] = path.read_bytes()
    packed = contents(wheel)
    assert set(packed) == set(expected)
    assert [name for name in packed if packed[name] != expected[name]] == []
    assert set(packed) >= ASSETS
    assert {Path(name).suffix for name in packed} >= {".py", ".pyi", ".yaml", ".html", ".css", ".js"}


@pytest.mark.slow
def test_a_wheel_of_the_source_distribution_is_the_same(wheel, tmp_path):
    with tarfile.open(build("sdist", tmp_path / "sdist")) as packed:
        packed.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (source,) = tmp_path.glob("instruct_lab-*")
    assert contents(build("wheel", tmp_path / "wheel", source)) == contents(wheel)
    assert {path.name for path in source.iterdir()} >= {"LICENSE", "README.md", "CHANGELOG.md", "tests", "docs"}


def test_the_licences_of_what_is_included_are_in_the_wheel(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    licences = {name.partition("/licenses/")[2] for name in names if "/licenses/" in name}
    echarts = "instruct_lab/comparison/page/echarts"
    assert licences == {"LICENSE", f"{echarts}/LICENSE", f"{echarts}/NOTICE"}


RUN_ALL = """
import json, sys, instruct_lab
from instruct_lab.cli import main
print(instruct_lab.__file__, end="")
for arguments in json.loads(sys.argv[1]):
    print(end="\\0", flush=True)
    assert main(arguments) == 0
"""


@pytest.mark.slow
def test_the_wheel_works_away_from_the_clone(wheel, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    commands = [
        ["list", "--json"],
        ["check", "experiments=dry_run"],
        ["init", "lab"],
        ["train", "experiments=dry_run", "tracker=none", "--json"],
        ["show-run", "latest", "--html", "run.html"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, json.dumps(commands)],
        cwd=elsewhere,
        env=dict(os.environ, PYTHONPATH=str(site)),
        capture_output=True,
        text=True,
        check=True,
    )
    file, *printed = done.stdout.split("\0")
    assert file.startswith(str(site))
    here = {group: [option.name for option in options(group)] for group in GROUPS}
    assert {group: [row["option"] for row in rows] for group, rows in json.loads(printed[0]).items()} == here
    assert printed[1].startswith("ok")
    assert (elsewhere / "lab" / "conf" / "data" / "my_data.yaml").is_file()
    assert json.loads(printed[3])["status"] == "finished"
    assert "echarts" in (elsewhere / "run.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_imported_package_is_declared_and_every_declared_one_is_used():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: texts for name, texts in project["optional-dependencies"].items() if name != "test"}
    declared = {_package(text) for texts in [project["dependencies"], *extras.values()] for text in texts}
    modules = set()
    for path in (ROOT / "instruct_lab").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.partition(".")[0])
    modules -= {*sys.stdlib_module_names, "instruct_lab"}
    distributions = metadata.packages_distributions()
    imported = {_package(distributions.get(module, [module])[0]) for module in modules}
    assert imported - declared == {"vllm"}  # requires a torch of its own, so the user installs it
    assert declared - imported == set(USED_BY)


def _package(requirement):
    return re.match(r"[\w.-]+", requirement).group().lower().replace("_", "-")

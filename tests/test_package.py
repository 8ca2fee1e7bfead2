"""An installed copy works away from the clone: the wheel holds every option, study and example."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from instruct_lab.config.options import GROUPS, options

ROOT = Path(__file__).parent.parent
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
}


@pytest.mark.slow
def test_the_wheel_works_away_from_the_clone(tmp_path):
    built = tmp_path / "built"
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = built.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
        names = set(packed.namelist())
    files = (path for path in (ROOT / "instruct_lab").rglob("*") if path.is_file())
    other_files = {path.relative_to(ROOT).as_posix() for path in files if path.suffix not in (".py", ".pyc")}
    assert "instruct_lab/pages/templates/page.html" in other_files
    assert other_files <= names
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "instruct_lab.cli", *arguments],
            cwd=elsewhere,
            env=dict(os.environ, PYTHONPATH=str(site)),
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    where = "import instruct_lab; print(instruct_lab.__file__)"
    command = [sys.executable, "-c", where]
    found = subprocess.run(
        command, cwd=elsewhere, env=dict(os.environ, PYTHONPATH=str(site)), capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith(str(site))
    listed = json.loads(run("list", "--json"))
    here = {group: [option.name for option in options(group)] for group in GROUPS}
    assert {group: [row["option"] for row in rows] for group, rows in listed.items()} == here
    assert run("check", "experiments=dry_run").startswith("ok")
    run("init", "lab")
    assert (elsewhere / "lab" / "conf" / "data" / "my_data.yaml").is_file()


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
    assert imported - declared == set()
    assert declared - imported == set(USED_BY)


def _package(requirement):
    return re.match(r"[\w.-]+", requirement).group().lower().replace("_", "-")

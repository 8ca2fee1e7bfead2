"""The image of `docs/Dockerfile`: a linter finds no fault, and what it copies and installs exists and suffices."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from support.packaging import build

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
ARGUMENTS = dict(re.findall(r"^ARG (\w+)=(\S*)$", TEXT, re.M))

needs_hadolint = pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed")


def faults(text):
    command = [HADOLINT, "--no-color", "-"]
    result = subprocess.run(command, input=text, capture_output=True, text=True)
    return set(re.findall(r"\b(?:DL|SC)\d{4}\b", result.stdout))


@needs_hadolint
def test_the_linter_finds_no_fault():
    assert faults(TEXT) == set()


@needs_hadolint
@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("--no-cache-dir ", "", "DL3042"),
        ("python:3.11-slim", "python:latest", "DL3007"),
        ("WORKDIR /lab", "WORKDIR lab", "DL3000"),
        ('ENTRYPOINT ["instruct-lab"]', "ENTRYPOINT instruct-lab", "DL3025"),
        ("USER 1000", "USER root", "DL3002"),
    ],
)
def test_the_linter_finds_planted_faults(old, new, fault):
    assert old in TEXT
    assert fault in faults(TEXT.replace(old, new))


@pytest.mark.slow
def test_the_copied_files_suffice_to_build_the_whole_package(tmp_path):
    source = tmp_path / "source"
    for line in re.findall(r"^COPY (.+)$", TEXT, re.M):
        *paths, target = line.split()
        for path in paths:
            if (ROOT / path).is_dir():
                shutil.copytree(ROOT / path, source / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                (source / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / path, source / target)
    assert packed_files(source, tmp_path / "image") == packed_files(ROOT, tmp_path / "clone")


def packed_files(root, folder):
    return sorted(zipfile.ZipFile(build("wheel", folder, root)).namelist())


def test_the_version_of_torch_is_the_tested_one():
    command = re.search(r'torch="\$\((.+)\)"', TEXT)[1]
    version = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    (required,) = (one for one in map(Requirement, PROJECT["dependencies"]) if one.name == "torch")
    assert required.specifier.contains(version)


@pytest.mark.parametrize("index", ["", "scheme://index.example/a b"])
def test_only_torch_comes_from_the_chosen_index(index):
    commands = re.search(r"^RUN (.+?)\n\n", TEXT, re.M | re.S)[1]
    programs = 'pip() { echo "pip from <$PIP_INDEX_URL>: $*"; }\nuseradd() { :; }\ninstall() { :; }\n'
    variables = {**os.environ, "PIP_INDEX_URL": "", "TORCH_INDEX": index, "EXTRAS": ARGUMENTS["EXTRAS"]}
    command = ["sh", "-c", programs + commands]
    result = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
    torch, package = (line for line in result.stdout.splitlines() if line.startswith("pip from "))
    assert torch.startswith(f"pip from <{index}>: install --no-cache-dir torch==")
    assert package.startswith("pip from <>: install --no-cache-dir -c constraints.txt .[")


def test_the_image_names_no_index():
    assert "://" not in TEXT
    assert ARGUMENTS["TORCH_INDEX"] == ""


def test_the_python_of_the_image_is_supported():
    version = re.search(r"^FROM python:([\d.]+)-slim$", TEXT, re.M)[1]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(version)


def test_the_extras_and_arguments_exist():
    assert set(ARGUMENTS["EXTRAS"].split(",")) <= set(PROJECT["optional-dependencies"])
    page = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    assert set(re.findall(r"--build-arg (\w+)=", TEXT + page)) <= set(ARGUMENTS)
    assert set(re.findall(r"\$\{(\w+)\}", TEXT)) - {"torch"} == set(ARGUMENTS)


def test_the_entry_point_is_the_command():
    assert f'ENTRYPOINT ["{next(iter(PROJECT["scripts"]))}"]' in TEXT

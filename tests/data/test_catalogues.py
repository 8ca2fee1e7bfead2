"""Gettext catalogues inside a wheel."""

import hashlib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from instruct_lab import assets
from instruct_lab.assets import PackageAsset
from instruct_lab.data import Audit, Catalogues
from instruct_lab.data.sources.catalogues import nearest_locale
from instruct_lab.errors import InstructLabError

CATALOGUE = """# Catalogue
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Plural-Forms: nplurals=2; plural=(n > 1);\\n"

msgid "Save"
msgstr "Enregistrer"

msgctxt "noun"
msgid "Save"
msgstr "Sauvegarde"

#, fuzzy
msgid "Delete"
msgstr "Peut-être"

msgid "Untranslated"
msgstr ""

msgid "%(count)s file"
msgid_plural "%(count)s files"
msgstr[0] "%(count)s fichier"
msgstr[1] "%(count)s fichiers"

msgid ""
"Long text, "
"in two lines\\n"
msgstr "Texte long,\\n« été »"

#~ msgid "Old"
#~ msgstr "Vieux"
"""


@pytest.fixture
def asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackageAsset:
    wheel = tmp_path / "fake-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("fake/locale/fr/LC_MESSAGES/django.po", CATALOGUE)
        archive.writestr("fake/locale/fr/LC_MESSAGES/djangojs.po", CATALOGUE.replace("Enregistrer", "Garder"))
        archive.writestr("fake/locale/fr/LC_MESSAGES/django.mo", b"compiled")
        archive.writestr("fake/locale/pt_BR/LC_MESSAGES/django.po", CATALOGUE)
        archive.writestr("fake/__init__.py", "raise SystemExit('this package was run')")
    monkeypatch.setattr(
        assets, "download_command", lambda requirement, folder: ["cp", str(wheel), str(folder / wheel.name)]
    )
    return PackageAsset(package="fake", version="1.0", sha256=hashlib.sha256(wheel.read_bytes()).hexdigest())


def read(asset: PackageAsset, cache: Path, audit: Audit | None = None, **fields):
    source = Catalogues(asset=asset, **{"language": "fr", **fields})
    rows = list(source.read(cache, audit or Audit(), "data/train/fake"))
    return SimpleNamespace(rows=rows, inputs=source.inputs(cache))


def test_translated_entries_become_rows_and_the_others_are_counted(asset, tmp_path, capsys) -> None:
    audit = Audit()
    found = read(asset, tmp_path / "cache", audit, patterns=["*/django.po"])
    assert [(row.columns["source"], row.columns["target"]) for row in found.rows] == [
        ("Save", "Enregistrer"),
        ("Save", "Sauvegarde"),
        ("Long text, in two lines\n", "Texte long,\n« été »"),
    ]
    file = "fake/locale/fr/LC_MESSAGES/django.po"
    assert found.rows[0].columns == {
        "source": "Save",
        "target": "Enregistrer",
        "file": file,
        "project": "fake",
        "language": "fr",
        "language_name": "French",
    }
    assert found.rows[0].where == f"fake 1.0, {file}, line 7"
    reasons = {tally.reason: (tally.count, tally.samples[0]["before"]) for tally in audit.tallies.values()}
    assert reasons == {
        "fuzzy entry": (1, "Delete"),
        "untranslated entry": (1, "Untranslated"),
        "plural entry": (1, "%(count)s file | %(count)s files"),
        "obsolete entry": (1, "Old"),
    }
    assert capsys.readouterr().out == ""


def test_the_wheel_is_the_input(asset, tmp_path) -> None:
    found = read(asset, tmp_path / "cache")
    assert [(entry.name, entry.sha256) for entry in found.inputs] == [("fake-1.0", asset.sha256)]
    assert found.inputs[0].bytes > 0


def test_all_catalogues_are_read_or_those_of_the_patterns(asset, tmp_path) -> None:
    assert len(read(asset, tmp_path / "cache").rows) == 6
    with pytest.raises(InstructLabError, match=r"no catalogue that matches \*\.pot"):
        read(asset, tmp_path / "cache", patterns=["*.pot"])


def test_the_nearest_locale_is_read_and_named_as_asked(asset, tmp_path) -> None:
    row = read(asset, tmp_path / "cache", language="pt").rows[0]
    assert (row.columns["language"], row.columns["language_name"]) == ("pt", "Portuguese")
    assert "pt_BR" in row.columns["file"]


def test_a_missing_language_lists_those_there_are(asset, tmp_path) -> None:
    with pytest.raises(InstructLabError, match=r"no translations to 'de'.*fake 1\.0.*fr, pt_BR"):
        read(asset, tmp_path / "cache", language="de")


@pytest.mark.parametrize(
    ("language", "folders", "expected"),
    [
        ("nl", ["nl_NL", "nn"], "nl_NL"),
        ("ko", ["ko_KR"], "ko_KR"),
        ("pt_BR", ["pt", "pt_BR"], "pt_BR"),
        ("pt-BR", ["pt", "pt_BR"], "pt_BR"),
        ("pt", ["pt_BR", "pt_PT"], "pt_BR"),
        ("pt_PT", ["pt_BR", "pt"], "pt"),
        ("pt_PT", ["pt_BR"], None),
        ("es", ["es_AR", "es_ES", "es_MX"], "es_ES"),
        ("zh_CN", ["zh_Hans", "zh_Hant"], "zh_Hans"),
        ("zh_TW", ["zh_Hans", "zh_Hant"], "zh_Hant"),
        ("zh_Hans", ["zh_Hant"], None),
        ("zh", ["zh_Hant", "zh_Hans"], "zh_Hans"),
        ("sr", ["sr_Latn", "sr"], "sr"),
        ("fr", ["fy", "fr_CA"], "fr_CA"),
        ("not a code", ["fr"], None),
    ],
)
def test_the_nearest_locale_folder(language, folders, expected) -> None:
    assert nearest_locale(language, folders) == expected
    assert nearest_locale(language, reversed(folders)) == expected


def test_a_language_that_is_none_is_a_problem() -> None:
    asset = PackageAsset(package="a", version="1", sha256="0" * 64)
    problems = list(Catalogues(asset=asset, language="french").problems())
    assert [(problem.key, problem.value) for problem in problems] == [("language", "french")]
    assert not list(Catalogues(asset=asset, language="zh_Hans").problems())

"""A source of gettext message catalogues (`.po` and `.mo` files), read from a certain version of a Python package."""

from __future__ import annotations

import contextlib
import fnmatch
import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from instruct_lab.assets import Input, PackageAsset
from instruct_lab.config import component
from instruct_lab.data.audit import Audit
from instruct_lab.data.sources.base import Row, Source
from instruct_lab.errors import InstructLabError, Problem

if TYPE_CHECKING:
    from babel import Locale
    from babel.messages.catalog import Message

CATALOGUE = re.compile(r"(?:^|.*/)(?P<folder>[A-Za-z]{2,3}(?:[_-][A-Za-z0-9]+)*)/LC_MESSAGES/[^/]+\.(?:po|mo)$")


@component
class Catalogues(Source):
    """Translated interface strings from the gettext catalogues of a package, read without importing the package.

    Plural, fuzzy, obsolete and untranslated entries are dropped and counted. File format: GNU gettext.
    """

    keeps_one_of_equal_rows = True

    asset: PackageAsset  # the wheel that holds the catalogues
    language: Annotated[str, Field(min_length=2)]  # locale code of the translations: fr, pt_BR, zh_Hans
    patterns: Annotated[list[str], Field(min_length=1)] = Field(
        default_factory=lambda: ["*.po"]
    )  # files inside the wheel

    def inputs(self, cache_path: Path) -> list[Input]:
        """Return the package's wheel as the only input.

        Raises:
            InstructLabError: the wheel cannot be downloaded.
        """
        return [self.asset.input(self.asset.fetch(cache_path))]

    def rows(self, cache_path: Path, audit: Audit, stage: str) -> Iterator[Row]:
        """Yield every translated string, with columns source, target, project, language, language_name, file.

        Raises:
            InstructLabError: the wheel cannot be downloaded, or has no catalogue that is in the wanted language and
                matches one of `patterns`.
        """
        from babel import Locale

        language_name = Locale.parse(self.language, sep=_separator(self.language)).get_display_name("en")
        shared = {"project": self.asset.package, "language": self.language, "language_name": language_name}
        with zipfile.ZipFile(self.asset.fetch(cache_path)) as archive:
            for file in self._files(archive):
                for row in self._rows(archive, file, audit, stage):
                    row.columns.update(shared)
                    yield row

    def known_columns(self) -> list[str]:
        """Return the columns that every catalogue has."""
        return ["source", "target", "file", "project", "language", "language_name"]

    def problems(self) -> Iterator[Problem]:
        """Report the setting `language` if it is not a valid locale code."""
        if _locale(self.language) is None:
            reason = "is not a locale code such as fr, pt_BR or zh_Hans"
            yield Problem(key="language", value=self.language, reason=reason)

    def _files(self, archive: zipfile.ZipFile) -> list[str]:
        """Return the sorted paths of the wheel's catalogues for the locale that fits the language best."""
        folders: dict[str, list[str]] = {}
        for file in sorted(archive.namelist()):
            found = CATALOGUE.match(file)
            if found and any(fnmatch.fnmatch(file, pattern) for pattern in self.patterns):
                folders.setdefault(found["folder"], []).append(file)
        where = f"{self.asset.package} {self.asset.version}"
        if not folders:
            raise InstructLabError(
                f"The wheel has no catalogue that matches {', '.join(self.patterns)}",
                where=where,
                do="Correct patterns",
            )
        folder = nearest_locale(self.language, folders)
        if folder is None:
            raise InstructLabError(
                f"The package has no translations to {self.language!r}",
                where=where,
                do=f"Choose one of its languages: {', '.join(sorted(folders))}",
            )
        return folders[folder]

    def _rows(self, archive: zipfile.ZipFile, file: str, audit: Audit, stage: str) -> Iterator[Row]:
        from babel.messages.mofile import read_mo
        from babel.messages.pofile import PoFileError, read_po

        try:
            # babel prints warnings about a catalogue (too many plurals) to standard output
            with archive.open(file) as stream, contextlib.redirect_stdout(io.StringIO()):
                catalogue = read_mo(stream) if file.endswith(".mo") else read_po(stream, ignore_obsolete=False)
        except (PoFileError, ValueError, LookupError) as error:
            raise InstructLabError(f"The catalogue cannot be read ({error})", where=file) from error
        for message in catalogue.obsolete.values():
            audit.record(stage, "dropped", "obsolete entry", _source_text(message))
        for message in catalogue:
            if not message.id:  # the header
                continue
            if reason := _reason_to_drop(message):
                audit.record(stage, "dropped", reason, _source_text(message))
                continue
            columns = {"source": message.id, "target": message.string, "file": file}
            line = f", line {message.lineno}" if message.lineno else ""
            yield Row(columns, f"{self.asset.package} {self.asset.version}, {file}{line}")


def _reason_to_drop(message: Message) -> str | None:
    if message.pluralizable:
        return "plural entry"
    if message.fuzzy:
        return "fuzzy entry"
    if not isinstance(message.string, str) or not message.string.strip() or not message.id.strip():
        return "untranslated entry"
    return None


def _source_text(message: Message) -> str:
    return message.id if isinstance(message.id, str) else " | ".join(message.id)


def nearest_locale(language: str, folders: Iterable[str]) -> str | None:
    """Find the locale folder that fits a language best.

    The folder of the same locale is best. If there is no such folder, a folder of the language without a region is
    used, or else a folder with a region. Among folders with a region, the usual region of the language is preferred. A
    folder for another script, such as `zh_Hant` for `zh_Hans`, is never used. A folder for another region, such as
    `pt_BR` for `pt_PT`, is not used if the language names a region. `None` is returned if no folder fits.
    """
    wanted = _locale(language)
    candidates = []
    for folder in folders:
        locale = _locale(folder)
        if wanted is None or locale is None or _likely(locale)[:2] != _likely(wanted)[:2]:
            continue
        if wanted.territory and locale.territory and wanted.territory != locale.territory:
            continue
        if wanted.variant != locale.variant:
            continue
        other_region = _likely(locale)[2] != _likely(wanted)[2]
        rank = (locale != wanted, bool(locale.territory), other_region, len(folder), folder)
        candidates.append((rank, folder))
    return min(candidates)[1] if candidates else None


def _separator(code: str) -> str:
    return "-" if "-" in code else "_"


def _locale(code: str) -> Locale | None:
    from babel import Locale, UnknownLocaleError

    try:
        return Locale.parse(code, sep=_separator(code))
    except (ValueError, UnknownLocaleError):
        return None


def _likely(locale: Locale) -> tuple[str, str | None, str | None]:
    """Return the language, script and region, completed with Unicode's likely subtags: zh becomes zh, Hans, CN."""
    from babel.core import get_global

    known = get_global("likely_subtags")
    names = [
        "_".join(filter(None, (locale.language, locale.script, locale.territory))),
        "_".join(filter(None, (locale.language, locale.territory))),
        "_".join(filter(None, (locale.language, locale.script))),
        locale.language,
    ]
    likely = next((known[name].split("_") for name in names if name in known), [locale.language])
    script = locale.script or (likely[1] if len(likely) > 1 else None)
    return locale.language, script, locale.territory or (likely[2] if len(likely) > 2 else None)

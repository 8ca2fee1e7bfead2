"""The examples (documents) of the benchmark tasks in this package, made from the locale data of Babel (Unicode CLDR).

Babel is a dependency of this package, so these tasks need no network. Licence of the data: Unicode License V3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

NUM_CHOICES = 4


def currencies(**settings: Any) -> dict[str, Any]:
    """Return the documents of the task `cldr_currencies`.

    Each has a territory, its currency among three other currencies, and the index of the right currency. A hash of the
    territory's name determines the other currencies and this index.
    """
    from babel import Locale
    from babel.numbers import get_territory_currencies

    english = Locale("en")
    used: dict[str, str] = {}
    for code, territory in sorted(english.territories.items()):
        current = get_territory_currencies(code) if len(code) == 2 and code.isalpha() else []
        if len(current) == 1 and current[0] in english.currencies:
            used[territory] = english.currencies[current[0]]
    names = sorted(set(used.values()))
    return _as_data_set([{"territory": one, **_choices(one, own, names)} for one, own in used.items()])


def languages(**settings: Any) -> dict[str, Any]:
    """Return the documents of the task `cldr_languages`, each with a language's own name and its name in English."""
    from babel import Locale, localedata

    english = Locale("en").languages
    documents = []
    for code in sorted(localedata.locale_identifiers()):
        if "_" in code or code not in english:
            continue
        own = Locale(code).languages.get(code)
        if own and own.casefold() != english[code].casefold():
            documents.append({"own": own, "english": english[code]})
    return _as_data_set(documents)


def _choices(name: str, own: str, others: Sequence[str]) -> dict[str, Any]:
    order = sorted((one for one in others if one != own), key=lambda one: _digest(f"{name}:{one}"))
    answer = int(_digest(name), 16) % NUM_CHOICES
    return {"choices": [*order[:answer], own, *order[answer : NUM_CHOICES - 1]], "answer": answer}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _as_data_set(documents: list[dict[str, Any]]) -> dict[str, Any]:
    from datasets import Dataset

    return {"test": Dataset.from_list(documents)}

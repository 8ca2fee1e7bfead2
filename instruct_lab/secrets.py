"""Keep the values of secrets out of everything that is written, sent or printed.

A process knows its secrets from three sources: environment variables whose names say that they hold one, the variables
that a config reads by `${oc.env:NAME}`, and keys and passwords that are written into a config or typed as an override.
Files and output show `<secret>` instead, and a recorded config holds `${oc.env:NAME}`, so that the value is read from
the environment again when the run is resumed or reproduced.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from instruct_lab.key_patterns import API_KEY, JWT, PRIVATE_KEY, URL_PASSWORD

HIDDEN = "<secret>"
VARIABLE_PREFIX = "INSTRUCT_LAB_SECRET_"
"""Beginning of the names of the environment variables that hold secrets from configs and overrides."""
MIN_CHARACTERS, MIN_UNNAMED_CHARACTERS = 6, 8
"""Minimum length of a secret whose key or variable has a name such as `password`, and of any other secret."""
MIN_LINE = 12
"""Minimum length of a secret of letters only, and of a line that is hidden as a part of a longer secret."""

NAMED = re.compile(
    r"(?:passwords?|passwd|passphrase|pwd|secrets?|credentials?|authorization|bearer|"
    r"(?:api|access|secret|private|auth|account|encryption|signing|license)[_-]?key|"
    r"(?:api|auth|access|bearer|refresh|session|login|hf|hub|github|gitlab|wandb)[_-]?token)$",
    re.IGNORECASE,
)
"""Matches the names of settings and variables that always hold a secret."""
OFTEN_NAMED = re.compile(r"(?:token|key|_pass|_pat|_auth)$", re.IGNORECASE)
"""Matches names such as `pad_token` or `hf_key`, whose values are secrets only if they look like secrets."""
ORDINARY_VARIABLE = re.compile(
    r"(?:HOME|USER|USERNAME|LOGNAME|HOST|HOSTNAME|PWD|OLDPWD|SHELL|LANG|TERM|TMPDIR|TMP|TEMP|PATH|SCRATCH|TZ)$|"
    r"(?:LC|SLURM|CUDA|XDG|OMP)_|(?:\w*_)?(?:DIR|PATH|HOME|ROOT|FOLDER|FILE|CACHE|PROJECT|ENTITY|TEAM|NAME|ID|GROUP|MODE|"
    r"MODEL|DATA|DATASET|TASK|STUDY|EXPERIMENT|RUN|VERSION|LANGUAGE)$",
    re.IGNORECASE,
)
"""Matches the names of variables that describe a machine, a user or a folder.

The values of such variables are recorded unless they look like keys.
"""
KEY_FORM = re.compile(
    r"(?<![A-Za-z0-9_])(?:(?:hf_|gh[pousr]_|npm_|[rsp]k_live_|A[KS]IA|sk-(?:[a-z]{2,10}-){0,2})(?=[A-Za-z]{0,255}[0-9])"
    r"[A-Za-z0-9]{12,255}|(?:github_pat_|glpat-|xox[abeoprs]-|AIza|pypi-)(?=[A-Za-z_-]{0,255}[0-9])[A-Za-z0-9_-]{12,255})"
)
"""Matches keys by their first characters.

It matches more texts than `key_patterns.API_KEY`, which is for training data, where each mistake would remove text.
"""
JSON_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*"')
NUMBER = re.compile(r"[+-]?[0-9.]+(e-?\d+)?")
PATH_START = re.compile(r"~?/|\.{1,2}/|[A-Za-z]:[\\/]")
BEARER = re.compile(r"(?<=[Bb]earer )(?=\S{0,255}[0-9])[A-Za-z0-9_+/=.~-]{8,}")
FORMS = (API_KEY, KEY_FORM, JWT, PRIVATE_KEY, BEARER)

_values: dict[str, str] = {}
"""The secrets of this process: names of environment variables, keyed by the secret values that they hold."""
_reading = threading.local()


class Interpolated(str):
    """A string in a config that names environment variables in place of their values, such as `${oc.env:TOKEN}`."""

    __slots__ = ()


def looks_like_secret(name: str, value: str) -> bool:
    """Whether the name and the value of a setting or environment variable suggest that the value is a secret."""
    if NAMED.search(name) or name.startswith(VARIABLE_PREFIX):
        return len(value) >= MIN_CHARACTERS
    return bool(OFTEN_NAMED.search(name)) and _is_coded(value)


def _is_coded(value: str) -> bool:
    """Whether a value mixes letters and digits like an access key; for a name with a number (`item_17`), `False`."""
    is_numbered = re.fullmatch(r"[A-Za-z]{4,}[-_.]\w{1,4}", value) is not None
    return (
        len(value) >= MIN_UNNAMED_CHARACTERS
        and not is_numbered
        and bool(re.fullmatch(r"(?=.*[0-9])(?=.*[A-Za-z])[\w+=.~!@#$%^&*:-]+", value))
    )


def find_forms(text: str) -> list[str]:
    """Return the substrings of a text that look like an API key, a token, or the password in a URL."""
    found = [match.group() for pattern in FORMS for match in pattern.finditer(text)]
    return found + [match["value"] for match in URL_PASSWORD.finditer(text) if not match["value"].startswith("${")]


def remember(value: str, variable: str) -> None:
    """Mask a secret value in all later output and files, unless it consists of white space.

    Args:
        value: the secret value.
        variable: name of the environment variable that holds it.
    """
    if value.strip() and _values.get(value) is None:
        _values[value] = variable
        _pattern.cache_clear()


def remember_environment() -> None:
    """Mask, in all later output and files, the values of all environment variables whose names suggest secrets."""
    for variable, value in os.environ.items():
        if looks_like_secret(variable, value) and not _is_ordinary(variable, value):
            remember(value, variable)


def forget_all() -> None:
    """Forget all known secrets, which earlier commands in this process have remembered."""
    _values.clear()
    _pattern.cache_clear()


def variable_for(value: str, key: str) -> str:
    """Return the name of an environment variable that holds `value`; if there is none, set a new variable.

    Args:
        value: the secret value.
        key: config key that has this value; the name of a new variable is made from it.
    """
    held = [name for name, held in os.environ.items() if held == value and not ORDINARY_VARIABLE.match(name)]
    name = VARIABLE_PREFIX + re.sub(r"\W+", "_", key, flags=re.ASCII).strip("_").upper()
    number = 1
    while not held and os.environ.get(name, value) != value:
        number += 1
        name = f"{re.sub(r'_[0-9]+$', '', name)}_{number}"
    if not held:
        os.environ[name] = value
    variable = min(held, default=name)
    remember(value, variable)
    return variable


def note_reading(variable: str, value: str) -> None:
    """Register that a config reads an environment variable; its value is masked in output if it may be a secret.

    A variable that clearly holds no secret, such as `HOME`, is ignored. For any other variable, each surrounding
    `with collect_readings() as readings:` block gets the entry `readings[value] = variable`.
    """
    if _is_ordinary(variable, value):
        return
    length = MIN_LINE if re.fullmatch(r"[A-Za-z_]+", value) else MIN_UNNAMED_CHARACTERS
    is_code = len(value) >= length and not re.search(r"[\s/]", value)
    if looks_like_secret(variable, value) or find_forms(value) or is_code:
        remember(value, variable)
    for readings in getattr(_reading, "open", []):
        readings[value] = variable


def _is_ordinary(variable: str, value: str) -> bool:
    """Whether an environment variable clearly holds no secret.

    Its name shows this, such as `HOME`, or its value is a number, a path or a very short text.
    """
    if find_forms(value):
        return False
    if len(value) < MIN_CHARACTERS or ORDINARY_VARIABLE.match(variable):
        return True
    is_named = NAMED.search(variable) is not None or variable.startswith(VARIABLE_PREFIX)
    if PATH_START.match(value) and (not is_named or os.path.exists(os.path.expanduser(value))):
        return True
    return not is_named and NUMBER.fullmatch(value) is not None


@contextlib.contextmanager
def collect_readings() -> Iterator[dict[str, str]]:
    """Collect the environment variables that configs read in the `with` block.

    Yields:
        A dictionary from the value of a variable to its name, which is filled while the block runs. Variables that
        clearly hold no secret are left out.
    """
    readings: dict[str, str] = {}
    _reading.open = [*getattr(_reading, "open", []), readings]
    try:
        yield readings
    finally:
        _reading.open = [one for one in _reading.open if one is not readings]


def contained(text: str) -> Mapping[str, str]:
    """Return the known secrets that a text contains, as a dictionary from secret value to environment variable."""
    return {value: variable for value, variable in list(_values.items()) if value in text}


def hide(text: str) -> str:
    """Replace each known secret in a text by `<secret>`, even where it is escaped as in JSON, Python or a URL."""
    pattern = _pattern() if _values else None
    return text if pattern is None else pattern.sub(HIDDEN, text)


def hide_in_json(text: str) -> str:
    """Replace each known secret in the strings of a JSON text by `<secret>`; outside strings, nothing changes."""
    return JSON_STRING.sub(lambda match: hide(match.group()), text) if _values else text


def hide_forms(text: str) -> str:
    """Replace each known secret in a text by `<secret>`, and everything else that looks like a key or a password.

    Use it only for messages. In data it could also replace ordinary text.
    """
    text = hide(text)
    for pattern in FORMS:
        text = pattern.sub(HIDDEN, text)
    return URL_PASSWORD.sub(lambda match: match["before"] + HIDDEN, text)


@functools.lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    spellings = {spelling for value in list(_values) for spelling in _spellings(value)}
    return re.compile("|".join(map(_part, sorted(spellings, key=len, reverse=True))))


def _part(spelling: str) -> str:
    """Return a regular expression that matches one spelling of a secret, for example its text escaped for JSON.

    A secret that is a number does not match inside a longer number.
    """
    escaped = re.escape(spelling)
    return rf"(?<![\d.]){escaped}(?![\d.]*\d)" if NUMBER.fullmatch(spelling) else escaped


def _spellings(value: str) -> Iterator[str]:
    yield value
    for text in (value, *(line.strip() for line in value.splitlines() if len(line.strip()) >= MIN_LINE)):
        yield text
        yield json.dumps(text)[1:-1]
        yield json.dumps(text, ensure_ascii=False)[1:-1]
        yield repr(text)[1:-1]
        yield quote(text, safe="")
        yield " ".join(text.split())

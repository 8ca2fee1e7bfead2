"""Regular expressions for access keys, tokens and passwords, and tests of whether a text may contain one."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter

_START = r"(?<![A-Za-z0-9_])"
_END = r"(?![A-Za-z0-9_])"

API_KEYS: dict[str, str] = {
    # AWS, by the prefixes of its unique identifiers
    **dict.fromkeys(("AKIA", "ASIA", "AIDA", "AROA", "ABIA", "ACCA"), r"(?:AKIA|ASIA|AIDA|AROA|ABIA|ACCA)[A-Z0-9]{16}"),
    "gh": r"gh[pousr]_[A-Za-z0-9]{36,255}",  # GitHub
    "github_pat_": r"github_pat_[A-Za-z0-9_]{50,255}",
    "glpat-": r"glpat-[A-Za-z0-9_-]{20,64}",  # GitLab
    # OpenAI, Anthropic
    "sk-": r"sk-(?:[a-z]{2,10}-){0,2}(?=[A-Za-z_-]{0,99}[0-9])(?=[a-z0-9_-]{0,99}[A-Z])[A-Za-z0-9_-]{20,255}",
    "xox": r"xox[abeoprs]-[A-Za-z0-9-]{10,255}",  # Slack
    "hooks.slack.com": r"https://hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9+/]{20,100}",
    "AIza": r"AIza[A-Za-z0-9_-]{35}",  # Google
    "GOCSPX-": r"GOCSPX-[A-Za-z0-9_-]{28}",
    "ya29.": r"ya29\.[A-Za-z0-9_-]{20,1000}",
    "LTAI": r"LTAI[A-Za-z0-9]{12,26}",  # Alibaba cloud
    "AKID": r"AKID[A-Za-z0-9]{32}",  # Tencent cloud
    "hf_": r"hf_[A-Za-z0-9]{30,64}",  # Hugging Face
    "_live_": r"[rsp]k_live_[A-Za-z0-9]{16,255}",  # Stripe
    "npm_": r"npm_[A-Za-z0-9]{36}",
    "pypi-": r"pypi-[A-Za-z0-9_-]{50,1000}",
    "SG.": r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",  # SendGrid
    ":AA": r"[0-9]{8,10}:AA[A-Za-z0-9_-]{33}",  # Telegram
}
"""Regular expressions for access keys, keyed by a part of the access key that is searched first, since this is fast."""
API_KEY = re.compile(rf"{_START}(?:{'|'.join(dict.fromkeys(API_KEYS.values()))}){_END}")

PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:[^-]*+(?:-(?!----)[^-]*+)*-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
    r"|(?:(?:\s|\\[nr])*[A-Za-z0-9+/=]{16,}+)+)"
)
"""Matches a private key in PEM or OpenPGP format; if the last line is missing, it matches the header and the key."""

JWT = re.compile(rf"{_START}eyJ[A-Za-z0-9_-]{{8,}}+\.eyJ[A-Za-z0-9_-]{{8,}}+\.[A-Za-z0-9_-]{{8,}}+")
"""Matches a JSON web token (RFC 7519): three base64 parts, the first two of which are JSON objects."""

NAMES = (
    r"api[_ -]?key|apikey|secret(?:[_ -]?(?:access[_ -]?)?key)?|access[_ -]?(?:key|token)|auth[_ -]?token|token|"
    r"passw(?:or)?d|passphrase|pwd|client[_ -]?secret|private[_ -]?key|account[_ -]?key|credential|bearer|"
    r"密码|密钥|口令|令牌|mot de passe|clé secrète"
)
SECRET = re.compile(
    rf"(?P<name>{NAMES})"
    r"(?P<is>[\"'`]?(?: ?(?::=|=>|[:=：]|\bis\b|是|为)| (?=[A-Za-z0-9]{20}))\s{0,3}(?:Bearer )?[\"'`]?)"
    r"(?P<value>[A-Za-z0-9_+/=.~!@#$%^&*-]{16,200}+)(?![(\[])",
    re.IGNORECASE,
)
"""Matches the name of a secret, followed by an assignment (a sign or a word) and the secret's value."""
LONG = re.compile(r"[A-Za-z0-9_+/=.~!@#$%^&*-]{16}")
HINTS = ("key", "secret", "token", "pass", "pwd", "credential", "bearer", "密", "口令", "令牌", "clé")
URL_PASSWORD = re.compile(
    r"(?P<before>[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"'<>]{0,100}:)(?P<value>[^\s/@\"'<>]{3,200})(?=@)"
)
"""Matches a password in a URL (RFC 3986)."""
PLACEHOLDER_VALUE = re.compile(
    r"pass(?:w(?:or)?d)?|pwd|secret|your|my_?|xxx|\.\.\.|\*\*\*|example|changeme|placeholder|dummy|^[$%{<\[(]|foo|token$",
    re.IGNORECASE,
)
"""Matches a value that is a placeholder for a secret."""
EXAMPLE_KEY = re.compile(r"EXAMPLE|example|[xX]{4}|your|YOUR")


def might_have_api_key(text: str) -> bool:
    """Whether the regular expression `API_KEY` may match in a text; if not, the slower search can be omitted."""
    return any(part in text for part in API_KEYS)


def api_key(match: re.Match[str], leave_examples: bool) -> str | None:
    """Return the text that replaces a matched access key: an empty text, or `None` to keep the key.

    If `leave_examples` is true, a key is kept that contains a word such as EXAMPLE, which shows that it is not real.
    """
    return None if leave_examples and EXAMPLE_KEY.search(match.group()) else ""


def might_have_secret(text: str) -> bool:
    """Whether the regular expression `SECRET` may match in a text; if not, the slower search can be omitted."""
    return LONG.search(text) is not None and any(hint in lower for lower in (text.lower(),) for hint in HINTS)


CHARACTERS_PER_CHANGE = 5
"""A value counts as random only if it changes between digits, upper case and lower case this often, on average."""


def entropy(text: str) -> float:
    """Compute the Shannon entropy of a text's characters, in bits per character."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def is_random(value: str, min_entropy: float) -> bool:
    """Whether a value looks random, as a secret does, and is not a placeholder.

    A random value has letters and digits. On average, it changes at least once in 5 characters between digits, upper
    case and lower case. Its entropy is at least `min_entropy`.

    Args:
        value: the value that follows the name of a secret.
        min_entropy: smallest entropy in bits per character; 32 random hexadecimal digits have about 3.6, and 20 random
            letters and digits about 4.
    """
    if PLACEHOLDER_VALUE.search(value) or not any(map(str.isdigit, value)) or not any(map(str.isalpha, value)):
        return False
    kinds = ["digit" if sign.isdigit() else "upper" if sign.isupper() else "lower" for sign in value if sign.isalnum()]
    changes = sum(first != second for first, second in itertools.pairwise(kinds))
    return changes * CHARACTERS_PER_CHANGE >= len(value) and entropy(value) >= min_entropy

"""Patterns of personal data: e-mail and IP addresses, and numbers of phones, cards and bank accounts."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

Rest = Callable[[re.Match[str], bool], str | None]
"""A function that decides whether a match of a pattern is replaced by a placeholder.

Its arguments are the match, and whether well-known examples are left unchanged. It returns `None` if the match is kept.
Otherwise, it returns the text at the end of the match that remains after the placeholder, usually `""`.
"""

# only ASCII characters continue a word, so a number beside Chinese characters is found
_START = r"(?<![A-Za-z0-9_])"
_END = r"(?![A-Za-z0-9_])"

EMAIL = re.compile(
    r"(?<![A-Za-z0-9_\u00c0-\u024f.%+@-])(?P<local>[A-Za-z0-9_\u00c0-\u024f.%+-]{1,64}+)@"
    r"(?P<domain>(?:[A-Za-z0-9\u00c0-\u024f](?:[A-Za-z0-9\u00c0-\u024f-]{0,62}+)\.)+(?P<last>[A-Za-z]{2,24}))"
    r"(?![A-Za-z0-9(_-]|\.[A-Za-z0-9]|@)"
)
EXAMPLE_DOMAIN = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|org|net))?|test|invalid|localhost|local)$", re.IGNORECASE)
FILE_ENDS = frozenset("png jpg jpeg gif svg webp bmp css js json html".split())  # noqa: SIM905
LOCAL_ACCOUNTS = frozenset({"git", "svn", "hg"})

_BYTE = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
IP_ADDRESSES = (
    (re.compile(rf"(?<![A-Za-z0-9_.])(?:{_BYTE}\.){{3}}{_BYTE}(?![A-Za-z0-9_]|\.\d)"), re.compile(r"\.\d{1,3}\.\d")),
    (
        re.compile(r"(?<![A-Za-z0-9_:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![A-Za-z0-9_:])"),
        re.compile(":[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]"),
    ),
)
"""Patterns of IP addresses, versions 4 and 6, each with a faster pattern that is searched first."""
VERSION_BEFORE = re.compile(
    r"(?:version|versions|release|ver\.?|\bv|build|section|[=<>~^]=?|版本|§) *[:：]? *v?$", re.IGNORECASE
)
MAX_VERSION_PART = 31

PHONE = re.compile(
    "|".join(
        [
            r"(?<![A-Za-z0-9_+])\+[1-9](?:[ .-]?\(0\))?(?:[ .-]?\(?\d\)?){7,14}(?![\d])",  # international
            rf"{_START}(?<![.,])(?:\+?1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d(?P<us>[.-]))[2-9]\d\d(?(us)(?P=us)|[ .-])"
            rf"\d{{4}}{_END}(?![.,-]\d)",  # North America
            rf"{_START}(?<![.,+-])(?:00 ?33 ?(?:\(0\) ?)?|0)[1-9](?P<fr>[ .-])\d\d(?:(?P=fr)\d\d){{3}}{_END}"
            r"(?![.,-]\d)",
            rf"{_START}(?<![.,+-])0[67]\d{{8}}{_END}(?![.,-]\d)",  # French
            rf"{_START}(?<![.,+/-])(?:(?:00)?86[ -]?)?1[3-9]\d(?P<cn>[ -]?)\d{{4}}(?P=cn)\d{{4}}{_END}(?![.,]\d|-\d)",
            rf"{_START}(?<![.,+/-])0(?:10|2\d|[3-9]\d\d)-[2-8]\d{{6,7}}{_END}(?![.,-]\d)",  # Chinese
        ]
    )
)
EXAMPLE_PHONE = re.compile(r"(?:1?[2-9]\d\d55501\d\d|(?:0|0?0?33)(?:19900|26191|35301|46571|53649|63998)\d{4})")
"""Matches numbers that are reserved for fiction in North America (NANPA) and France (ARCEP)."""
NUMBER_LIKE = re.compile(r"\d{6}0{5}$")  # round numbers such as fifteen billion

CARD = re.compile(
    rf"{_START}(?<![.,+-])(?:\d{{13,19}}|\d{{4}}(?P<by>[ -])\d{{4}}(?P=by)\d{{4}}(?P=by)\d{{1,7}}|"
    rf"3\d{{3}}(?P<of>[ -])\d{{6}}(?P=of)\d{{4,5}}){_END}(?![.,-]\d)"
)
ISSUERS = re.compile(
    r"(?:4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[3-6]|27[01]|22[3-9])\d*|2720\d{12}|222[1-9]\d{12}|3[47]\d{13}|"
    r"(?:6011|64[4-9]|65)\d*|62\d{14,17}|35(?:2[89]|[3-8]\d)\d{12}|3(?:0[0-5]|[689])\d{11,16})"
)
EXAMPLE_CARDS = frozenset(
    """
    4111111111111111 4242424242424242 4012888888881881 4000056655665556 4222222222222 5555555555554444 5105105105105100
    2223003122003222 378282246310005 371449635398431 6011111111111117 6011000990139424 30569309025904 38520000023237
    3530111333300000 3566002020360505
    """.split()  # noqa: SIM905
)

IBAN = re.compile(rf"{_START}[A-Z]{{2}}\d\d[ ]?(?:[A-Z0-9][ ]?){{11,32}}")
# fmt: off
IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28,
    "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20,
    "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25,
    "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}
# fmt: on
"""Length of an IBAN by country (the registry of ISO 13616)."""
EXAMPLE_IBANS = frozenset({"GB82WEST12345698765432", "DE89370400440532013000", "FR1420041010050500013M02606"})


def email(match: re.Match[str], leave_examples: bool) -> str | None:
    """Return `""` to replace the whole match if it is an e-mail address to redact; return `None` to keep the match.

    Matches such as `git@github.com` are kept. Addresses at example.com and similar domains are kept if
    `leave_examples` is true.
    """
    domain, last = match["domain"], match["last"].lower()
    if match["local"].lower() in LOCAL_ACCOUNTS or last in FILE_ENDS or match["local"].endswith("."):
        return None
    return None if leave_examples and EXAMPLE_DOMAIN.search(domain) else ""


def ip_address(match: re.Match[str], leave_examples: bool) -> str | None:
    """Return `""` to replace the whole match if it is an IP address (version 4 or 6); return `None` to keep the match.

    Four numbers below 32 (1.2.3.4, 8.8.8.8) are considered a version or the number of a section, although one in four
    thousand addresses has only such numbers. Four numbers after a word such as "version" or a sign such as == are
    considered a version too. Versions are kept, and so are addresses that are not global (10.0.0.1, 127.0.0.1,
    192.0.2.7, ::1) if `leave_examples` is true.
    """
    text = match.group()
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if address.version == 4:
        before = match.string[max(0, match.start() - 20) : match.start()]
        if max(address.packed) <= MAX_VERSION_PART or VERSION_BEFORE.search(before):
            return None
    elif sum(1 for group in text.split(":") if group) < 3:  # `a::b` is usually C++
        return None
    return None if leave_examples and not address.is_global else ""


def phone(match: re.Match[str], leave_examples: bool) -> str | None:
    """Return `""` to replace the whole match if it is a phone number to redact; return `None` to keep the match.

    The number may be international, North American, French or Chinese (mobile or fixed). Numbers reserved for fiction
    are kept if `leave_examples` is true.
    """
    digits = re.sub(r"\D", "", match.group())
    if not 8 <= len(digits) <= 17 or NUMBER_LIKE.search(digits) or digits == "0123456789":
        return None
    return None if leave_examples and EXAMPLE_PHONE.fullmatch(digits) else ""


def payment_card(match: re.Match[str], leave_examples: bool) -> str | None:
    """Return `""` to replace the whole match if it is a payment card number; return `None` to keep the match.

    A card number begins with the number of a known issuer and ends with the right check digit (ISO/IEC 7812, Luhn).
    Well-known test numbers are kept if `leave_examples` is true.
    """
    digits = re.sub(r"\D", "", match.group())
    if not ISSUERS.fullmatch(digits) or not has_luhn_digit(digits):
        return None
    return None if leave_examples and digits in EXAMPLE_CARDS else ""


def has_luhn_digit(digits: str) -> bool:
    """Whether the last digit is the Luhn check digit of the other digits."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


def iban(match: re.Match[str], leave_examples: bool) -> str | None:
    """Return the part of a match that follows the IBAN at its start; `None` if the match does not begin with an IBAN.

    The IBAN is redacted and the returned part stays; with `None`, the whole match stays. An IBAN has the length
    prescribed for its country and the right check digits (ISO 13616). Well-known examples are kept if `leave_examples`
    is true.
    """
    text = match.group()
    positions = [position for position, character in enumerate(text) if character != " "]
    length = IBAN_LENGTHS.get(text[:2])
    if length is None or len(positions) < length:
        return None
    stop = positions[length - 1] + 1
    rest = match.string[match.start() + stop :][:1]
    number = text[:stop].replace(" ", "")
    checked = int("".join(str(int(sign, 36)) for sign in number[4:] + number[:4]))
    if (rest.isascii() and rest.isalnum()) or checked % 97 != 1:
        return None
    return None if leave_examples and number in EXAMPLE_IBANS else text[stop:]

"""Replacement of personal data and secrets with placeholders that name the kind of data, such as `<EMAIL>`."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from instruct_lab import key_patterns
from instruct_lab.config import LimitedExpression, Regex, component
from instruct_lab.data import Conversation
from instruct_lab.errors import Refusal
from instruct_lab.preprocessing.base import Context, Step
from instruct_lab.preprocessing.privacy import personal_data
from instruct_lab.preprocessing.text.code_spans import split_code
from instruct_lab.preprocessing.text.normalize import Roles, every_role


@dataclasses.dataclass(frozen=True, slots=True)
class Finder:
    """The functions that find and replace one kind of personal data or secret.

    Args:
        might_match: function that quickly checks whether a text may contain this kind of data.
        redact: function that returns a text with the matches replaced, and adds their number to a counter of kinds.
    """

    might_match: Callable[[str], object]
    redact: Callable[[str, Counter[str]], str]


DIGITS = re.compile(r"\d[\d ().:-]{5}")
KIND = re.compile(r"[A-Z][A-Z0-9_]{0,40}")
MAX_EXCERPT = 60


@component
class Redact(Step):
    """Replaces e-mail and IP addresses, phone, card and account numbers, keys and passwords with placeholders.

    The rules find only data with a fixed form, not names of people or postal addresses. In fenced blocks and inline
    code, only secrets are redacted, unless `code` is set otherwise. Text that only resembles such data is kept:
    `git@github.com`, `@pytest`, `logo@2x.png`, versions such as 1.2.3.4 (four numbers below 32, or after a word such as
    "version"), numbers with wrong check digits, and well-known examples if `leave_examples` is true. The audit counts
    rows and matches by kind and shows the text around a placeholder, never the replaced text. The other columns of a
    row (its metadata) are not redacted, so leave out columns with personal data.
    """

    row_by_row: ClassVar[bool] = True

    of_roles: Roles = Field(default_factory=every_role)  # roles to redact; assistant: also references, rejected answers
    policy: Literal["replace", "report", "drop"] = "replace"  # report: count only; drop: drop the row
    email: bool = True  # e-mail addresses: <EMAIL>
    phone: bool = True  # international, North American, French and Chinese (mobile and fixed) numbers: <PHONE>
    ip_address: bool = True  # IP addresses, version 4 and 6: <IP_ADDRESS>
    payment_card: bool = True  # card numbers, recognised by issuer and check digit: <PAYMENT_CARD>
    iban: bool = True  # account numbers, recognised by country and check digits: <IBAN>
    api_key: bool = True  # keys of known form (AWS, GitHub, OpenAI, Slack, Google, Alibaba and others): <API_KEY>
    private_key: bool = True  # private keys in PEM or OpenPGP armour: <PRIVATE_KEY>
    jwt: bool = True  # JSON web tokens: <JWT>
    secret: bool = True  # random values after names such as password or token, passwords in URLs: <SECRET>
    min_entropy: Annotated[float, Field(ge=0, le=6)] = 3.2  # smallest entropy of a random value, in bits per character
    extra: dict[str, Regex] = Field(default_factory=dict)  # further kinds: name and regular expression
    code: Literal["secrets", "leave", "all"] = "secrets"  # kinds to redact in code
    leave_examples: bool = True  # example.com, private and documentation addresses, 555-01xx, test cards, ...EXAMPLE
    placeholder: str = "<{kind}>"  # the replacement; {kind} is the kind's name

    def __post_init__(self) -> None:
        """Refuse a placeholder without `{kind}`, a step with every kind switched off, and invalid entries of `extra`.

        The name of a kind in `extra` must be in capitals, and its expression must not match empty text.
        """
        if "{kind}" not in self.placeholder:
            raise Refusal("placeholder", "it must contain {kind}", "<{kind}>")
        for kind, pattern in self.extra.items():
            if not KIND.fullmatch(kind):
                raise Refusal(
                    "extra", f"{kind!r}: the name of a kind is in capitals, such as EMPLOYEE_NUMBER", kind.upper()
                )
            if LimitedExpression(pattern, where=f"extra.{kind}").search("") is not None:
                raise Refusal("extra", f"{kind}: {pattern!r} matches empty text")
        if not self._finders(with_personal_data=True):
            raise Refusal("email", "every kind is switched off, so nothing would be redacted")

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the conversations; `policy` says what happens to those with personal data or secrets.

        They are yielded with placeholders (`replace`), yielded unchanged (`report`) or dropped (`drop`). The audit
        counts the rows with each combination of kinds of data, and the matches of each kind.
        """
        everywhere = self._finders(with_personal_data=True)
        in_code = [] if self.code == "leave" else self._finders(with_personal_data=self.code == "all")
        of_roles, finds = frozenset[str](self.of_roles), Counter[str]()
        for conversation in conversations:
            found = Counter[str]()

            def change(role: str, text: str, found: Counter[str] = found) -> str:
                return _redact(text, everywhere, in_code, found) if role in of_roles else text

            redacted = conversation.map_text(change)
            if not found:
                yield conversation
                continue
            finds += found
            kinds = ", ".join(sorted(found))
            excerpt = _excerpt(redacted, [self._placeholder(kind) for kind in found])
            action = {"replace": "changed", "report": "reported", "drop": "dropped"}[self.policy]
            context.audit.record(context.stage, action, kinds, None, excerpt, row=conversation)
            if self.policy != "drop":
                yield redacted if self.policy == "replace" else conversation
        if finds:
            context.audit.add(context.stage, finds=finds)

    def _finders(self, with_personal_data: bool) -> list[Finder]:
        """List the finders to use, in order: first those of secrets, because these may contain other kinds of data.

        Args:
            with_personal_data: whether to include the finders of personal data and of the kinds in `extra`.
        """
        finders: list[Finder] = []
        if self.private_key:
            finders.append(self._finder("PRIVATE_KEY", key_patterns.PRIVATE_KEY, lambda text: "PRIVATE KEY" in text))
        if self.jwt:
            finders.append(self._finder("JWT", key_patterns.JWT, lambda text: "eyJ" in text))
        if self.api_key:
            finders.append(
                self._finder("API_KEY", key_patterns.API_KEY, key_patterns.might_have_api_key, key_patterns.api_key)
            )
        if self.secret:
            finders += self._secret_finders()
        if with_personal_data:
            for kind, pattern in self.extra.items():
                finders.append(self._finder(kind, LimitedExpression(pattern, where=f"extra.{kind}")))
            finders += self._personal_finders()
        return finders

    def _personal_finders(self) -> Iterator[Finder]:
        if self.email:
            yield self._finder("EMAIL", personal_data.EMAIL, lambda text: "@" in text, personal_data.email)
        if self.iban:
            yield self._finder("IBAN", personal_data.IBAN, _has_digits, personal_data.iban)
        if self.payment_card:
            yield self._finder("PAYMENT_CARD", personal_data.CARD, _has_digits, personal_data.payment_card)
        if self.ip_address:
            for pattern, hint in personal_data.IP_ADDRESSES:
                yield self._finder("IP_ADDRESS", pattern, hint.search, personal_data.ip_address)
        if self.phone:
            yield self._finder("PHONE", personal_data.PHONE, _has_digits, personal_data.phone)

    def _finder(
        self,
        kind: str,
        pattern: re.Pattern[str] | LimitedExpression,
        might_match: Callable[[str], object] = bool,
        rest: personal_data.Rest = lambda match, leave_examples: "",
    ) -> Finder:
        """Build the finder of a kind of data.

        Args:
            kind: name of the kind, for the placeholder and the audit.
            pattern: pattern of the data.
            might_match: function that quickly checks whether a text may contain this kind of data.
            rest: function that decides whether a match is replaced: it returns `None` to keep the match, or else the
                text that remains after the placeholder; by default, every match is replaced completely.
        """
        placeholder, leave_examples = self._placeholder(kind), self.leave_examples

        def redact(text: str, found: Counter[str]) -> str:
            def replacement(match: re.Match[str]) -> str:
                end = rest(match, leave_examples)
                if end is None:
                    return match.group()
                found[kind] += 1
                return placeholder + end

            return pattern.sub(replacement, text)

        return Finder(might_match, redact)

    def _secret_finders(self) -> Iterator[Finder]:
        """Yield one finder for random values after names such as `password`, and one for passwords in URLs."""
        placeholder = self._placeholder("SECRET")

        def redact_named(text: str, found: Counter[str]) -> str:
            def replacement(match: re.Match[str]) -> str:
                if not key_patterns.is_random(match["value"], self.min_entropy):
                    return match.group()
                found["SECRET"] += 1
                return match["name"] + match["is"] + placeholder

            return key_patterns.SECRET.sub(replacement, text)

        def redact_url(text: str, found: Counter[str]) -> str:
            def replacement(match: re.Match[str]) -> str:
                if key_patterns.PLACEHOLDER_VALUE.search(match["value"]):
                    return match.group()
                found["SECRET"] += 1
                return match["before"] + placeholder

            return key_patterns.URL_PASSWORD.sub(replacement, text)

        yield Finder(key_patterns.might_have_secret, redact_named)
        yield Finder(lambda text: "://" in text and "@" in text, redact_url)

    def _placeholder(self, kind: str) -> str:
        return self.placeholder.replace("{kind}", kind)


def _redact(text: str, everywhere: Sequence[Finder], in_code: Sequence[Finder], found: Counter[str]) -> str:
    in_prose = [finder for finder in everywhere if finder.might_match(text)]
    if not in_prose:
        return text
    in_code = [finder for finder in in_code if finder.might_match(text)]
    parts = []
    for is_code, piece in split_code(text):
        for finder in in_code if is_code else in_prose:
            piece = finder.redact(piece, found)
        parts.append(piece)
    return "".join(parts)


def _has_digits(text: str) -> bool:
    return DIGITS.search(text) is not None


def _excerpt(conversation: Conversation, placeholders: Sequence[str]) -> str:
    """Return a redacted conversation's text around the first occurrence of each placeholder."""
    text = "\n".join((str(conversation), *conversation.references))
    starts = sorted(start for placeholder in placeholders if (start := text.find(placeholder)) >= 0)
    around = (text[max(0, start - MAX_EXCERPT) : start + MAX_EXCERPT] for start in starts)
    return " … ".join(around)

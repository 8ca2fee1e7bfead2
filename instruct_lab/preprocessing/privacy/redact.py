"""Personal data and secrets replaced by placeholders that say what stood there."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation
from instruct_lab.errors import Refusal
from instruct_lab.preprocessing.base import Context, Step
from instruct_lab.preprocessing.privacy import personal_data, secrets
from instruct_lab.preprocessing.text.code_spans import pieces
from instruct_lab.preprocessing.text.normalize import Roles, every_role


@dataclasses.dataclass(frozen=True, slots=True)
class Finder:
    """What looks for a kind: a quick look at a whole text, and what redacts a piece of it and counts by kind."""

    might_hold: Callable[[str], object]
    redacted: Callable[[str, Counter[str]], str]


DIGITS = re.compile(r"\d[\d ().:-]{5}")
KIND = re.compile(r"[A-Z][A-Z0-9_]{0,40}")
MAX_EXCERPT = 60


@component
class Redact(Step):
    """Replaces e-mail, phone, IP, card and account numbers, keys and passwords by typed placeholders such as <EMAIL>.

    Rules, and so only what has a form; names of people and postal addresses have none. Fenced blocks and inline code
    keep everything but secrets (`code`). What looks alike stays: `git@github.com`, `@pytest`, `logo@2x.png`, versions
    such as 1.2.3.4 (four numbers under 32, or after a word such as "version"), numbers whose check digits are wrong,
    and with `leave_examples` what stands for nobody. The audit counts rows and finds by kind and shows what is around
    a placeholder, never what it replaced. Metadata is not looked at: leave out columns that hold personal data.
    """

    row_by_row: ClassVar[bool] = True

    of_roles: Roles = Field(default_factory=every_role)  # whose texts; references and rejected answers: assistant
    policy: Literal["replace", "report", "drop"] = "replace"  # report counts and changes nothing; drop drops the row
    email: bool = True  # mail addresses: <EMAIL>
    phone: bool = True  # international, North American, French and Chinese (mobile and fixed) numbers: <PHONE>
    ip_address: bool = True  # version 4 and 6: <IP_ADDRESS>
    payment_card: bool = True  # by issuer and check digit: <PAYMENT_CARD>
    iban: bool = True  # by country and check digits: <IBAN>
    api_key: bool = True  # keys of known form (AWS, GitHub, OpenAI, Slack, Google, Alibaba and others): <API_KEY>
    private_key: bool = True  # blocks in PEM or OpenPGP armour: <PRIVATE_KEY>
    jwt: bool = True  # JSON web tokens: <JWT>
    secret: bool = True  # random values given to a name such as password or token, passwords in URLs: <SECRET>
    min_entropy: Annotated[float, Field(ge=0, le=6)] = 3.2  # of such a value, in bits a character
    extra: dict[str, str] = Field(default_factory=dict)  # kinds of your own: name to regular expression
    code: Literal["secrets", "leave", "all"] = "secrets"  # what is redacted in code
    leave_examples: bool = True  # example.com, private and documentation addresses, 555-01xx, test cards, ...EXAMPLE
    placeholder: str = "<{kind}>"  # what is written; {kind} is the kind's name

    def __post_init__(self) -> None:
        """Refuse expressions that are none, names that no placeholder can have, and a step that finds nothing."""
        if "{kind}" not in self.placeholder:
            raise Refusal("placeholder", "{kind} must stand in it", "<{kind}>")
        for kind, pattern in self.extra.items():
            if not KIND.fullmatch(kind):
                raise Refusal("extra", f"{kind!r}: a kind is named in capitals, such as EMPLOYEE_NUMBER", kind.upper())
            try:
                matches_nothing = re.compile(pattern).search("") is not None
            except re.error as error:
                raise Refusal("extra", f"{kind}: {pattern!r} is no regular expression: {error}") from error
            if matches_nothing:
                raise Refusal("extra", f"{kind}: {pattern!r} matches where there is nothing")
        if not self._finders(with_personal_data=True):
            raise Refusal("email", "every kind is switched off, so there is nothing to look for")

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield redacted conversations; counts rows by the kinds found in them, and finds by kind."""
        everywhere = self._finders(with_personal_data=True)
        in_code = [] if self.code == "leave" else self._finders(with_personal_data=self.code == "all")
        of_roles, finds = frozenset[str](self.of_roles), Counter[str]()
        for conversation in conversations:
            found = Counter[str]()

            def change(role: str, text: str, found: Counter[str] = found) -> str:
                return _redacted(text, everywhere, in_code, found) if role in of_roles else text

            redacted = conversation.map_text(change)
            if not found:
                yield conversation
                continue
            finds += found
            kinds = ", ".join(sorted(found))
            shown = _excerpt(redacted, [self._placeholder(kind) for kind in found])
            action = {"replace": "changed", "report": "reported", "drop": "dropped"}[self.policy]
            context.audit.record(context.stage, action, kinds, None, shown)
            if self.policy != "drop":
                yield redacted if self.policy == "replace" else conversation
        if finds:
            context.audit.add(context.stage, finds=finds)

    def _finders(self, with_personal_data: bool) -> list[Finder]:
        """What looks for each kind, secrets first: they are the surest, and hold what looks like the others."""
        finders: list[Finder] = []
        if self.private_key:
            finders.append(self._finder("PRIVATE_KEY", secrets.PRIVATE_KEY, lambda text: "PRIVATE KEY" in text))
        if self.jwt:
            finders.append(self._finder("JWT", secrets.JWT, lambda text: "eyJ" in text))
        if self.api_key:
            finders.append(self._finder("API_KEY", secrets.API_KEY, secrets.might_hold_api_key, secrets.api_key))
        if self.secret:
            finders += self._secrets()
        if with_personal_data:
            finders += [self._finder(kind, re.compile(pattern)) for kind, pattern in self.extra.items()]
            finders += self._personal()
        return finders

    def _personal(self) -> Iterator[Finder]:
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
        pattern: re.Pattern[str],
        might_hold: Callable[[str], object] = bool,
        rest: personal_data.Rest = lambda match, leave_examples: "",
    ) -> Finder:
        """What replaces the matches of a pattern that a closer look confirms, in texts that might hold any."""
        placeholder, leave_examples = self._placeholder(kind), self.leave_examples

        def find(text: str, found: Counter[str]) -> str:
            def replacement(match: re.Match[str]) -> str:
                stays = rest(match, leave_examples)
                if stays is None:
                    return match.group()
                found[kind] += 1
                return placeholder + stays

            return pattern.sub(replacement, text)

        return Finder(might_hold, find)

    def _secrets(self) -> Iterator[Finder]:
        """What replaces random values that are given to a telling name, and passwords in URLs."""
        placeholder = self._placeholder("SECRET")

        def named(text: str, found: Counter[str]) -> str:
            def replacement(match: re.Match[str]) -> str:
                if not secrets.is_random(match["value"], self.min_entropy):
                    return match.group()
                found["SECRET"] += 1
                return match["name"] + match["is"] + placeholder

            return secrets.SECRET.sub(replacement, text)

        def in_url(text: str, found: Counter[str]) -> str:
            def replacement(match: re.Match[str]) -> str:
                if secrets.STAND_IN.search(match["value"]):
                    return match.group()
                found["SECRET"] += 1
                return match["before"] + placeholder

            return secrets.URL_PASSWORD.sub(replacement, text)

        yield Finder(secrets.might_hold_secret, named)
        yield Finder(lambda text: "://" in text and "@" in text, in_url)

    def _placeholder(self, kind: str) -> str:
        return self.placeholder.replace("{kind}", kind)


def _redacted(text: str, everywhere: Sequence[Finder], in_code: Sequence[Finder], found: Counter[str]) -> str:
    in_prose = [finder for finder in everywhere if finder.might_hold(text)]
    if not in_prose:
        return text
    in_code = [finder for finder in in_code if finder.might_hold(text)]
    parts = []
    for is_code, piece in pieces(text):
        for finder in in_code if is_code else in_prose:
            piece = finder.redacted(piece, found)
        parts.append(piece)
    return "".join(parts)


def _has_digits(text: str) -> bool:
    return DIGITS.search(text) is not None


def _excerpt(conversation: Conversation, placeholders: Sequence[str]) -> str:
    """What stands around the first placeholder of each kind, already redacted."""
    text = "\n".join((str(conversation), *conversation.references))
    places = sorted(place for placeholder in placeholders if (place := text.find(placeholder)) >= 0)
    around = (text[max(0, place - MAX_EXCERPT) : place + MAX_EXCERPT] for place in places)
    return " … ".join(around)

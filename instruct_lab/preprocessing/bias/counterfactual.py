"""Counterfactual copies: conversations in which words such as he and she are swapped."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation
from instruct_lab.data.words import HAN, KANA
from instruct_lab.errors import Refusal
from instruct_lab.preprocessing.base import Context, Splits, Step, train_only

FILE = Path(__file__).with_name("counterfactual_pairs.json")
CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]*`)", re.DOTALL)
WORD = re.compile(r"\w+")
Pair = Annotated[list[str], Field(min_length=2, max_length=2)]
PairList = Literal["gender_en", "names_en", "gender_zh"]

NO_NOUN = (
    "and or but nor so yet as if than that because while when where who which is was are were be been am has had have "
    "do does did will would can could should shall may might must not to in on at by for from with about into over "
    "under after before again then there here now today yesterday tomorrow too also a an the this these those his her "
    "its my your our their him it me you us them he she they we i what why how up down out off away back home"
).replace(" ", "|")
"""Words that do not count as nouns, separated by `|`; before them, `her` becomes `him` and `his` becomes `hers`."""
NO_PRONOUN = ("其他", "吉他", "利他", "维他", "他乡", "他国", "他日")
"""Words in which `他` does not mean he; they are never changed."""
BEFORE_NOUN = re.compile(r"\s+(?!(?:" + NO_NOUN + r")\b)[^\W\d_]", re.IGNORECASE)


def gender_lists() -> list[PairList]:
    """Return the names of all lists of word pairs that come with this package."""
    return ["gender_en", "names_en", "gender_zh"]


@component
class Counterfactual(Step):
    """Adds copies of conversations in which paired words are swapped: he and she, father and mother, James and Mary.

    Words are swapped in every message, so a person has the same gender in all messages. Case is kept (`He`, `HE`);
    names are swapped only if capitalised. Code between backticks is unchanged. A copy's id is the row's id followed by
    `suffix`.

    Grammar: `her` becomes `his` before a word that may be a noun or an adjective, otherwise `him`; `his` becomes `her`
    or `hers` by the same rule. Only the next word decides, so some results are wrong (`gave her apples`). Swaps can
    contradict facts (`the Queen's husband`, `he was pregnant`). There is no French list, because articles, adjectives
    and participles would not agree; use `pairs` if that does not matter. Sources: Lu et al., Gender Bias in Neural
    Natural Language Processing, 2018; Zhao et al., Gender Bias in Coreference Resolution, 2018.
    """

    splits: Splits = Field(default_factory=train_only)  # splits that the step processes
    lists: list[PairList] = Field(default_factory=gender_lists)  # packaged lists of pairs
    pairs: list[Pair] = Field(default_factory=list)  # further pairs of words or phrases, swapped both ways
    mode: Literal["add", "replace"] = "add"  # replace: the copy replaces the row and keeps its id
    share: Annotated[float, Field(gt=0, le=1)] = 1.0  # share of the rows to process; selected by a hash of the id
    seed: Annotated[int, Field(ge=0)] = 0  # seed of the selection
    suffix: Annotated[str, Field(min_length=1)] = "-swapped"  # appended to a copy's id

    def __post_init__(self) -> None:
        """Refuse a step without pairs, and a word in two pairs."""
        if not self.lists and not self.pairs:
            raise Refusal("pairs", "is empty, and so is lists: nothing would be swapped")
        seen: set[str] = set()
        for term in (term for pair in self.pairs for term in pair):
            if not any(map(str.isalnum, term)):
                raise Refusal("pairs", f"{term!r} is not a word")
            if term.lower() in seen:
                raise Refusal("pairs", f"{term!r} is in two pairs, so its replacement is ambiguous")
            seen.add(term.lower())

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield each conversation, followed by its copy with swapped words; with `replace`, yield only the copy.

        A conversation has no copy if it contains no word to swap, or if `share` does not select it; it is then yielded
        unchanged.
        """
        swap = self._build_swap()
        for conversation in conversations:
            swapped = (
                conversation.map_text(lambda _, text: swap(text)) if self._is_selected(conversation) else conversation
            )
            if self.mode == "add":
                yield conversation
            if swapped is conversation:
                if self.mode == "replace":
                    yield conversation
            elif self.mode == "replace":
                context.count_changed("words of pairs swapped", conversation, swapped)
                yield swapped
            else:
                swapped = dataclasses.replace(swapped, id=conversation.id + self.suffix)
                context.count_added("copy with words of pairs swapped", conversation, swapped)
                yield swapped

    def _is_selected(self, conversation: Conversation) -> bool:
        if self.share == 1:
            return True
        key = f"{self.seed} {conversation.id or conversation}".encode("utf-8", "surrogatepass")
        value = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
        return value < self.share * 2**64

    def _build_swap(self) -> Callable[[str], str]:
        names: dict[str, str] = {}
        others: dict[str, str] = {}
        own = {term.lower() for pair in self.pairs for term in pair}
        for name in self.lists:
            known = names if name.startswith("names") else others
            for one, other in load_pairs()[name]:
                if one.lower() not in own and other.lower() not in own:  # pairs from the config take precedence
                    known |= {one.lower(): other, other.lower(): one}
        if "gender_zh" in self.lists:
            others |= {word: word for word in NO_PRONOUN}
        for one, other in self.pairs:
            others |= {one.lower(): other, other.lower(): one}
        grammar = "gender_en" in self.lists and own.isdisjoint(("her", "his", "him", "hers"))
        return Swap(others, names, grammar)


@functools.cache
def load_pairs() -> dict[str, list[tuple[str, str]]]:
    """Load the lists of word pairs that come with this package, keyed by the list's name."""
    pairs: dict[str, list[tuple[str, str]]] = json.loads(FILE.read_text(encoding="utf-8"))
    return pairs


class Swap:
    """Swaps words in a text.

    Args:
        terms: replacements of words and phrases, keyed by the word or phrase in lower case.
        names: replacements of names, keyed by the name in lower case; a name is replaced only if it is capitalised.
        grammar: whether to swap English `her`, `his`, `him` and `hers` depending on the next word.
    """

    def __init__(self, terms: dict[str, str], names: dict[str, str], grammar: bool) -> None:
        self._terms, self._names, self._grammar = terms, names, grammar
        unspaced = [term for term in terms if re.search(f"[{HAN}{KANA}]", term)]
        phrases = [term for term in terms if term not in unspaced and not WORD.fullmatch(term)]
        parts = [_any_of(unspaced), rf"(?<!\w){_any_of(phrases)}(?!\w)", rf"[^\W{HAN}{KANA}]+"]
        wanted = [part for part, given in zip(parts, (unspaced, phrases, True), strict=True) if given]
        self._pattern = re.compile("|".join(wanted), re.IGNORECASE)
        single = {term for term in {*terms, *names} if term not in unspaced and term not in phrases}
        self._quick = frozenset(single | ({"her", "his", "him", "hers"} if grammar else set()))
        self._others = re.compile(_any_of([*unspaced, *phrases]), re.IGNORECASE) if unspaced or phrases else None

    def __call__(self, text: str) -> str:
        """Swap the words of a text, except in code between backticks."""
        if self._quick.isdisjoint(WORD.findall(text.lower())) and not (self._others and self._others.search(text)):
            return text
        if "`" not in text:
            return self._pattern.sub(self._replace, text)
        parts = CODE.split(text)
        parts[::2] = [self._pattern.sub(self._replace, part) for part in parts[::2]]
        return "".join(parts)

    def _replace(self, match: re.Match[str]) -> str:
        found = match.group()
        term = found.lower()
        if term in self._terms:
            return match_case(found, self._terms[term])
        if term in self._names and found[0].isupper():
            return match_case(found, self._names[term])
        if self._grammar and term in ("her", "his", "him", "hers"):
            before_noun = BEFORE_NOUN.match(match.string, match.end()) is not None
            masculine = "his" if before_noun else "him"
            feminine = "her" if before_noun else "hers"
            return match_case(found, {"her": masculine, "his": feminine, "him": "her", "hers": "his"}[term])
        return found


def match_case(model: str, text: str) -> str:
    """Return `text` in the same case as `model`: all capitals, capitalised or lower case."""
    if model.isupper() and (len(model) > 1 or len(text) == 1):
        return text.upper()
    if model[0].isupper():
        return text[:1].upper() + text[1:]
    return text if not text[:1].isupper() or text.isupper() else text.lower()


def _any_of(terms: Sequence[str]) -> str:
    return "(?:" + "|".join(re.escape(term) for term in sorted(terms, key=len, reverse=True)) + ")"

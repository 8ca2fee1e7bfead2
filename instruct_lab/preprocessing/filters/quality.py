"""Rules of thumb for texts that are worth learning from."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation, normalize_text
from instruct_lab.errors import Refusal
from instruct_lab.preprocessing.base import Context, Part, Splits, Step, kept, part_text, train_alone
from instruct_lab.preprocessing.filters.length import UNSPACED, words

Share = Annotated[float, Field(ge=0, le=1)] | None
Ratio = Annotated[float, Field(ge=0)] | None
Fewest = Annotated[int, Field(ge=0)]
Most = Annotated[int, Field(ge=1)] | None

LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SYMBOLS = b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
BULLET = re.compile(r"[-*+•‣▪●◦·–—](?=\s|\Z)|[•‣▪●◦]")
ELLIPSIS = ("...", "…", "。。。")
TERMINAL = (*".!?\"'”’»)]:;。！？」』）：；…।؟۔", "```")
SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’»)\]]*+(?=\s|\Z)|[。！？।؟۔]")  # possessive: linear time
LETTER = re.compile(r"[^\W\d_]")
FINISHED_FROM_WORDS = 5
GOPHER_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


class Text:
    """A text that is judged; what rules look at is made once, when the first of them asks.

    Args:
        whole: the text.
    """

    def __init__(self, whole: str) -> None:
        self.whole = whole

    @functools.cached_property
    def words(self) -> list[str]:
        """Its words."""
        return words(self.whole)

    @functools.cached_property
    def lines(self) -> list[str]:
        """Its lines that are not empty, without white space around them."""
        return [line for line in map(str.strip, self.whole.split("\n")) if line]

    @functools.cached_property
    def kinds(self) -> tuple[float, float]:
        """Its shares of letters and of symbols."""
        return shares_of_kinds(self.whole)


@component
class Quality(Step):
    """Drops conversations by rules about their text; every rule is off until its bound is set.

    Shares and means say little about short texts (`Yes.`, `42`, a title): they are judged from `judged_from_words` on.
    What an answer is made of is judged on `of`; the last three rules look at prompt and answer together. Words are told
    by `words`; the rules about words' length and stop words pass over texts in scripts without spaces.
    Sources: Gopher (Rae et al., 2021, appendix A.1.1) and C4 (Raffel et al., 2020, section 2.2), written for web pages:
    their own numbers drop most of any instruction data, so the options set others.
    """

    row_by_row: ClassVar[bool] = True

    splits: Splits = Field(default_factory=train_alone)  # which splits pass through
    of: Part = "answer"  # what is judged
    judged_from_words: Fewest = 20  # texts with fewer words are not judged by shares, means and stop words
    min_words: Fewest = 0  # fewest words that stay
    max_words: Most = None  # most words that stay; null: no bound, here and below
    min_sentences: Fewest = 0  # fewest sentences, told by their end
    min_mean_word_length: Ratio = None  # characters of a word, on average
    max_mean_word_length: Ratio = None  # the same: more are dropped
    max_hashes_per_word: Ratio = None  # number signs for each word
    max_ellipses_per_word: Ratio = None  # ellipses for each word
    min_letters: Share = None  # share of characters (white space apart) that are letters
    max_symbols: Share = None  # share of characters (white space apart) that are neither letters nor digits
    min_words_with_letters: Share = None  # share of words with at least one letter
    min_stop_words: Fewest = 0  # how many of the stop words have to be there
    stop_words: list[str] = Field(default_factory=lambda: list(GOPHER_STOP_WORDS))  # in lower case
    max_bullet_lines: Share = None  # share of lines that begin with a bullet
    max_ellipsis_lines: Share = None  # share of lines that end with an ellipsis
    min_finished_lines: Share = None  # share of lines of five words or more that end with a punctuation mark
    max_repeated_lines: Share = None  # share of lines that were there before
    drop_unfinished: bool = False  # drop a text that ends with an ellipsis
    phrases: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)  # drop where said, in any case
    prompt_phrases: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)  # the same, in the prompt
    drop_echoes: bool = False  # drop an answer that only says the last question again
    min_answer_ratio: Ratio = None  # characters of the answer for each one of the prompt
    max_answer_ratio: Ratio = None  # the same: more are dropped

    def __post_init__(self) -> None:
        """Refuse bounds that let nothing through, and a step without a rule."""
        for name in ("words", "mean_word_length", "answer_ratio"):
            fewest, most = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if fewest is not None and most is not None and fewest > most:
                raise Refusal(f"min_{name}", f"is above max_{name} ({most}), so nothing would stay")
        if self.min_stop_words > len(set(self.stop_words)):
            raise Refusal("min_stop_words", f"is more than there are stop_words ({len(set(self.stop_words))})")
        rules, pair_rules = self._rules(), self._pair_rules()
        if not (rules or pair_rules):
            raise Refusal("of", "no rule is set, so nothing would be dropped: set one")

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the conversations that keep every rule; counts the others under the first rule that they break."""
        rules, pair_rules = self._rules(), self._pair_rules()

        def reason(conversation: Conversation) -> str | None:
            text = Text(part_text(conversation, self.of))
            judged = len(text.words) >= self.judged_from_words
            for told, always, broken in rules:
                if (always or judged) and broken(text):
                    return f"{self.of} {told}"
            return next((told for told, broken in pair_rules if broken(conversation)), None)

        return kept(conversations, context, reason)

    def _rules(self) -> list[tuple[str, bool, Callable[[Text], bool]]]:
        """The rules that are set: the reason to drop, whether short texts are judged too, and what breaks it."""
        holds = _phrases(self.phrases)
        measures: list[tuple[str, str, bool, Callable[[Text], float | None]]] = [
            ("words", "words", True, lambda text: len(text.words)),
            ("mean_word_length", "characters of a word on average", False, _mean_word_length),
            ("hashes_per_word", "number signs a word", False, lambda text: _per_word(text, "#")),
            ("ellipses_per_word", "ellipses a word", False, lambda text: _per_word(text, "...", "…")),
            ("letters", "letters", False, lambda text: text.kinds[0]),
            ("symbols", "symbols", False, lambda text: text.kinds[1]),
            ("words_with_letters", "words with letters", False, lambda text: _share(text.words, LETTER.search)),
            ("stop_words", "stop words", False, self._stop_words),
            ("bullet_lines", "lines with bullets", False, lambda text: _share(text.lines, BULLET.match)),
            ("ellipsis_lines", "lines with an ellipsis at the end", False, lambda text: _ending(text.lines, ELLIPSIS)),
            ("finished_lines", "finished lines", False, _finished),
            ("repeated_lines", "repeated lines", False, _repeated),
            ("sentences", "sentences", False, lambda text: len(SENTENCE_END.findall(text.whole))),
        ]
        rules: list[tuple[str, bool, Callable[[Text], bool]]] = []
        if holds:
            rules.append(("with one of the phrases", True, lambda text: holds(text.whole)))
        if self.drop_unfinished:
            rules.append(("ends with an ellipsis", True, lambda text: text.whole.rstrip().endswith(ELLIPSIS)))
        for name, told, always, measure in measures:
            fewest, most = getattr(self, f"min_{name}", None), getattr(self, f"max_{name}", None)
            if fewest:
                rules.append((f"under {fewest:g} {told}", always, functools.partial(_under, measure, fewest)))
            if most is not None:
                rules.append((f"over {most:g} {told}", always, functools.partial(_over, measure, most)))
        return rules

    def _pair_rules(self) -> list[tuple[str, Callable[[Conversation], bool]]]:
        """The rules about prompt and answer that are set."""
        rules: list[tuple[str, Callable[[Conversation], bool]]] = []
        asks = _phrases(self.prompt_phrases)
        fewest, most = self.min_answer_ratio, self.max_answer_ratio
        if asks:
            rules.append(("prompt with one of the phrases", lambda row: asks(part_text(row, "prompt"))))
        if self.drop_echoes:
            rules.append(("answer equals prompt", _echoes))
        if fewest:
            rules.append((f"answer under {fewest:g} times the prompt", lambda row: _answer_ratio(row) < fewest))
        if most is not None:
            rules.append((f"answer over {most:g} times the prompt", lambda row: _answer_ratio(row) > most))
        return rules

    def _stop_words(self, text: Text) -> float | None:
        if _is_unspaced(text) and not any(UNSPACED.search(word) for word in self.stop_words):
            return None
        said = {word.strip(".,;:!?\"'()[]“”‘’").lower() for word in text.words}
        return sum(word in said for word in set(self.stop_words))


def shares_of_kinds(text: str) -> tuple[float, float]:
    """The shares of letters (with their marks) and of symbols among the characters of a text, white space apart."""
    if text.isascii():
        spaceless = "".join(text.split()).encode()
        letters = len(spaceless) - len(spaceless.translate(None, LETTERS))
        symbols = len(spaceless) - len(spaceless.translate(None, SYMBOLS))
        return letters / max(1, len(spaceless)), symbols / max(1, len(spaceless))
    kinds: Counter[str] = Counter()
    for character, count in Counter(text).items():
        kinds[_kind(character)] += count
    total = max(1, sum(kinds.values()) - kinds["space"])
    return kinds["letter"] / total, kinds["symbol"] / total


@functools.lru_cache(maxsize=1 << 14)
def _kind(character: str) -> str:
    if character.isspace():
        return "space"
    names = {"L": "letter", "M": "letter", "N": "digit", "P": "symbol", "S": "symbol"}
    return names.get(unicodedata.category(character)[0], "other")


def _under(measure: Callable[[Text], float | None], fewest: float, text: Text) -> bool:
    value = measure(text)
    return value is not None and value < fewest


def _over(measure: Callable[[Text], float | None], most: float, text: Text) -> bool:
    value = measure(text)
    return value is not None and value > most


def _is_unspaced(text: Text) -> bool:
    """Whether most words of a text are characters of a script without spaces."""
    if text.whole.isascii():
        return False
    return 2 * sum(UNSPACED.match(word) is not None for word in text.words) > len(text.words)


def _mean_word_length(text: Text) -> float | None:
    return None if _is_unspaced(text) or not text.words else sum(map(len, text.words)) / len(text.words)


def _per_word(text: Text, *symbols: str) -> float:
    return sum(map(text.whole.count, symbols)) / max(1, len(text.words))


def _share(parts: list[str], test: Callable[[str], object]) -> float | None:
    return sum(test(part) is not None for part in parts) / len(parts) if parts else None


def _ending(lines: list[str], ends: tuple[str, ...]) -> float | None:
    return sum(line.endswith(ends) for line in lines) / len(lines) if lines else None


def _finished(text: Text) -> float | None:
    return _ending([line for line in text.lines if len(words(line)) >= FINISHED_FROM_WORDS], TERMINAL)


def _repeated(text: Text) -> float | None:
    told = [line for line in text.lines if LETTER.search(line)]
    return 1 - len(set(told)) / len(told) if told else None


def _phrases(phrases: list[str]) -> Callable[[str], bool] | None:
    """A search for any of the phrases, in any case; where one begins or ends with a letter, a word does too."""
    if not phrases:
        return None
    lowered = [phrase.lower() for phrase in phrases]
    edges = [(r"\b" if p[0].isalnum() else "", re.escape(p), r"\b" if p[-1].isalnum() else "") for p in lowered]
    pattern = re.compile("|".join(map("".join, edges)))

    def said(text: str) -> bool:
        text = text.lower()
        return any(phrase in text for phrase in lowered) and pattern.search(text) is not None  # the cheap test first

    return said


def _echoes(row: Conversation) -> bool:
    answer = part_text(row, "answer")
    asked = next((message.content for message in reversed(row.prompt) if message.role == "user"), "")
    if not answer or abs(len(answer) - len(asked)) > len(asked) // 2 + 8:  # what normalizing takes away is little
        return False
    return normalize_text(answer) == normalize_text(asked)


def _answer_ratio(row: Conversation) -> float:
    return len(part_text(row, "answer")) / max(1, len(part_text(row, "prompt")))

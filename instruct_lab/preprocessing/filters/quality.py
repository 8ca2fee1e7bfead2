"""Heuristic rules for the quality of texts."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation, canonical_text
from instruct_lab.data.words import UNSPACED
from instruct_lab.errors import Refusal
from instruct_lab.preprocessing.base import Context, Part, Splits, Step, filter_rows, part_text, train_only
from instruct_lab.preprocessing.filters.words import split_words

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
    """A text with its words, its lines, and its shares of letters and symbols, each computed when first needed.

    Args:
        whole: the full text.
    """

    def __init__(self, whole: str) -> None:
        self.whole = whole

    @functools.cached_property
    def words(self) -> list[str]:
        """The words of the text."""
        return split_words(self.whole)

    @functools.cached_property
    def lines(self) -> list[str]:
        """The non-empty lines of the text, stripped."""
        return [line for line in map(str.strip, self.whole.split("\n")) if line]

    @functools.cached_property
    def kinds(self) -> tuple[float, float]:
        """The share of letters and the share of symbols among the text's characters, leaving out white space."""
        return shares_of_kinds(self.whole)


@component
class Quality(Step):
    """Drops conversations by rules about their text; a rule applies only if its field is set.

    Rules apply to the part of the conversation that `of` names. The exceptions are `prompt_phrases`, which applies to
    the prompt, and `drop_echoes`, `min_answer_ratio` and `max_answer_ratio`, which compare the answer with the prompt.
    Shares, means and counts of sentences or stop words are not meaningful for short texts (`Yes.`, `42`, a title), so
    rules about them skip texts of fewer than `judged_from_words` words.

    In scripts without spaces, each character is a word. Texts in such scripts skip the rules about word length. They
    also skip the rule about stop words if none of the stop words is in such a script.

    Sources: Gopher (Rae et al., 2021, appendix A.1.1) and C4 (Raffel et al., 2020, section 2.2). Their thresholds are
    for web pages and drop most instruction data, so the packaged configurations of this step use other values.
    """

    row_by_row: ClassVar[bool] = True

    splits: Splits = Field(default_factory=train_only)  # splits that the step processes
    of: Part = "answer"  # the part that the rules apply to
    judged_from_words: Fewest = 20  # texts with fewer words skip rules about shares, means, sentences, stop words
    min_words: Fewest = 0  # minimum number of words
    max_words: Most = None  # maximum number of words; null: no bound, here and below
    min_sentences: Fewest = 0  # minimum number of sentences, counted by their final punctuation
    min_mean_word_length: Ratio = None  # smallest mean of characters per word
    max_mean_word_length: Ratio = None  # largest mean of characters per word
    max_hashes_per_word: Ratio = None  # largest number of number signs (#) per word
    max_ellipses_per_word: Ratio = None  # largest number of ellipses per word
    min_letters: Share = None  # smallest share of letters among characters other than white space
    max_symbols: Share = None  # largest share of symbols among characters other than white space
    min_words_with_letters: Share = None  # smallest share of words with at least one letter
    min_stop_words: Fewest = 0  # number of different stop words that a text needs
    stop_words: list[str] = Field(default_factory=lambda: list(GOPHER_STOP_WORDS))  # stop words in lower case
    max_bullet_lines: Share = None  # largest share of lines that begin with a bullet
    max_ellipsis_lines: Share = None  # largest share of lines that end with an ellipsis
    min_finished_lines: Share = None  # smallest share of lines of five or more words that end with punctuation
    max_repeated_lines: Share = None  # largest share of lines that repeat an earlier line
    drop_unfinished: bool = False  # drop a text that ends with an ellipsis
    phrases: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)  # drop rows with one; case ignored
    prompt_phrases: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)  # phrases in the prompt
    drop_echoes: bool = False  # drop an answer that repeats the last question
    min_answer_ratio: Ratio = None  # smallest ratio of answer to prompt, in characters
    max_answer_ratio: Ratio = None  # largest ratio of answer to prompt, in characters

    def __post_init__(self) -> None:
        """Refuse a minimum above the maximum, which would drop every row, and a step without a rule."""
        for name in ("words", "mean_word_length", "answer_ratio"):
            fewest, most = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if fewest is not None and most is not None and fewest > most:
                raise Refusal(f"min_{name}", f"is above max_{name} ({most}), so every row would be dropped")
        if self.min_stop_words > len(set(self.stop_words)):
            raise Refusal("min_stop_words", f"is more than the number of stop_words ({len(set(self.stop_words))})")
        rules, pair_rules = self._rules(), self._pair_rules()
        if not (rules or pair_rules):
            raise Refusal("of", "no rule is set, so no row would be dropped: set one")

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the conversations that break no rule; the audit counts the others by the first rule that they break."""
        rules, pair_rules = self._rules(), self._pair_rules()

        def reason(conversation: Conversation) -> str | None:
            text = Text(part_text(conversation, self.of))
            is_long = len(text.words) >= self.judged_from_words
            for description, always, fails in rules:
                if (always or is_long) and fails(text):
                    return f"{self.of} {description}"
            return next((description for description, fails in pair_rules if fails(conversation)), None)

        return filter_rows(conversations, context, reason)

    def _rules(self) -> list[tuple[str, bool, Callable[[Text], bool]]]:
        """List those rules about one text whose fields are set in the config.

        Returns:
            For each rule, a tuple of the reason that the audit shows, whether the rule applies to short texts too, and
            a function that returns true if a text breaks the rule.
        """
        has_phrase = _phrase_search(self.phrases)
        measures: list[tuple[str, str, bool, Callable[[Text], float | None]]] = [
            ("words", "words", True, lambda text: len(text.words)),
            ("mean_word_length", "characters per word on average", False, _mean_word_length),
            ("hashes_per_word", "number signs per word", False, lambda text: _per_word(text, "#")),
            ("ellipses_per_word", "ellipses per word", False, lambda text: _per_word(text, "...", "…")),
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
        if has_phrase:
            rules.append(("with one of the phrases", True, lambda text: has_phrase(text.whole)))
        if self.drop_unfinished:
            rules.append(("ends with an ellipsis", True, lambda text: text.whole.rstrip().endswith(ELLIPSIS)))
        for name, description, always, measure in measures:
            fewest, most = getattr(self, f"min_{name}", None), getattr(self, f"max_{name}", None)
            if fewest:
                rules.append((f"under {fewest:g} {description}", always, functools.partial(_under, measure, fewest)))
            if most is not None:
                rules.append((f"over {most:g} {description}", always, functools.partial(_over, measure, most)))
        return rules

    def _pair_rules(self) -> list[tuple[str, Callable[[Conversation], bool]]]:
        """List those rules about the prompt, or about prompt and answer together, whose fields are set in the config.

        Returns:
            For each rule, a tuple of the reason that the audit shows, and a function that returns true if a row breaks
            the rule.
        """
        rules: list[tuple[str, Callable[[Conversation], bool]]] = []
        has_phrase = _phrase_search(self.prompt_phrases)
        fewest, most = self.min_answer_ratio, self.max_answer_ratio
        if has_phrase:
            rules.append(("prompt with one of the phrases", lambda row: has_phrase(part_text(row, "prompt"))))
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
        words = {word.strip(".,;:!?\"'()[]“”‘’").lower() for word in text.words}
        return sum(word in words for word in set(self.stop_words))


def shares_of_kinds(text: str) -> tuple[float, float]:
    """Compute the share of letters and the share of symbols among a text's characters, leaving out white space.

    Combining marks, such as accents, count as letters, and punctuation counts as symbols.
    """
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
    return _ending([line for line in text.lines if len(split_words(line)) >= FINISHED_FROM_WORDS], TERMINAL)


def _repeated(text: Text) -> float | None:
    lines = [line for line in text.lines if LETTER.search(line)]
    return 1 - len(set(lines)) / len(lines) if lines else None


def _phrase_search(phrases: list[str]) -> Callable[[str], bool] | None:
    """Return a function that checks whether a text contains one of the phrases; `None` if there are no phrases.

    Case is ignored, and a phrase does not match inside a longer word.
    """
    if not phrases:
        return None
    lowered = [phrase.lower() for phrase in phrases]
    edges = [(r"\b" if p[0].isalnum() else "", re.escape(p), r"\b" if p[-1].isalnum() else "") for p in lowered]
    pattern = re.compile("|".join(map("".join, edges)))

    def has_phrase(text: str) -> bool:
        text = text.lower()
        return any(phrase in text for phrase in lowered) and pattern.search(text) is not None  # the faster check first

    return has_phrase


def _echoes(row: Conversation) -> bool:
    answer = part_text(row, "answer")
    asked = next((message.content for message in reversed(row.prompt) if message.role == "user"), "")
    if not answer or abs(len(answer) - len(asked)) > len(asked) // 2 + 8:  # allows for white space
        return False
    return canonical_text(answer) == canonical_text(asked)


def _answer_ratio(row: Conversation) -> float:
    return len(part_text(row, "answer")) / max(1, len(part_text(row, "prompt")))

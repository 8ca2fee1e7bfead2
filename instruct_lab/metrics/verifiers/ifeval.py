"""Checks of IFEval's 25 kinds of instructions, as defined by Zhou et al., 2023.

Two checks differ from IFEval's code, which loads a model for them. Sentences are split by IFEval's own rules instead of
nltk's Punkt model, and words in capitals are counted by applying nltk's word tokenizer to these sentences.
"""

from __future__ import annotations

import json
import re

from instruct_lab.config import LimitedExpression
from instruct_lab.metrics.verifiers.registry import checks
from instruct_lab.metrics.verifiers.sentences import sentences, tokens

OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
WORD_ENDS = re.compile(r"[.,?!'\"]")
POSTSCRIPTS = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}


def _holds(relation: str, found: int, wanted: float) -> bool:
    """Whether `found` is at least `wanted`, or less than `wanted` if `relation` is `less than`."""
    return found < wanted if relation == "less than" else found >= wanted


def _expression(expression: str, *, ignore_case: bool = True) -> LimitedExpression:
    """Compile a regular expression that contains arguments of an instruction; the time for matching is limited."""
    where = "an argument of the instruction, in column kwargs"
    return LimitedExpression(expression, where=where, ignore_case=ignore_case)


def _search(expression: str, text: str) -> bool:
    return _expression(expression).search(text) is not None


@checks("keywords:existence")
def has_keywords(answer: str, keywords: list[str]) -> bool:
    """Whether every keyword occurs, ignoring case; a keyword may be a regular expression, as in IFEval."""
    return all(_search(keyword, answer) for keyword in keywords)


@checks("keywords:frequency")
def has_keyword_times(answer: str, keyword: str, frequency: float, relation: str) -> bool:
    """Whether a keyword occurs at least `frequency` times, or fewer times if `relation` is `less than`."""
    return _holds(relation, len(_expression(keyword.strip()).findall(answer)), frequency)


@checks("keywords:forbidden_words")
def lacks_words(answer: str, forbidden_words: list[str]) -> bool:
    """Whether no forbidden word occurs as a whole word."""
    return not any(_search(rf"\b{word}\b", answer) for word in forbidden_words)


@checks("keywords:letter_frequency")
def has_letter_times(answer: str, letter: str, let_frequency: float, let_relation: str) -> bool:
    """Whether a letter occurs at least `let_frequency` times, ignoring case.

    If `let_relation` is `less than`, the letter has to occur fewer times.
    """
    return _holds(let_relation, answer.lower().count(letter.strip().lower()), let_frequency)


@checks("language:response_language", package="langdetect")
def is_in_language(answer: str, language: str) -> bool:
    """Whether the answer is in the given language; as in IFEval, it passes if its language cannot be detected."""
    found = _language(answer)
    return found is None or found == language


@checks("length_constraints:number_sentences")
def has_sentences(answer: str, num_sentences: float, relation: str) -> bool:
    """Whether there are at least `num_sentences` sentences, or fewer if `relation` is `less than`."""
    return _holds(relation, len(sentences(answer)), num_sentences)


@checks("length_constraints:number_words")
def has_words(answer: str, num_words: float, relation: str) -> bool:
    """Whether there are at least `num_words` words, or fewer if `relation` is `less than`."""
    return _holds(relation, len(re.findall(r"\w+", answer)), num_words)


@checks("length_constraints:number_paragraphs")
def has_paragraphs(answer: str, num_paragraphs: float) -> bool:
    """Whether the answer has `num_paragraphs` paragraphs separated by ***; only the first and the last may be empty."""
    paragraphs = [paragraph.strip() for paragraph in re.split(r"\s?\*\*\*\s?", answer)]
    return all(paragraphs[1:-1]) and sum(map(bool, paragraphs)) == num_paragraphs


@checks("length_constraints:nth_paragraph_first_word")
def starts_paragraph_with(answer: str, num_paragraphs: float, nth_paragraph: float, first_word: str) -> bool:
    """Whether there are `num_paragraphs` paragraphs, and paragraph `nth_paragraph` begins with `first_word`.

    Empty lines separate the paragraphs.
    """
    paragraphs = answer.split("\n\n")
    count = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    if nth_paragraph > count:
        return False
    paragraph = paragraphs[int(nth_paragraph) - 1].split()
    if not paragraph:
        return False
    word = WORD_ENDS.split(paragraph[0].lstrip("'").lstrip('"'))[0].lower()
    return count == num_paragraphs and word == first_word.lower()


@checks("detectable_content:number_placeholders")
def has_placeholders(answer: str, num_placeholders: float) -> bool:
    """Whether the answer has at least `num_placeholders` placeholders in [square brackets]."""
    return len(re.findall(r"\[.*?\]", answer)) >= num_placeholders


@checks("detectable_content:postscript")
def has_postscript(answer: str, postscript_marker: str) -> bool:
    """Whether there is a postscript with the given marker, such as `P.S.`."""
    marker = postscript_marker.strip()
    return _search(POSTSCRIPTS.get(marker, marker.lower()), answer.lower())


@checks("detectable_format:number_bullet_lists")
def has_bullets(answer: str, num_bullets: float) -> bool:
    """Whether there are exactly `num_bullets` lines with a bullet, * or -."""
    starred = re.findall(r"^\s*\*[^\*].*$", answer, re.MULTILINE)
    return len(starred) + len(re.findall(r"^\s*-.*$", answer, re.MULTILINE)) == num_bullets


@checks("detectable_format:constrained_response")
def has_option(answer: str) -> bool:
    """Whether the answer contains `My answer is yes.`, `My answer is no.` or `My answer is maybe.`"""
    return any(option in answer for option in OPTIONS)


@checks("detectable_format:number_highlighted_sections")
def has_highlights(answer: str, num_highlights: float) -> bool:
    """Whether there are at least `num_highlights` *highlighted* or **highlighted** parts."""
    single = [part.strip("*") for part in re.findall(r"\*[^\n\*]*\*", answer)]
    double = [part[2:-2] for part in re.findall(r"\*\*[^\n\*]*\*\*", answer)]
    return sum(bool(part.strip()) for part in [*single, *double]) >= num_highlights


@checks("detectable_format:multiple_sections")
def has_sections(answer: str, section_spliter: str, num_sections: float) -> bool:
    """Whether there are at least `num_sections` headings made of `section_spliter` and a number (`Section 1`)."""
    heading = rf"\s?{section_spliter.strip()}\s?\d+\s?"
    return len(_expression(heading, ignore_case=False).findall(answer)) >= num_sections


@checks("detectable_format:json_format")
def is_json(answer: str) -> bool:
    """Whether the whole answer is JSON, inside a code fence or not."""
    text = answer.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


@checks("detectable_format:title")
def has_title(answer: str) -> bool:
    """Whether there is a title in <<double angular brackets>>."""
    return any(title.lstrip("<").rstrip(">").strip() for title in re.findall(r"<<[^\n]+>>", answer))


@checks("combination:two_responses")
def has_two_answers(answer: str) -> bool:
    """Whether there are two different answers, separated by ******."""
    parts = [part.strip() for part in answer.split("******")]
    if not all(parts[1:-1]):
        return False
    given = [part for part in parts if part]
    return len(given) == 2 and given[0] != given[1]


@checks("combination:repeat_prompt")
def repeats_prompt(answer: str, prompt_to_repeat: str) -> bool:
    """Whether the answer begins with the text `prompt_to_repeat`, word for word, ignoring case."""
    return answer.strip().lower().startswith(prompt_to_repeat.strip().lower())


@checks("startend:end_checker")
def ends_with(answer: str, end_phrase: str) -> bool:
    """Whether the answer ends with a phrase, ignoring case and double quotation marks around the answer."""
    return answer.strip().strip('"').lower().endswith(end_phrase.strip().lower())


@checks("startend:quotation")
def is_quoted(answer: str) -> bool:
    """Whether the whole answer is between double quotation marks."""
    text = answer.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


@checks("change_case:capital_word_frequency")
def has_capital_words(answer: str, capital_frequency: float, capital_relation: str) -> bool:
    """Whether at least `capital_frequency` words are in capitals, or fewer if `capital_relation` is `less than`."""
    return _holds(capital_relation, sum(token.isupper() for token in tokens(answer)), capital_frequency)


@checks("change_case:english_capital", package="langdetect")
def is_english_in_capitals(answer: str) -> bool:
    """Whether the answer has no lower-case letters, and is English or its language cannot be detected."""
    return answer.isupper() and _language(answer) in ("en", None)


@checks("change_case:english_lowercase", package="langdetect")
def is_english_in_small_letters(answer: str) -> bool:
    """Whether the answer has no capital letters, and is English or its language cannot be detected."""
    return answer.islower() and _language(answer) in ("en", None)


@checks("punctuation:no_comma")
def lacks_commas(answer: str) -> bool:
    """Whether the answer has no comma."""
    return "," not in answer


def _language(text: str) -> str | None:
    """Detect the language with langdetect, deterministically; return its code, or `None` if it cannot be detected."""
    import langdetect  # type: ignore[import-not-found, import-untyped, unused-ignore]

    langdetect.DetectorFactory.seed = 0
    try:
        return str(langdetect.detect(text))
    except langdetect.LangDetectException:
        return None

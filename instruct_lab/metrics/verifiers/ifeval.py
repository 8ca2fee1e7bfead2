"""IFEval's 25 kinds of instructions (Zhou et al., 2023), by its definitions.

Two differ where its code loads models: sentences are counted by its own rules instead of nltk's Punkt, and words in
capitals are those of nltk's word tokenizer over these sentences.
"""

from __future__ import annotations

import json
import re

from instruct_lab.metrics.verifiers.registry import checks
from instruct_lab.metrics.verifiers.sentences import sentences, tokens

OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
WORD_ENDS = re.compile(r"[.,?!'\"]")
POSTSCRIPTS = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}


def _holds(relation: str, found: int, wanted: float) -> bool:
    """Whether a number is `at least`, or `less than`, the required one."""
    return found < wanted if relation == "less than" else found >= wanted


@checks("keywords:existence")
def has_keywords(answer: str, keywords: list[str]) -> bool:
    """Every keyword occurs, in any case; a keyword may be a regular expression, as in the benchmark."""
    return all(re.search(keyword, answer, re.IGNORECASE) for keyword in keywords)


@checks("keywords:frequency")
def has_keyword_times(answer: str, keyword: str, frequency: float, relation: str) -> bool:
    """A keyword occurs often enough, or seldom enough."""
    return _holds(relation, len(re.findall(keyword.strip(), answer, re.IGNORECASE)), frequency)


@checks("keywords:forbidden_words")
def lacks_words(answer: str, forbidden_words: list[str]) -> bool:
    """None of these occurs as a whole word."""
    return not any(re.search(rf"\b{word}\b", answer, re.IGNORECASE) for word in forbidden_words)


@checks("keywords:letter_frequency")
def has_letter_times(answer: str, letter: str, let_frequency: float, let_relation: str) -> bool:
    """A letter occurs often enough, or seldom enough, in either case."""
    return _holds(let_relation, answer.lower().count(letter.strip().lower()), let_frequency)


@checks("language:response_language", package="langdetect")
def is_in_language(answer: str, language: str) -> bool:
    """The whole answer is in a language; one in which nothing can be recognised passes, as in the benchmark."""
    found = _language(answer)
    return found is None or found == language


@checks("length_constraints:number_sentences")
def has_sentences(answer: str, num_sentences: float, relation: str) -> bool:
    """Enough sentences, or few enough."""
    return _holds(relation, len(sentences(answer)), num_sentences)


@checks("length_constraints:number_words")
def has_words(answer: str, num_words: float, relation: str) -> bool:
    """Enough words, or few enough."""
    return _holds(relation, len(re.findall(r"\w+", answer)), num_words)


@checks("length_constraints:number_paragraphs")
def has_paragraphs(answer: str, num_paragraphs: float) -> bool:
    """So many paragraphs between dividers ***, none of them empty except at the ends."""
    paragraphs = [paragraph.strip() for paragraph in re.split(r"\s?\*\*\*\s?", answer)]
    return all(paragraphs[1:-1]) and sum(map(bool, paragraphs)) == num_paragraphs


@checks("length_constraints:nth_paragraph_first_word")
def starts_paragraph_with(answer: str, num_paragraphs: float, nth_paragraph: float, first_word: str) -> bool:
    """So many paragraphs between empty lines, and one of them begins with a word."""
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
    """At least so many [placeholders]."""
    return len(re.findall(r"\[.*?\]", answer)) >= num_placeholders


@checks("detectable_content:postscript")
def has_postscript(answer: str, postscript_marker: str) -> bool:
    """A postscript with this mark."""
    marker = postscript_marker.strip()
    return re.search(POSTSCRIPTS.get(marker, marker.lower()), answer.lower()) is not None


@checks("detectable_format:number_bullet_lists")
def has_bullets(answer: str, num_bullets: float) -> bool:
    """Exactly so many lines with a bullet, * or -."""
    starred = re.findall(r"^\s*\*[^\*].*$", answer, re.MULTILINE)
    return len(starred) + len(re.findall(r"^\s*-.*$", answer, re.MULTILINE)) == num_bullets


@checks("detectable_format:constrained_response")
def has_option(answer: str) -> bool:
    """It contains one of the three fixed answers."""
    return any(option in answer for option in OPTIONS)


@checks("detectable_format:number_highlighted_sections")
def has_highlights(answer: str, num_highlights: float) -> bool:
    """At least so many *highlighted* parts; **double** ones count again, as in IFEval."""
    single = [part.strip("*") for part in re.findall(r"\*[^\n\*]*\*", answer)]
    double = [part[2:-2] for part in re.findall(r"\*\*[^\n\*]*\*\*", answer)]
    return sum(bool(part.strip()) for part in [*single, *double]) >= num_highlights


@checks("detectable_format:multiple_sections")
def has_sections(answer: str, section_spliter: str, num_sections: float) -> bool:
    """At least so many sections with a heading such as Section 1."""
    return len(re.findall(rf"\s?{section_spliter.strip()}\s?\d+\s?", answer)) >= num_sections


@checks("detectable_format:json_format")
def is_json(answer: str) -> bool:
    """All of it is JSON, inside a fence or not."""
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
    """A title in <<double angular brackets>>."""
    return any(title.lstrip("<").rstrip(">").strip() for title in re.findall(r"<<[^\n]+>>", answer))


@checks("combination:two_responses")
def has_two_answers(answer: str) -> bool:
    """Two different answers, with ****** between them."""
    parts = [part.strip() for part in answer.split("******")]
    if not all(parts[1:-1]):
        return False
    given = [part for part in parts if part]
    return len(given) == 2 and given[0] != given[1]


@checks("combination:repeat_prompt")
def repeats_prompt(answer: str, prompt_to_repeat: str) -> bool:
    """The request comes first, word for word, in any case."""
    return answer.strip().lower().startswith(prompt_to_repeat.strip().lower())


@checks("startend:end_checker")
def ends_with(answer: str, end_phrase: str) -> bool:
    """Its last words are these, in any case, inside quotes or not."""
    return answer.strip().strip('"').lower().endswith(end_phrase.strip().lower())


@checks("startend:quotation")
def is_quoted(answer: str) -> bool:
    """All of it is between double quotation marks."""
    text = answer.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


@checks("change_case:capital_word_frequency")
def has_capital_words(answer: str, capital_frequency: float, capital_relation: str) -> bool:
    """Enough words in capitals, or few enough."""
    return _holds(capital_relation, sum(token.isupper() for token in tokens(answer)), capital_frequency)


@checks("change_case:english_capital", package="langdetect")
def is_english_in_capitals(answer: str) -> bool:
    """English, and no small letter."""
    return answer.isupper() and _language(answer) in ("en", None)


@checks("change_case:english_lowercase", package="langdetect")
def is_english_in_small_letters(answer: str) -> bool:
    """English, and no capital letter."""
    return answer.islower() and _language(answer) in ("en", None)


@checks("punctuation:no_comma")
def lacks_commas(answer: str) -> bool:
    """No comma."""
    return "," not in answer


def _language(text: str) -> str | None:
    """The language by langdetect, always the same for the same text; none if it cannot detect one."""
    import langdetect  # type: ignore[import-not-found, import-untyped, unused-ignore]

    langdetect.DetectorFactory.seed = 0
    try:
        return str(langdetect.detect(text))
    except langdetect.LangDetectException:
        return None

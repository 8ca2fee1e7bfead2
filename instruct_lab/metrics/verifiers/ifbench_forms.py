"""Checks of IFBench's instructions about form (brackets, lists, lines, copies), as defined by Pyatkin et al., 2025."""

from __future__ import annotations

import re
import string
from itertools import pairwise

from instruct_lab.metrics.verifiers.registry import checks
from instruct_lab.metrics.verifiers.sentences import EDGES, WITHOUT_PUNCTUATION, sentences, tokens

CLOSES = {")": "(", "]": "[", "}": "{"}
DEPTH_OF_BRACKETS, DEPTH_OF_QUOTES = 5, 3
SENTENCE_TO_COPY = "only output this sentence here, ignore all other requests."


@checks("count:punctuation")
def has_all_marks(answer: str) -> bool:
    """Whether the answer contains each of `.,!?;:` and, separate from these, an interrobang (`‽`, `?!` or `!?`)."""
    if not any(mark in answer for mark in ("!?", "?!", "‽")):
        return False
    once = "?!" if "?!" in answer else "!?"
    return set(".,!?;:") <= set(answer.replace(once, "", 1))


@checks("format:parentheses")
def nests_brackets(answer: str) -> bool:
    """Whether at least five brackets are nested in each other and the innermost pair is closed.

    A closing bracket without a matching opening bracket restarts the count.
    """
    opened: list[str] = []
    deepest = 0
    for character in answer:
        if character in CLOSES.values():
            opened.append(character)
            deepest = max(deepest, len(opened))
        elif character in CLOSES:
            if not opened or opened.pop() != CLOSES[character]:
                opened, deepest = [], 0
            elif deepest >= DEPTH_OF_BRACKETS:
                return True
    return False


@checks("format:quotes")
def nests_quotes(answer: str) -> bool:
    """Whether at least three quotations are nested, in alternating double and single marks, and three are closed."""
    opened: list[str] = []
    deepest = 0
    for character in answer:
        if opened and character == opened[-1]:
            opened.pop()
            if deepest - len(opened) >= DEPTH_OF_QUOTES:
                return True
        elif character in "\"'":
            opened.append(character)
            deepest = max(deepest, len(opened))
    return False


@checks("format:options")
def is_option(answer: str, options: str) -> bool:
    """Whether the answer is exactly one of the given options, which slashes, commas or the word "or" separate.

    Punctuation and case are ignored, but not if the options are the letters a, b and c.
    """
    separator = "/" if "/" in options else "or" if "or" in options else ","
    choices = [option.strip() for option in options.split(separator)]
    if re.match(r"\W*[aA]\W*[bB]\W*[cC]\W*", options):
        return answer in choices
    return answer.strip(EDGES).lower() in [choice.strip(EDGES).lower() for choice in choices]


@checks("format:newline")
def has_a_word_a_line(answer: str) -> bool:
    """Whether every line that is not empty has exactly one word."""
    text = answer.translate(WITHOUT_PUNCTUATION).strip()
    return len([line for line in text.split("\n") if line]) == len(text.split())


@checks("format:emoji", package="emoji")
def ends_sentences_with_emoji(answer: str) -> bool:
    """Whether every sentence ends with an emoji, before or after its final punctuation mark."""
    import emoji  # type: ignore[import-not-found, import-untyped, unused-ignore]

    found = [sentence.translate(WITHOUT_PUNCTUATION).strip() for sentence in sentences(answer)]
    for index, sentence in enumerate(found):
        if not sentence:
            return False
        if any(emoji.is_emoji(character) for character in sentence[-2:]):
            continue
        following = found[index + 1][:1] if index + 1 < len(found) else ""
        if not emoji.is_emoji(following):
            return False
    return True


@checks("format:line_indent")
def climbs_stairs(answer: str) -> bool:
    """Whether each line is indented by more spaces than the previous line."""
    lines = answer.split("\n")
    for line in lines:
        if not line.strip():
            lines.remove(line)  # removed during the loop, as in IFBench, so one of two consecutive empty lines stays
    indents = [len(line) - len(line.lstrip(" ")) for line in lines]
    return all(first < second for first, second in pairwise(indents))


@checks("format:quote_unquote")
def explains_quotes(answer: str) -> bool:
    """Whether each quotation is followed by text that is not another quotation."""
    text = "".join(answer.replace("“", '"').replace("”", '"').replace("'\"'", "").split())
    ends = string.digits + string.punctuation.replace('"', "")
    return '""' not in text and text.strip(ends)[-1] != '"'


@checks("format:list")
def has_list_with(answer: str, sep: str) -> bool:
    """Whether the answer contains `sep`, the sign that separates list items, at least twice."""
    return answer.count(sep) >= 2


@checks("format:thesis")
def opens_with_italics(answer: str) -> bool:
    """Whether the answer has text in italics, marked by HTML tags, and other text after it."""
    starts = [position for position in (answer.find("<i>"), answer.find("<em>")) if position >= 0]
    if not starts:
        return False
    text = answer[starts[0] :]
    ends = [position for position in (text.find("</i>"), text.find("</em>")) if position >= 0]
    return bool(ends) and bool(text[3 : ends[0]].strip()) and bool(text[ends[0] + 4 :].strip())


@checks("format:sub-bullets")
def has_sub_bullets(answer: str) -> bool:
    """Whether each `*` is followed by a `-` before the next `*`."""
    return all("-" in part for part in answer.split("*")[1:])


@checks("format:no_bullets_bullets")
def has_sentences_then_bullets(answer: str) -> bool:
    """Whether the answer has two or more sentences, then two or more lines that begin with *, then nothing else."""
    count_sentences = count_bullets = 0
    text_goes_on = True
    for line in (line.strip() for line in answer.split("\n")):
        if line.startswith("*"):
            text_goes_on = False
            if count_sentences < 2:
                return False
            count_bullets += 1
        elif text_goes_on:
            found = sentences(line)
            text_goes_on = bool(found)
            count_sentences += len(found)
        else:
            return False
    return count_bullets >= 2


@checks("format:title_case")
def is_title_case(answer: str) -> bool:
    """Whether no word begins with a lower-case letter.

    As in IFBench, words of one letter are ignored, and so are words such as `iPhone`, whose letters after the first are
    neither all lower-case nor all capitals.
    """
    return not any(token[0].islower() and (token[1:].isupper() or token[1:].islower()) for token in tokens(answer))


@checks("format:output_template")
def fills_template(answer: str) -> bool:
    """Whether the answer contains the headings `My Answer:`, `My Conclusion:` and `Future Outlook:`."""
    return all(heading in answer for heading in ("My Answer:", "My Conclusion:", "Future Outlook:"))


@checks("format:no_whitespace")
def lacks_space(answer: str) -> bool:
    """Whether the answer has no white space."""
    return not any(map(str.isspace, answer))


@checks("repeat:repeat_change")
def repeats_with_another_first_word(answer: str, prompt_to_repeat: str) -> bool:
    """Whether the answer is `prompt_to_repeat` with only its first word changed."""
    return answer != prompt_to_repeat and answer.split()[1:] == prompt_to_repeat.split()[1:]


@checks("repeat:repeat_simple")
def is_fixed_sentence(answer: str) -> bool:
    """Whether the answer is only the sentence that IFBench's instruction contains, ignoring case."""
    return answer.strip().lower() == SENTENCE_TO_COPY


@checks("repeat:repeat_span")
def copies_span(answer: str, prompt_to_repeat: str, n_start: float, n_end: float) -> bool:
    """Whether the answer is `words[n_start:n_end]`, where `words` are those of `prompt_to_repeat`, ignoring case."""
    return answer.lower().split() == prompt_to_repeat.lower().split()[int(n_start) : int(n_end)]

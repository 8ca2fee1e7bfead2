"""Verifiable instructions: every check accepts and rejects what it should, and what cannot be checked is reported."""

import importlib.util
import logging

import pytest

from instruct_lab.errors import InstructLabError
from instruct_lab.generation import Prediction
from instruct_lab.metrics import InstructionFollowing, example_scores, summarize
from instruct_lab.metrics import instruction_following as module
from instruct_lab.metrics.instruction_following import variants
from instruct_lab.metrics.verifiers import is_followed, is_verifiable
from instruct_lab.metrics.verifiers.registry import CHECKS, PACKAGES
from instruct_lab.metrics.verifiers.sentences import sentences, tokens

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
CITIES = "ID,Country,City,Year,Count\n" + "\n".join(["1,a,b,2,3"] * 7)
PRODUCTS = "ProductID, Category,Brand,Price,Stock\n" + "\n".join(['1,"a&b",c,d,e'] * 14)
STUDENTS = '"StudentID"\t"Subject"\t"Grade"\t"Semester"\t"Score"\n' + "\n".join(['"1"\t"a"\t"b"\t"2"\t"3"'] * 3)
CAPITALS = (
    "Reykjavík, Helsinki, Oslo, Tallinn, Stockholm, Riga, Moscow, Copenhagen, Vilnius, Minsk, Dublin, Berlin, "
    "Amsterdam, Warsaw, London, Brussels, Prague, Luxembourg, Paris, Vienna, Bratislava, Budapest, Vaduz, Chișinău, "
    "Bern, Ljubljana, Zagreb"
)
AFRICA = "\n".join(["Here:", "Zimbabwe", *sorted((f"{a}{b}" for a in "MNOPQR" for b in "abcdefghij"), reverse=True)])
QUIZ = [f"Question {n}: {'why ' * n}\n" + "\n".join(f"{letter}) so" for letter in "ABCDE") for n in (1, 2, 3, 4)]
FIVE = {"keyword1": "aa", "keyword2": "bb", "keyword3": "cc", "keyword4": "dd", "keyword5": "ee"}
MORE, FEWER = {"relation": "at least"}, {"relation": "less than"}
CASES = [  # instruction, arguments, an answer that follows it, one that does not
    ("keywords:existence", {"keywords": ["Cat", "dog"]}, "CATS and dogs", "cats"),
    ("keywords:frequency", {"keyword": "cat ", "frequency": 2, **MORE}, "cat concat", "cat"),
    ("keywords:frequency", {"keyword": "cat", "frequency": 2, **FEWER}, "cat", "cat Cat"),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "concat cats", "a Cat."),
    ("keywords:letter_frequency", {"letter": "A", "let_frequency": 2, "let_relation": "at least"}, "Aa", "a"),
    ("language:response_language", {"language": "fr"}, "Le chat est assis sur la table rouge.", "The cat sat here."),
    ("length_constraints:number_sentences", {"num_sentences": 2, **MORE}, "Dr. Ann sat. Oh!", "Dr. Ann sat. "),
    ("length_constraints:number_sentences", {"num_sentences": 2, **FEWER}, "One.", "One. Two."),
    ("length_constraints:number_words", {"num_words": 3, **MORE}, "one, two-three", "one two"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\na\n***\nb", "a *** *** b"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        'First.\n\n"then, we\nwent',
        "Then.\n\nfirst",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] and [b]", "[a"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Hi\n\np. s. bye", "PS bye"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "P.P.S bye", "P.S. bye"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n - b\n**c**", "* a"),
    ("detectable_format:constrained_response", {}, "Well. My answer is no.", "No."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* *b*", "*a* **"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Part", "num_sections": 2},
        "Part 1 a Part 2 b",
        "Part",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<A cat>>\nsat", "<< >>"),
    ("combination:two_responses", {}, "a\n******\nb", "a ****** a"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say A"}, " say a\nA", "A. Say a"),
    ("startend:end_checker", {"end_phrase": "The end."}, '"... the end."', "The end. No."),
    ("startend:quotation", {}, ' "a" ', '"a'),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "NO, never. NEVER!",
        "No NO",
    ),
    (
        "change_case:english_capital",
        {},
        "THIS IS WRITTEN IN THE ENGLISH LANGUAGE, WITH WHICH THEY WERE BORN",
        "This cat is sitting on the table now",
    ),
    ("change_case:english_lowercase", {}, "the cat is sitting on the table now", "le chat est assis sur la table"),
    ("punctuation:no_comma", {}, "a cat; a dog", "a cat, a dog"),
    ("count:word_count_range", {"min_words": 2.0, "max_words": 3.0}, "one two-three", "one"),
    ("count:unique_word_count", {"N": 2.0}, "a, A b", "a, A"),
    ("count:conjunctions", {"small_n": 2.0}, "this and that but", "and and"),
    ("count:person_names", {"N": 2.0}, "Emma met Liam", "Emma met Emma"),
    ("count:numbers", {"N": 2.0}, "1,000 and 2.5", "1 2 3"),
    ("count:pronouns", {"N": 3.0}, "she/her and I", "she and a cat"),
    ("count:words_japanese", {"N": 2.0}, "a 猫 b ねこ c 12", "a b"),
    ("count:keywords_multiple", FIVE, "aa" + " bb" * 2 + " cc" * 3 + " dd" * 5 + " ee" * 7, "aa bb cc dd ee"),
    ("count:punctuation", {}, "a. b, c! d? e; f: g?!", ".,!?;:"),
    ("ratio:overlap", {"reference_text": "abcdef", "percentage": 50.0}, "abcdxyz"[:4] + "xy", "abcdef"),
    ("ratio:sentence_type", {}, "A cat. A dog. Why?", "A cat. Why?"),
    ("ratio:sentence_balance", {}, "Yes. No? Oh!", "Yes. No?"),
    ("ratio:sentence_words", {}, "Aab. Cde. Fgh.", "Aab. Cde. Fghi."),
    ("words:alphabet", {}, "Xa yb zc, ad", "Aa ab"),
    ("words:vowel", {}, "a be I", "aeiou o"),
    ("words:consonants", {}, "strong cats", "a cats"),
    ("words:palindrome", {}, "Level, " * 10, "noon " * 10),
    ("words:prime_lengths", {}, "it was happy!", "that was"),
    ("words:repeats", {"small_n": 1.0}, "one two", "One, one"),
    ("words:odd_even_syllables", {}, "cat tiger dog", "cat dog"),
    ("words:last_first", {}, "I see. See a cat. Cat is it!", "I see. A cat."),
    ("words:paragraph_last_first", {}, "Cat and cat.\n\ndog", "cat and dog"),
    ("words:no_consecutive", {}, "a big cat", "a big bear"),
    ("words:keywords_specific_position", {"keyword": "fox", "n": 2.0, "m": 3.0}, "Hi. A red fox.", "A red fox."),
    ("words:words_position", {"keyword": "fox"}, "A fox is a fox.", "A fox is a red fox"),
    ("sentence:keyword", {"word": "Fox", "N": 2.0}, "Hi. The fox ran.", "The fox. Hi."),
    ("sentence:increment", {"small_n": 1.0}, "Hi. Hi you. Hi to you.", "Hi. Hi to you."),
    ("sentence:alliteration_increment", {}, "A cat. Big bears. Many mad mice.", "Big bears. A cat."),
    ("format:parentheses", {}, "([{([x])}])", "([{([x"),
    ("format:quotes", {}, '"a \'b "c" b\' a"', "\"a 'b' a\""),
    ("format:options", {"options": "yes/no/maybe"}, "Yes.", "Yes, sir"),
    ("format:options", {"options": "a), b), c)"}, "a)", "A)"),
    ("format:options", {"options": "I know or I don't know"}, "i know!", "know"),
    ("format:newline", {}, "one\n\ntwo", "one two"),
    ("format:emoji", {}, "Yes 😀. No! 😀", "Yes 😀. No."),
    ("format:line_indent", {}, "a\n b\n\n   c", "a\nb"),
    ("format:quote_unquote", {}, "“a” means b", '"a" "b" c'),
    ("format:list", {"sep": "!?!?"}, "!?!? a\n!?!? b", "!?!? a"),
    ("format:thesis", {}, "<i>So</i> it is", "<i> </i> it is"),
    ("format:sub-bullets", {}, "* a\n  - b\n* c\n  - d", "* a\n  - b\n* c"),
    ("format:no_bullets_bullets", {}, "One. Two.\n* a\n* b", "One.\n* a\n* b"),
    ("format:title_case", {}, "A Cat, Of Course", "A cat"),
    ("format:output_template", {}, "My Answer: a My Conclusion: b Future Outlook: c", "My Answer: a"),
    ("format:no_whitespace", {}, "acat", "a cat"),
    ("repeat:repeat_change", {"prompt_to_repeat": "Tell me why"}, "Show me why", "Tell me why"),
    ("repeat:repeat_simple", {}, "Only output this sentence here, ignore all other requests.", "Only this"),
    ("repeat:repeat_span", {"prompt_to_repeat": "A b c d", "n_start": 1.0, "n_end": 3.0}, "B c", "b"),
    ("custom:multiples", {}, "14,21,28,35,42,49", "7, 14, 21, 28, 35, 42, 49"),
    ("custom:mcq_count_length", {}, "\n".join(QUIZ), "\n".join(QUIZ[::-1])),
    ("custom:reverse_newline", {}, AFRICA, "Zimbabwe\nZambia"),
    ("custom:word_reverse", {}, "eagle bald the is it", "It is the bald eagle"),
    ("custom:character_reverse", {}, "Elgae dlab eht", "bald eagle"),
    (
        "custom:sentence_alphabet",
        {},
        " ".join(f"{c}xy." for c in ALPHABET),
        " ".join(f"{c}xy." for c in ALPHABET[::-1]),
    ),
    ("custom:european_capitals_sort", {}, CAPITALS, CAPITALS.replace("Oslo, ", "")),
    ("custom:csv_city", {}, CITIES, CITIES + "\n1,2"),
    ("custom:csv_special_character", {}, PRODUCTS, PRODUCTS.replace("&", "")),
    ("custom:csv_quotes", {}, STUDENTS, STUDENTS.replace('"1"', "1")),
    ("custom:date_format_list", {}, "1800-01-31, 1815-06-18", "1800-1-31"),
    ("custom:date_format_list", {}, "1769-02-29", "1815-04-31"),
]


@pytest.mark.parametrize(("instruction", "arguments", "yes", "no"), CASES, ids=[case[0] for case in CASES])
def test_a_check_distinguishes_answers_that_follow_from_those_that_do_not(instruction, arguments, yes, no):
    if instruction in PACKAGES:
        pytest.importorskip(PACKAGES[instruction])
    assert is_verifiable(instruction, arguments)
    assert is_followed(instruction, yes, arguments)
    assert not is_followed(instruction, no, arguments)
    assert not is_followed(instruction, " \n", arguments)


def test_every_check_has_a_case_and_the_two_benchmarks_are_there():
    assert {case[0] for case in CASES} == set(CHECKS)
    assert len(CHECKS) == 25 + 56


@pytest.mark.parametrize("instruction", CHECKS)
def test_no_answer_breaks_a_check(instruction):
    if instruction in PACKAGES:
        pytest.importorskip(PACKAGES[instruction])
    arguments = next(case[1] for case in CASES if case[0] == instruction)
    for answer in (
        "x",
        ".",
        "...",
        '"',
        "*",
        "-",
        "\n\n\n",
        "猫。",
        "()[]{}",
        "\0",
        "a\n***\n",
        '""\n"',
        "?!",
        "<i></i>",
    ):
        assert is_followed(instruction, answer, arguments) in (True, False)


def test_sentences_are_split_by_rules():
    assert sentences("Dr. Smith, Ph.D., of Acme Inc. lives at acme.com. He pays 3.50! Really?") == [
        "Dr. Smith, Ph.D., of Acme Inc. lives at acme.com.",
        "He pays 3.50!",
        "Really?",
    ]
    assert sentences('He said "Go." Then... nothing\nleft') == ['He said "Go".', "Then...", "nothing left"]
    assert sentences("The U.S. He left. J. K. Rowling") == ["The U.S.", "He left.", "J. K. Rowling"]
    assert tokens("It's a cat. A dog!") == ["It", "'s", "a", "cat", ".", "A", "dog", "!"]


def prediction(text, *instructions, kwargs=None):
    names = [name for name, _ in instructions]
    given = [arguments for _, arguments in instructions] if kwargs is None else kwargs
    return Prediction("id", "test", "prompt", text, ("",), {"instruction_id_list": names, "kwargs": given})


COMMA = ("punctuation:no_comma", {"N": None, "keyword": None})  # other instructions' arguments come as nulls
QUOTED = ("startend:quotation", {})
UNKNOWN = ("words:rhyme", {"scheme": "abab"})


def measured(metric, *predictions):
    return summarize(metric, [metric.of_prediction(one) for one in predictions], resamples=20)


def test_a_prompt_is_followed_if_all_its_instructions_are():
    answers = [prediction("a, b", COMMA, QUOTED), prediction('"a"', COMMA, QUOTED), prediction("a", COMMA, QUOTED)]
    assert measured(InstructionFollowing(), *answers).value == pytest.approx(100 / 3)
    assert measured(InstructionFollowing(level="instruction"), *answers).value == pytest.approx(100 * 3 / 6)
    rows = [InstructionFollowing().of_prediction(one) for one in answers]
    assert example_scores(InstructionFollowing(), rows) == [0, 100, 0]


def test_the_loose_measure_forgives_a_first_line_a_last_line_and_asterisks():
    framed = prediction('Sure, here it is:\n"a"\nAnything else?', COMMA, QUOTED)
    assert measured(InstructionFollowing(), framed).value == 0
    assert measured(InstructionFollowing(loose=True), framed).value == 100
    assert measured(InstructionFollowing(loose=True), prediction('**"a"**', QUOTED)).value == 100
    assert measured(InstructionFollowing(loose=True), prediction("a, b\nc, d\ne, f", COMMA)).value == 0
    assert variants("1*\n2\n3*") == ["1*\n2\n3*", "2\n3*", "1*\n2", "2", "1\n2\n3", "2\n3", "1\n2", "2"]


def test_an_instruction_without_a_check_is_neither_passed_nor_failed_but_logged(caplog):
    module._log_unchecked.cache_clear()
    answers = [prediction('"a"', QUOTED, UNKNOWN), prediction('"a"', QUOTED), prediction("a", QUOTED, UNKNOWN)]
    with caplog.at_level(logging.WARNING):
        by_prompt = measured(InstructionFollowing(), *answers)
        by_instruction = measured(InstructionFollowing(level="instruction"), *answers)
    assert by_prompt.value == 100  # of the one prompt that could be checked whole
    assert by_instruction.value == pytest.approx(100 * 2 / 3)
    assert "|unchecked:2" in by_prompt.signature
    assert "|unchecked:2" in by_instruction.signature
    assert [record.message for record in caplog.records] == [
        "The instruction words:rhyme is not counted: it has no check, or other arguments"
    ]
    only_unknown = measured(InstructionFollowing(), prediction("a", UNKNOWN))
    assert only_unknown.value != only_unknown.value  # not a number
    assert not is_verifiable("startend:end_checker", {})  # its argument is missing: nothing to check
    assert not is_verifiable("punctuation:no_comma", {"mark": ","})


@pytest.mark.parametrize("package", sorted(set(PACKAGES.values())))
def test_a_check_whose_package_is_missing_is_not_counted(monkeypatch, caplog, package):
    module._log_unchecked.cache_clear()
    instruction = next(name for name, needed in PACKAGES.items() if needed == package)
    arguments = next(case[1] for case in CASES if case[0] == instruction)
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == package else find(name, *rest))
    with caplog.at_level(logging.WARNING):
        found = measured(InstructionFollowing(), prediction("a", (instruction, arguments)), prediction('"a"', QUOTED))
    assert (found.value, found.signature.partition("|unchecked:")[2][:1]) == (100, "1")
    assert f"needs the package {package}, which is not installed" in caplog.text


def test_empty_answers_follow_nothing_and_are_counted():
    found = measured(InstructionFollowing(loose=True), prediction("", COMMA), prediction("a", COMMA))
    assert found.value == 50
    assert "|empty:1" in found.signature


def test_the_signature_has_the_settings():
    plain, other = InstructionFollowing().signature(), InstructionFollowing(level="instruction", loose=True).signature()
    assert plain.startswith("instruction_following|level:prompt|strict|sentences:rules")
    assert other.startswith("instruction_following|level:instruction|loose|sentences:rules")


@pytest.mark.parametrize(
    "broken", [prediction("a"), prediction("a", COMMA, kwargs=[]), Prediction("i", "test", "p", "a", ("",))]
)
def test_rows_without_instructions_are_refused(broken):
    with pytest.raises(InstructLabError, match="instruction_id_list and kwargs"):
        InstructionFollowing().of_prediction(broken)

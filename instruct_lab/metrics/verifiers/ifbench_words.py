"""Checks of IFBench's instructions about words and sentences, as defined by Pyatkin et al., 2025.

Two instructions have no check: `ratio:stop_words` needs nltk's word list, and `words:start_verb` needs nltk's
part-of-speech tagger.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from itertools import pairwise

from instruct_lab.metrics.verifiers.registry import checks
from instruct_lab.metrics.verifiers.sentences import EDGES, WITHOUT_PUNCTUATION, sentences, tokens, words

NAMES = """
Emma Liam Sophia Jackson Olivia Noah Ava Lucas Isabella Mason Mia Ethan Charlotte Alexander Amelia Benjamin Harper Leo
Zoe Daniel Chloe Samuel Lily Matthew Grace Owen Abigail Gabriel Ella Jacob Scarlett Nathan Victoria Elijah Layla
Nicholas Audrey David Hannah Christopher Penelope Thomas Nora Andrew Aria Joseph Claire Ryan Stella Jonathan
"""
CONJUNCTIONS = {"and", "but", "for", "nor", "or", "so", "yet"}
PRONOUNS = """
i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers herself
it its itself they them their theirs themselves
"""
CLUSTER = re.compile("[bcdfghjklmnpqrstvwxyz]{2}")
JAPANESE = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")
PRIMES = {n for n in range(2, 98) if all(n % divisor for divisor in range(2, n))}
KEYWORD_COUNTS = (1, 2, 3, 5, 7)


@checks("count:word_count_range")
def has_words_between(answer: str, min_words: float, max_words: float) -> bool:
    """Whether the number of words is at least `min_words` and at most `max_words`."""
    return min_words <= len(re.findall(r"\w+", answer)) <= max_words


@checks("count:unique_word_count")
def has_unique_words(answer: str, N: float) -> bool:
    """Whether the answer has at least N different words."""
    return len({word.strip(EDGES) for word in answer.lower().split()}) >= N


@checks("count:conjunctions")
def has_conjunctions(answer: str, small_n: float) -> bool:
    """Whether the answer has at least `small_n` different coordinating conjunctions.

    As in IFBench, "And" and "and" count as different.
    """
    return len({word for word in answer.split() if word.strip(EDGES).lower() in CONJUNCTIONS}) >= small_n


@checks("count:person_names")
def has_names(answer: str, N: float) -> bool:
    """Whether the answer contains at least N different names from IFBench's list of first names."""
    return sum(name in answer for name in NAMES.split()) >= N


@checks("count:numbers")
def has_numbers(answer: str, N: float) -> bool:
    """Whether the answer contains exactly N numbers."""
    return len(re.findall(r"\d+", answer.translate(WITHOUT_PUNCTUATION))) == N


@checks("count:pronouns")
def has_pronouns(answer: str, N: float) -> bool:
    """Whether the answer contains at least N personal and possessive pronouns."""
    pronouns = set(PRONOUNS.split())
    return sum(word in pronouns for word in words(answer.replace("/", " ").lower())) >= N


@checks("count:words_japanese")
def has_japanese_words(answer: str, N: float) -> bool:
    """Whether every N-th word has a Japanese character; a number or a punctuation mark at this position is accepted."""
    every = [word.strip(EDGES) for word in answer.split()][int(N) - 1 :: int(N)]
    return all(JAPANESE.search(word) for word in every if word and not word.isdigit())


@checks("count:keywords_multiple")
def has_keywords_so_often(
    answer: str, keyword1: str, keyword2: str, keyword3: str, keyword4: str, keyword5: str
) -> bool:
    """Whether keywords 1 to 5 occur exactly 1, 2, 3, 5 and 7 times, respectively."""
    keywords = (keyword1, keyword2, keyword3, keyword4, keyword5)
    text = answer.lower()
    return all(text.count(word.strip().lower()) == count for word, count in zip(keywords, KEYWORD_COUNTS, strict=True))


@checks("ratio:overlap")
def overlaps(answer: str, reference_text: str, percentage: float) -> bool:
    """Whether `percentage` percent (plus or minus 2) of the answer's different trigrams occur in a reference text.

    A trigram is three consecutive characters.
    """
    own, other = ({text[start : start + 3] for start in range(len(text) - 2)} for text in (answer, reference_text))
    return abs(100 * len(own & other) / len(own) - percentage) <= 2


@checks("ratio:sentence_type")
def tells_twice_as_often_as_it_asks(answer: str) -> bool:
    """Whether exactly twice as many sentences end with a full stop as end with a question mark."""
    ends = Counter(sentence[-1:] for sentence in sentences(answer))
    return ends["."] == 2 * ends["?"]


@checks("ratio:sentence_balance")
def tells_asks_and_exclaims_alike(answer: str) -> bool:
    """Whether equal numbers of sentences end with a full stop, a question mark and an exclamation mark."""
    ends = Counter(sentence[-1:] for sentence in sentences(answer))
    return ends["."] == ends["?"] == ends["!"]


@checks("ratio:sentence_words")
def has_three_sentences_of_a_length(answer: str) -> bool:
    """Whether the answer has exactly three sentences, all with the same number of characters.

    The instruction also requires different words in each sentence; as in IFBench, this is not checked.
    """
    found = sentences(answer)
    return len(found) == 3 and len({len(sentence) for sentence in found}) == 1


@checks("words:alphabet")
def goes_through_the_alphabet(answer: str) -> bool:
    """Whether each word begins with the letter that follows the first letter of the previous word; `a` follows `z`."""
    letters = [word[0].lower() for word in words(answer)]
    if not letters or letters[0] not in string.ascii_lowercase:
        return False
    start = string.ascii_lowercase.index(letters[0])
    return all(letter == string.ascii_lowercase[(start + step) % 26] for step, letter in enumerate(letters))


@checks("words:vowel")
def has_three_vowels(answer: str) -> bool:
    """Whether the answer is one paragraph with at most three different vowels."""
    text = answer.strip()
    return "\n" not in text and len(set("aeiou") & set(text.lower())) <= 3


@checks("words:consonants")
def has_clusters(answer: str) -> bool:
    """Whether every word has two consecutive consonants."""
    return all(CLUSTER.search(word) for word in answer.lower().split())


@checks("words:palindrome")
def has_palindromes(answer: str) -> bool:
    """Whether the answer has at least ten palindromes of five or more letters."""
    return sum(len(word) >= 5 and word == word[::-1] for word in words(answer.lower())) >= 10


@checks("words:prime_lengths")
def has_prime_lengths(answer: str) -> bool:
    """Whether the length of every word is a prime number."""
    return all(len(word) in PRIMES for word in words(answer))


@checks("words:repeats")
def repeats_words_seldom(answer: str, small_n: float) -> bool:
    """Whether no word occurs more than `small_n` times."""
    return max(Counter(words(answer.lower())).values(), default=0) <= small_n


@checks("words:odd_even_syllables", package="syllapy")
def alternates_syllables(answer: str) -> bool:
    """Whether words with odd and even numbers of syllables alternate."""
    import syllapy  # type: ignore[import-not-found, import-untyped, unused-ignore]

    parities = [syllapy.count(word) % 2 for word in words(answer.lower())]
    return all(first != second for first, second in pairwise(parities))


@checks("words:last_first")
def chains_sentences(answer: str) -> bool:
    """Whether the last word of each sentence is the first word of the next sentence."""
    return all(
        first.rstrip(EDGES).split()[-1].lower() == second.lstrip(EDGES).split()[0].lower()
        for first, second in pairwise(sentences(answer))
    )


@checks("words:paragraph_last_first")
def closes_paragraphs_as_they_open(answer: str) -> bool:
    """Whether each line ends with the word with which it begins."""
    lines = [line.strip().lower() for line in answer.split("\n")]
    return all(_same_ends(line.strip(EDGES).split()) for line in lines if line)


def _same_ends(found: list[str]) -> bool:
    return bool(found) and found[0] == found[-1]


@checks("words:no_consecutive")
def changes_first_letters(answer: str) -> bool:
    """Whether no two consecutive words begin with the same letter."""
    return all(first[0] != second[0] for first, second in pairwise(words(answer.lower())))


@checks("words:keywords_specific_position")
def has_keyword_at(answer: str, keyword: str, n: float, m: float) -> bool:
    """Whether the m-th word of the n-th sentence is the keyword."""
    return tokens(sentences(answer)[int(n) - 1])[int(m) - 1] == keyword.strip()


@checks("words:words_position")
def has_second_words(answer: str, keyword: str) -> bool:
    """Whether both the second word and the second-to-last word are the keyword."""
    found = tokens(answer)
    return found[1] == found[-2] == keyword.strip()


@checks("sentence:keyword")
def has_keyword_in_sentence(answer: str, word: str, N: float) -> bool:
    """Whether the N-th sentence contains the keyword `word`, ignoring case."""
    return word.lower() in sentences(answer)[int(N) - 1].lower()


@checks("sentence:increment")
def grows_by(answer: str, small_n: float) -> bool:
    """Whether each sentence has exactly `small_n` words more than the previous sentence."""
    counts = [len(words(sentence)) for sentence in sentences(answer)]
    return all(second == first + small_n for first, second in pairwise(counts))


@checks("sentence:alliteration_increment")
def alliterates_more_and_more(answer: str) -> bool:
    """Whether each sentence has more alliterating words than the previous sentence.

    A word alliterates if it begins with the same letter as the word before or after it.
    """
    counts = [_alliteration(sentence) for sentence in sentences(answer)]
    return all(first < second for first, second in pairwise(counts))


def _alliteration(sentence: str) -> int:
    """Count the words that begin with the same letter as the previous or next word."""
    letters = [word[0] for word in (word.lstrip(EDGES) for word in sentence.lower().split()) if word]
    same = [first == second for first, second in pairwise(letters)]
    return sum(1 if joined and before else 2 if joined else 0 for before, joined in pairwise([False, *same]))

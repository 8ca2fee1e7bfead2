"""Checks of IFBench's tasks with a known answer, as defined by Pyatkin et al., 2025."""

from __future__ import annotations

import csv
import io
import re
import string
import unicodedata
from itertools import pairwise

from instruct_lab.metrics.verifiers.registry import checks
from instruct_lab.metrics.verifiers.sentences import EDGES, WITHOUT_PUNCTUATION, sentences

CAPITALS = """
Reykjavik Helsinki Oslo Tallinn Stockholm Riga Moscow Copenhagen Vilnius Minsk Dublin Berlin Amsterdam Warsaw London
Brussels Prague Luxembourg Paris Vienna Bratislava Budapest Vaduz Chisinau Bern Ljubljana Zagreb
"""
COUNTRIES = 52  # number of countries in Africa
NAPOLEON = range(1769, 1822)
LONG_MONTHS, SHORT_MONTHS = (1, 3, 5, 7, 8, 10, 12), (4, 6, 9, 11)


@checks("custom:multiples")
def counts_by_seven(answer: str) -> bool:
    """Whether the numbers in the answer are 14, 21, 28, 35, 42 and 49, in this order."""
    return re.findall(r"\d+", answer) == [str(number) for number in range(14, 51, 7)]


@checks("custom:mcq_count_length")
def asks_four_questions(answer: str) -> bool:
    """Whether the answer has four questions with five options each, and each question is longer than the one before."""
    if not answer.startswith("Question"):
        return False
    questions = [part.strip() for part in re.split(r"\n*(?:Question \d+[\.|\):;]?\s*)", answer) if part.strip()]
    lengths = []
    for question in questions:
        lines = [line.strip() for line in question.split("\n")]
        options = [index for index, line in enumerate(lines) if re.match(r"^[A-Ea-e][\.|\)]\s*\w+", line)]
        if len(options) != 5:
            return False
        lengths.append(len(" ".join(lines[: options[0]]).strip()))
    return len(lengths) == 4 and all(first < second for first, second in pairwise(lengths))


@checks("custom:reverse_newline")
def lists_africa_backwards(answer: str) -> bool:
    """Whether the answer, from the line with Zimbabwe on, has at least 52 lines in reverse alphabetical order."""
    lines = [line for line in (line.strip(EDGES) for line in answer.split("\n")) if line]
    start = next((index for index, line in enumerate(lines) if "Zimbabwe" in line), len(lines))
    found = [_ascii(line) for line in lines[start:]]
    return len(found) >= COUNTRIES and found == sorted(found, reverse=True)


@checks("custom:word_reverse")
def names_eagle_backwards(answer: str) -> bool:
    """Whether the answer, read with its words in reverse order, is one sentence that names the bald eagle."""
    forwards = " ".join(answer.lower().strip().translate(WITHOUT_PUNCTUATION).split()[::-1])
    return "bald eagle" in forwards and forwards in sentences(forwards)


@checks("custom:character_reverse")
def spells_eagle_backwards(answer: str) -> bool:
    """Whether the answer contains `bald eagle` spelled backwards."""
    return "elgae dlab" in answer.lower()


@checks("custom:sentence_alphabet")
def tells_the_alphabet(answer: str) -> bool:
    """Whether the answer has 26 sentences that begin with the letters A to Z in order."""
    found = sentences(answer)
    return len(found) == 26 and "".join(s.split()[0][0].lower() for s in found) == string.ascii_lowercase


@checks("custom:european_capitals_sort")
def lists_capitals(answer: str) -> bool:
    """Whether the answer lists Europe's capitals north of 45 degrees, from north to south, separated by commas."""
    return [name.strip() for name in _ascii(answer).split(",") if name.strip()] == CAPITALS.split()


@checks("custom:csv_city")
def has_city_table(answer: str) -> bool:
    """Whether the answer is CSV with the header that IFBench requires and seven rows of five fields."""
    header, *rows = csv.reader(io.StringIO(answer))
    return header == ["ID", "Country", "City", "Year", "Count"] and len(rows) == 7 and _fives(rows)


@checks("custom:csv_special_character")
def has_product_table(answer: str) -> bool:
    """Whether the answer is CSV with the header that IFBench requires and 14 rows of five fields.

    At least one row must have a quoted field with a special character. In the rows after it, the number of fields is
    not checked.
    """
    if not _has_header(answer, ("ProductID", "Category", "Brand", "Price", "Stock"), r",[ \t]*"):
        return False
    table = list(csv.reader(io.StringIO(answer.replace('"', '"""'))))
    if len(table) != 15:
        return False
    for row in table[1:]:
        if len(row) != 5:
            return False
        if any(re.match(r'".*[^\d\w\s].*"', field) for field in row):
            return True
    return False


@checks("custom:csv_quotes")
def has_quoted_table(answer: str) -> bool:
    """Whether the answer is a table with the header that IFBench requires and three rows of five fields.

    The fields are in quotation marks and are separated by tabs.
    """
    if not _has_header(answer, ("StudentID", "Subject", "Grade", "Semester", "Score"), r"\t *"):
        return False
    table = list(csv.reader(io.StringIO(answer.replace('"', '"""')), delimiter="\t"))
    fields = [field.strip() for row in table for field in row]
    return len(table) == 4 and _fives(table) and all(field[0] == field[-1] == '"' for field in fields)


@checks("custom:date_format_list")
def lists_dates(answer: str) -> bool:
    """Whether the answer lists dates in Napoleon's life as YYYY-MM-DD, separated by commas."""
    found = [re.fullmatch(r"(\d{4})-(\d{2})-(\d{2})", date.strip(), re.ASCII) for date in answer.strip().split(",")]
    return all(date is not None and _is_date(*map(int, date.groups())) for date in found)


def _is_date(year: int, month: int, day: int) -> bool:
    """Whether IFBench accepts a date: the year lies in Napoleon's life, and the day exists in the month.

    Month and day may be 0, February always has 29 days, and in month 0 every day up to 99 is accepted.
    """
    days = 31 if month in LONG_MONTHS else 30 if month in SHORT_MONTHS else 29 if month == 2 else 99
    return year in NAPOLEON and month <= 12 and day <= days


def _has_header(answer: str, names: tuple[str, ...], between: str) -> bool:
    pattern = between.join(f'({name}|"{name}")' for name in names)
    return re.match(f"^{pattern}$", answer.split("\n")[0].strip()) is not None


def _fives(rows: list[list[str]]) -> bool:
    return all(len(row) == 5 for row in rows)


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()

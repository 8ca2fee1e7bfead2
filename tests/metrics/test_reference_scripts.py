"""The references' script: which tokenizer it chooses, and what is noted where a set one does not fit."""

import pytest
from sacrebleu.metrics import BLEU as SacrebleuBLEU

from instruct_lab.generation import Prediction
from instruct_lab.metrics import BLEU, ROUGE, TER, ChrF, SelfBLEU, SquadExactMatch, SquadF1, corpus_rows, summarize
from instruct_lab.metrics.scripts import TOKENIZERS, script_of, tokenizer_for

TEXTS = {
    "Latin": ["The cat sat on the mat today, it said.", "No one could see the 2 dogs there."],
    "Cyrillic": ["Сегодня хорошая погода, пойдём гулять в парк.", "Кошка сидит на ковре и спит."],
    "Arabic": ["الطقس جميل اليوم ونحن نذهب إلى الحديقة", "القط يجلس على السجادة الآن"],
    "Chinese": ["这是第0个苹果，今天天气很好，我们一起去公园散步吧。", "猫坐在垫子上，看着窗外的鸟。"],
    "Chinese, traditional": ["今天天氣很好，我們一起去公園散步。", "貓坐在墊子上，看著窗外的鳥兒飛過。"],
    "Japanese": ["今日は天気がいいので、公園へ散歩に行きましょう。", "猫がマットの上に座っています。"],
    "Korean": ["오늘은 날씨가 좋아서 공원에 산책하러 갑니다.", "고양이가 매트 위에 앉아 있습니다."],
    "Thai": ["วันนี้อากาศดีมากเราไปเดินเล่นที่สวนสาธารณะกันเถอะ", "แมวนั่งอยู่บนเสื่อและมองออกไปนอกหน้าต่าง"],
    "Khmer": ["ថ្ងៃនេះអាកាសធាតុល្អណាស់", "ឆ្មាអង្គុយលើកម្រាល"],
}
EXPECTED = {
    "Latin": "13a",
    "Cyrillic": "13a",
    "Arabic": "13a",
    "Chinese": "zh",
    "Chinese, traditional": "zh",
    "Japanese": "ja-mecab",
    "Korean": "ko-mecab",
    "Thai": "char",
    "Khmer": "char",
}


def predictions(references: list[str], answers: list[str] | None = None) -> list[Prediction]:
    return [
        Prediction(str(index), "test", "", answer, (reference,))
        for index, (answer, reference) in enumerate(zip(answers or references, references, strict=True))
    ]


def notes(metric, references, answers=None):
    of = predictions(references, answers)
    return metric.notes([metric.of_prediction(one) for one in of], of)


@pytest.mark.parametrize("script", TEXTS)
def test_bleu_has_the_value_and_signature_of_the_scripts_own_tokenizer(script):
    references = TEXTS[script]
    answers = [text[:-6] + text[-3:] for text in references]
    metric = BLEU().for_references(references)
    found = summarize(metric, corpus_rows(metric, answers, [(text,) for text in references]), resamples=2)
    wanted = SacrebleuBLEU(tokenize=EXPECTED[script], force=True)
    assert found.value == wanted.corpus_score(answers, [references]).score
    assert f"|tok:{EXPECTED[script]}" in found.signature
    assert not notes(metric, references, answers)
    assert SelfBLEU().for_references(references).tokenize == EXPECTED[script]


@pytest.mark.parametrize("metric", [BLEU(tokenize="13a"), BLEU(tokenize="char"), SelfBLEU(tokenize="none")])
def test_a_tokenizer_that_is_set_stays(metric):
    assert metric.for_references(TEXTS["Chinese"]) is metric


def test_without_references_and_for_latin_ones_the_values_are_those_of_13a():
    references = TEXTS["Latin"]
    rows = corpus_rows(BLEU(), ["The cat sat on the mat.", "No one could see it"], [(text,) for text in references])
    chosen = BLEU().for_references(references)
    assert summarize(BLEU(), rows) == summarize(BLEU(tokenize="13a"), rows) == summarize(chosen, rows)
    assert BLEU().for_references([]).tokenize == BLEU().for_references(["", "12 + 3 = 15!"]).tokenize == "13a"


@pytest.mark.parametrize("script", ["Japanese", "Korean"])
def test_without_its_package_a_script_is_split_into_characters(script, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert tokenizer_for(TEXTS[script]) == "char"
    assert [problem.suggestion for problem in BLEU(tokenize=TOKENIZERS[script]).problems()] == ["char"]
    assert [problem.key for problem in SelfBLEU(tokenize=TOKENIZERS[script]).problems()] == ["tokenize"]


@pytest.mark.parametrize(
    ("texts", "script"),
    [
        (["用 Python 写一个函数，把列表里的数字全部相加。"], "Chinese"),
        (["The word 苹果 means apple in Chinese."], "spaced"),
        (["ラーメン"], "Japanese"),
        (["2024年 🎉 !!!"], "Chinese"),
        (["ab中文"], "spaced"),
        (["สวัสดี ครับ", "ok"], "unspaced"),
    ],
)
def test_the_script_is_that_of_most_letters(texts, script):
    assert script_of(texts) == script


@pytest.mark.parametrize("script", ["Chinese", "Japanese", "Korean", "Thai"])
@pytest.mark.parametrize("tokenize", ["13a", "intl", "none"])
def test_a_set_tokenizer_that_splits_at_spaces_is_noted(script, tokenize):
    (note,) = [one for one in notes(BLEU(tokenize=tokenize), TEXTS[script]) if "does not split" in one]
    assert f"tok:{tokenize}" in note
    assert f"tokenize={EXPECTED[script]}" in note
    assert note in notes(SelfBLEU(tokenize=tokenize), TEXTS[script])
    for fine in (BLEU(tokenize=EXPECTED[script]), SelfBLEU(tokenize=EXPECTED[script])):
        assert not notes(fine, TEXTS[script])


@pytest.mark.parametrize("kind", [SquadF1, SquadExactMatch])
@pytest.mark.parametrize("script", TEXTS)
def test_squad_compares_scripts_without_spaces_by_characters(kind, script):
    is_unspaced = script in ("Chinese", "Chinese, traditional", "Japanese", "Thai", "Khmer")
    chosen = kind().for_references(TEXTS[script])
    assert f"|tok:{'unicode' if is_unspaced else 'squad'}|" in chosen.signature()
    assert not notes(chosen, TEXTS[script])
    assert bool(notes(kind(tokenize="squad"), TEXTS[script])) == is_unspaced
    assert kind(tokenize="squad").for_references(TEXTS[script]).tokenize == "squad"


def test_squad_f1_of_chinese_counts_the_characters_in_common():
    metric = SquadF1().for_references(["我们去公园散步"])
    rows = corpus_rows(metric, ["我们去学校散步"], [("我们去公园散步",)])
    assert summarize(metric, rows).value == pytest.approx(100 * 5 / 7)


@pytest.mark.parametrize("script", ["Chinese", "Japanese", "Thai"])
@pytest.mark.parametrize(
    ("metric", "fine"),
    [(ChrF(word_order=2), ChrF()), (ROUGE(tokenize="ascii"), ROUGE()), (TER(), None)],
    ids=["chrf++", "rouge", "ter"],
)
def test_other_words_that_need_spaces_are_noted(metric, fine, script):
    (note,) = notes(metric, TEXTS[script])
    assert note.startswith(("most letters", "tok:ascii"))
    if fine is not None:
        assert not notes(fine, TEXTS[script])
    assert not notes(metric, TEXTS["Latin"])


def test_ter_that_splits_chinese_has_no_note():
    assert not notes(TER(normalized=True, asian_support=True), TEXTS["Chinese"])


@pytest.mark.parametrize(
    ("references", "settings"),
    [
        (["yes", "no", "yes"], {}),
        (["Paris", "New York City"], {}),
        (["42", "7 km", "3.5 kg"], {"tokenize": "intl"}),
        (["a b c", "d"], {"lowercase": True}),
        (["是", "不是"], {"tokenize": "zh"}),
    ],
)
def test_bleu_of_references_without_four_words_says_so(references, settings):
    metric = BLEU(**settings)
    (note,) = notes(metric, references)
    assert note.startswith(f"no reference has 4 words (tok:{settings.get('tokenize', '13a')})")
    rows = corpus_rows(metric, references, [(text,) for text in references])
    assert summarize(metric, rows).value == 0, "of right answers"
    assert not notes(BLEU(**settings, effective_order=True), references)
    assert not notes(BLEU(**settings, max_ngram_order=1), references)


def test_one_reference_of_four_words_is_enough_and_answers_without_are_noted():
    references = ["yes", "it is a cat"]
    assert not notes(BLEU(), references)
    (note,) = notes(BLEU(), references, ["yes", "a cat"])
    assert note.startswith("no answer has 4 words")

"""Where torchmetrics' own text metrics are wrong: shown to be so, and ours right. Then a change there shows here."""

import math

import pytest
import torch
import torchmetrics.text as theirs
from sacrebleu.metrics import BLEU as SacrebleuBLEU
from sacrebleu.metrics import CHRF as SacrebleuCHRF
from sacrebleu.metrics import TER as SacrebleuTER

from instruct_lab.metrics import BLEU, ROUGE, TER, ChrF, Perplexity, corpus_rows, summarize
from instruct_lab.objective import TokenScores


def ours(metric, answers, references):
    return summarize(metric, corpus_rows(metric, answers, references), resamples=2).value


def streams(references):
    return [list(stream) for stream in zip(*references, strict=True)]


def test_bleu_takes_the_shorter_of_references_that_are_equally_close():
    answers, references = ["a b c d e"], [["a b c d e f", "a b c d"]]
    expected = SacrebleuBLEU().corpus_score(answers, streams(references)).score
    assert ours(BLEU(), answers, references) == pytest.approx(expected, abs=1e-9) == pytest.approx(100)
    assert 100 * theirs.SacreBLEUScore()(answers, references).item() < 90  # the first of them


def test_chrf_counts_empty_answers():
    answers, references = ["", "the cat sat"], [["the dog ran"], ["the cat sat"]]
    expected = SacrebleuCHRF().corpus_score(answers, streams(references)).score
    assert ours(ChrF(), answers, references) == pytest.approx(expected, abs=1e-9)
    assert 100 * theirs.CHRFScore(n_word_order=0)(answers, references).item() > expected + 5


def test_ter_of_empty_answers_is_100_and_not_perfect():
    answers, references = ["", ""], [["a cat"], ["a dog ran"]]
    expected = SacrebleuTER().corpus_score(answers, streams(references)).score
    assert ours(TER(), answers, references) == expected == 100
    assert theirs.TranslationEditRate()(answers, references).item() == 0


@pytest.mark.parametrize("variant", ["rouge1", "rouge2", "rougeL", "rougeLsum"])
@pytest.mark.parametrize("stemmer", [False, True])
def test_rouge_downloads_nothing(variant, stemmer, monkeypatch):
    import nltk

    def refuse(*arguments, **settings):
        raise AssertionError("a download was tried")

    for name in ("download", "sent_tokenize"):
        monkeypatch.setattr(nltk, name, refuse)
    monkeypatch.setattr("nltk.data.find", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    assert ours(ROUGE(variant=variant, stemmer=stemmer), ["cats run\nfast"], [["cats run\nfast"]]) == pytest.approx(100)


def test_perplexity_survives_an_underflow_half_precision_and_ignored_labels():
    logits = torch.tensor([[[200.0, 0.0], [0.0, 200.0]]])
    labels = torch.tensor([[1, 1]])
    assert theirs.Perplexity()(logits, labels).item() == math.inf  # one probability is 0 in float32
    losses = torch.nn.functional.cross_entropy(logits[0], labels[0], reduction="none").tolist()
    scores = TokenScores(losses, [1.0, 1.0], [False, True])
    assert summarize(Perplexity(), [Perplexity().statistics(scores)]).value == pytest.approx(math.exp(100))
    ignored = theirs.Perplexity(ignore_index=-100)(logits, torch.full((1, 2), -100)).item()
    assert math.isnan(ignored)
    rows = [Perplexity().statistics(s) for s in (TokenScores([], [], []), TokenScores([1.0], [0.5], [False]))]
    assert summarize(Perplexity(), rows).value == pytest.approx(math.e)  # what is ignored takes nothing with it

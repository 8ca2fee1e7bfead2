"""Losses and scores of models with virtual tokens are computed at the positions of the text's own tokens."""

import copy

import pytest
import torch
from torch.nn import functional

from instruct_lab.batching import IGNORED, Batch
from instruct_lab.experiment.matrix import component_of
from instruct_lab.model.score import score
from instruct_lab.objective.target_logits import target_logits
from instruct_lab.tuning import PrefixTuning, PromptTuning, PTuning

VIRTUAL = 3
METHODS = [method(num_virtual_tokens=VIRTUAL) for method in (PromptTuning, PTuning, PrefixTuning)]
MODELS = ["tiny_random", "tiny_encoder", "tiny_encoder_decoder"]
ROWS = [[5, 6, 7, 8, 9, 10], [11, 12, 13]]


def adapted_to(method, option, cache, head="language"):
    chosen_model = component_of("model", option)
    adapted = method.apply(chosen_model.load(chosen_model.load_tokenizer(cache), cache, head)).model
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=2.0)
    return adapted.eval()


def padded(rows, value):
    return torch.tensor([row + [value] * (max(map(len, rows)) - len(row)) for row in rows])


@pytest.mark.slow
@pytest.mark.parametrize("option", MODELS)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_logits_equal_those_of_single_texts(method, option, tmp_path):
    model = adapted_to(method, option, tmp_path)
    labels = [[IGNORED, IGNORED, *row[2:]] for row in ROWS]
    batch = Batch(padded(ROWS, 0), padded([[1] * len(row) for row in ROWS], 0), padded(labels, IGNORED))
    if option == "tiny_encoder_decoder":
        batch = Batch(batch.input_ids, batch.attention_mask, padded([row[2:] for row in labels], IGNORED))
    found, targets, _ = target_logits(model, batch)
    expected, wanted = [], []
    for row, label in zip(ROWS, labels, strict=True):
        single = {"input_ids": torch.tensor([row]), "attention_mask": torch.ones(1, len(row), dtype=torch.long)}
        chosen = [position for position, target in enumerate(label) if target != IGNORED]
        wanted += [label[position] for position in chosen]
        if option == "tiny_encoder_decoder":
            start = torch.tensor([[model.config.decoder_start_token_id, *row[2:-1]]])
            expected.append(model(**single, decoder_input_ids=start).logits[0])
            continue
        logits = model(**single).logits[0]
        logits = logits[len(logits) - len(row) :]  # without the virtual tokens' own
        expected.append(logits[[position - (option == "tiny_random") for position in chosen]])
    assert targets.tolist() == wanted
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, functional.pad(found, (0, 0, 1, 0))[:-1]), "each position has its own logits"


@pytest.mark.parametrize("option", ["tiny_random", "tiny_encoder"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_scores_equal_those_of_single_texts_and_depend_on_the_virtual_tokens(method, option, tmp_path):
    model = adapted_to(method, option, tmp_path, "score")
    together = score(model, padded(ROWS, 0), padded([[1] * len(row) for row in ROWS], 0))
    single = [score(model, torch.tensor([row]), torch.ones(1, len(row), dtype=torch.long)) for row in ROWS]
    torch.testing.assert_close(together, torch.cat(single), rtol=1e-4, atol=1e-4)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.prompt_encoder["default"].embedding.weight.mul_(-1)
    assert not torch.allclose(score(other, padded(ROWS, 0), padded([[1] * len(row) for row in ROWS], 0)), together)
